"""Addresses, limits and what Istio's block becomes."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path

import pytest

from sidecar.upstream.endpoint import Endpoint, OutlierSpec, PoolSpec

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors" / "outlier_detection.json"


@pytest.mark.parametrize(
    ("address", "host", "port", "unix"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080, ""),
        ("files.internal:1", "files.internal", 1, ""),
        ("[::1]:65535", "::1", 65535, ""),
        ("unix:/run/files.sock", "", 0, "/run/files.sock"),
    ],
)
def test_an_address_is_read_once(address: str, host: str, port: int, unix: str) -> None:
    endpoint = Endpoint(address)
    assert (endpoint.host, endpoint.port, endpoint.unix) == (host, port, unix)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("", "is not an address"),
        ("localhost", "is not an address"),
        (":80", "is not an address"),
        ("::1:80", "is not an address"),
        ("[host]:80", "is not an address"),
        ("host:", "from 1 to 65535"),
        ("host:0", "from 1 to 65535"),
        ("host:65536", "from 1 to 65535"),
        ("host:99999999999", "from 1 to 65535"),
        ("host:http", "from 1 to 65535"),
        ("host:٨٠", "from 1 to 65535"),
        ("unix:run/files.sock", "absolute path"),
        ("unix:/run/a\0b", "absolute path"),
        ("unix:/" + "x" * 107, "at most 107 bytes"),
    ],
)
def test_what_is_no_address_is_refused_with_its_reason(address: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Endpoint(address)


def test_a_weight_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="`weight` is 0"):
        Endpoint("host:80", weight=0)


def test_an_endpoint_counts_what_is_in_flight_and_what_was_called() -> None:
    endpoint = Endpoint("host:80")
    endpoint.begin()
    endpoint.begin()
    endpoint.end()
    assert (endpoint.in_flight, endpoint.calls) == (1, 2)
    assert str(endpoint) == "host:80 in, 1 in flight, 2 calls"


def test_endpoints_are_told_apart_by_identity() -> None:
    one, other = Endpoint("host:80"), Endpoint("host:80")
    assert one != other
    assert len({one, other}) == 2


def test_pool_limits_are_ours_where_none_is_written() -> None:
    pool = PoolSpec()
    assert (pool.max_connections, pool.max_pending, pool.max_requests) == (1024, 1024, 1024)
    assert pool.max_requests_per_connection == 0
    assert (pool.connect_timeout, pool.idle_timeout) == (10.0, 60.0)
    assert pool.max_connection_duration == inf


@pytest.mark.parametrize(
    "written",
    [
        {"max_connections": 0},
        {"max_pending": -1},
        {"max_requests": -1},
        {"max_requests_per_connection": -1},
        {"connect_timeout": 0.0},
        {"idle_timeout": 0.0},
        {"max_connection_duration": 0.0},
    ],
)
def test_a_pool_limit_without_meaning_is_refused_by_name(written: dict[str, int]) -> None:
    (name,) = written
    with pytest.raises(ValueError, match=f"`{name}` is"):
        PoolSpec(**written)


@pytest.mark.parametrize(
    "written",
    [
        {"interval": 0.0},
        {"base_ejection_time": 0.0},
        {"max_ejection_percent": 101},
        {"enforcing_success_rate": 101},
        {"failure_percentage_threshold": 101},
        {"consecutive_5xx": -1},
        {"base_ejection_time": 30.0, "max_ejection_time": 29.0},
    ],
)
def test_an_outlier_value_without_meaning_is_refused(written: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        OutlierSpec(**written)


def test_the_longest_ejection_is_five_minutes_unless_the_base_is_longer() -> None:
    assert OutlierSpec().max_ejection_time == 300.0
    assert OutlierSpec(base_ejection_time=900.0).max_ejection_time == 900.0
    assert OutlierSpec(max_ejection_time=60.0).max_ejection_time == 60.0


# Istio's field -> ours, and Envoy's field in the vectors -> ours where the name differs.
ISTIO = {
    "consecutive5xxErrors": "consecutive_5xx_errors",
    "consecutiveGatewayErrors": "consecutive_gateway_errors",
    "splitExternalLocalOriginErrors": "split_external_local_origin_errors",
    "consecutiveLocalOriginFailures": "consecutive_local_origin_failures",
}


def test_istio_blocks_become_what_istio_makes_of_them() -> None:
    if not VECTORS.exists():
        pytest.skip("no vectors: outlier_detection.json")
    compared = 0
    for case in json.loads(VECTORS.read_text())["istio_to_envoy"]:
        written = case["outlierDetection"]
        if written is None:
            continue
        spec = OutlierSpec.of_istio(**{ISTIO[name]: value for name, value in written.items()})
        for name, value in case["envoy"].items():
            assert getattr(spec, name) == value, (case["name"], name)
            compared += 1
    assert compared > 15


def test_the_gateway_detector_is_off_until_it_is_written() -> None:
    empty = OutlierSpec.of_istio()
    assert empty == OutlierSpec()
    assert empty.enforcing_consecutive_gateway_failure == 0
    written = OutlierSpec.of_istio(consecutive_gateway_errors=5, max_ejection_percent=50)
    assert written.enforcing_consecutive_gateway_failure == 100
    assert written.enforcing_consecutive_5xx == 100
    assert written.max_ejection_percent == 50


def test_local_failures_have_their_own_run_only_with_the_split() -> None:
    assert OutlierSpec.of_istio(consecutive_local_origin_failures=2) == OutlierSpec()
    split = OutlierSpec.of_istio(
        split_external_local_origin_errors=True,
        consecutive_local_origin_failures=2,
        interval=1.0,
        base_ejection_time=2.0,
    )
    assert split.consecutive_local_origin_failure == 2
    assert (split.interval, split.base_ejection_time) == (1.0, 2.0)
