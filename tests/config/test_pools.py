from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sidecar.config.documents import DestinationRule
from sidecar.config.loaded import Loaded
from sidecar.config.traffic_specs import (
    ConnectionPool,
    H2UpgradePolicy,
    HttpPool,
    OutlierDetection,
    TcpPool,
    TrafficPolicy,
)
from sidecar.upstream.endpoint import Http2Keepalive, Keepalive

Document = Callable[..., Loaded]
Vectors = Callable[[str], dict[str, Any]]


def rule(**blocks: Any) -> dict[str, Any]:
    return {"host": "a.example", "trafficPolicy": blocks}


def policy(loaded: Loaded) -> TrafficPolicy:
    (found,) = loaded.documents
    assert isinstance(found, DestinationRule)
    return found.spec.traffic_policy


@pytest.mark.parametrize(
    ("table", "block", "number"),
    [
        ("outlier_validation", "outlierDetection", 8),
        ("connection_pool_validation", "connectionPool", 18),
    ],
)
def test_istios_blocks_are_judged_as_istio_judges_them(
    table: str, block: str, number: int, vectors: Vectors, document: Document
) -> None:
    cases = vectors("destination_rule.json")[table]
    for case in cases:
        loaded = document("DestinationRule", rule(**{block: case[block]}))
        assert bool(loaded.errors) != case["valid"], (case, loaded.problems)
        if case.get("warning"):
            assert [problem.code for problem in loaded.problems] == ["SC0303"]
    assert len(cases) == number


def test_an_empty_outlier_detection_has_istios_defaults(document: Document) -> None:
    assert policy(document("DestinationRule", rule(outlierDetection={}))) == TrafficPolicy(
        outlier_detection=OutlierDetection(5, 0, False, 5, 10.0, 30.0, 10, 0)
    )


def test_every_field_of_an_outlier_detection_comes_out(document: Document) -> None:
    written = {
        "consecutive5xxErrors": 1,
        "consecutiveGatewayErrors": 2,
        "splitExternalLocalOriginErrors": True,
        "consecutiveLocalOriginFailures": 3,
        "interval": "1s",
        "baseEjectionTime": "2m",
        "maxEjectionPercent": 60,
        "minHealthPercent": 70,
        "outlierDetectionHttpErrorCodes": [401, 429],
    }
    found = policy(document("DestinationRule", rule(outlierDetection=written)))
    assert found.outlier_detection == OutlierDetection(
        1, 2, True, 3, 1.0, 120.0, 60, 70, (401, 429)
    )


def test_every_field_of_a_pool_that_acts_comes_out(document: Document) -> None:
    written = {
        "tcp": {
            "maxConnections": 1,
            "connectTimeout": "2s",
            "maxConnectionDuration": "1h",
            "idleTimeout": "0s",
            "tcpKeepalive": {"probes": 3, "time": "1m", "interval": "5s"},
        },
        "http": {
            "http1MaxPendingRequests": 3,
            "http2MaxRequests": 4,
            "maxRequestsPerConnection": 5,
            "maxRetries": 7,
            "idleTimeout": "6s",
            "h2UpgradePolicy": "DO_NOT_UPGRADE",
            "useClientProtocol": True,
            "maxConcurrentStreams": 8,
            "http2KeepAlive": {"interval": "9s", "timeout": "2s"},
        },
    }
    loaded = document("DestinationRule", rule(connectionPool=written))
    assert loaded.problems == ()
    assert policy(loaded).connection_pool == ConnectionPool(
        TcpPool(1, 2.0, 3600.0, 0.0, Keepalive(3, 60.0, 5.0)),
        HttpPool(
            http1_max_pending_requests=3,
            http2_max_requests=4,
            max_requests_per_connection=5,
            max_retries=7,
            idle_timeout=6.0,
            h2_upgrade_policy=H2UpgradePolicy.DO_NOT_UPGRADE,
            use_client_protocol=True,
            max_concurrent_streams=8,
            http2_keep_alive=Http2Keepalive(9.0, 2.0),
        ),
    )


def test_no_local_failures_ask_for_no_split(document: Document) -> None:
    found = policy(
        document("DestinationRule", rule(outlierDetection={"consecutiveLocalOriginFailures": 0}))
    )
    assert found.outlier_detection is not None


def test_a_written_zero_is_not_written(document: Document) -> None:
    blocks = {
        "connectionPool": {"tcp": {"maxConnections": 0}, "http": {"http1MaxPendingRequests": 0}},
        "outlierDetection": {"maxEjectionPercent": 0, "consecutive5xxErrors": 0},
    }
    found = policy(document("DestinationRule", rule(**blocks)))
    assert found.connection_pool == ConnectionPool()
    assert found.outlier_detection == OutlierDetection(consecutive_5xx_errors=0)


def test_an_upgrade_and_the_callers_protocol_contradict_each_other(document: Document) -> None:
    http = {"h2UpgradePolicy": "UPGRADE", "useClientProtocol": True}
    loaded = document("DestinationRule", rule(connectionPool={"http": http}))
    assert [problem.code for problem in loaded.errors] == ["SC0602"]


def test_local_failures_need_the_split(document: Document) -> None:
    block = {"consecutiveLocalOriginFailures": 3, "splitExternalLocalOriginErrors": False}
    loaded = document("DestinationRule", rule(outlierDetection=block))
    assert [problem.code for problem in loaded.problems] == ["SC0601"]
