"""The detector does what Envoy does: its own test scripts and tables, step by step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.upstream.endpoint import Endpoint, OutlierSpec
from sidecar.upstream.outlier import Kind, Outcome, Outlier

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors" / "outlier_detection.json"

OUTCOMES = {
    "local_connect_failed": Outcome.CONNECT_FAILED,
    "local_timeout": Outcome.TIMEOUT,
    "ext_failed": Outcome.FAILED,
    "ext_success": Outcome.SUCCEEDED,
    "connect_success": Outcome.CONNECTED,
}
# The vectors' key -> our field, and what a value there becomes here.
PLAIN = {
    "consecutive_5xx": "consecutive_5xx",
    "consecutive_gateway": "consecutive_gateway_failure",
    "consecutive_local": "consecutive_local_origin_failure",
    "split": "split_external_local_origin_errors",
    "max_ejection_percent": "max_ejection_percent",
    "always_eject_one_host": "always_eject_one_host",
    "sr_min_hosts": "success_rate_minimum_hosts",
    "sr_volume": "success_rate_request_volume",
    "sr_stdev": "success_rate_stdev_factor",
    "fp_threshold": "failure_percentage_threshold",
    "fp_min_hosts": "failure_percentage_minimum_hosts",
    "fp_volume": "failure_percentage_request_volume",
}
ENFORCED = {
    "enforce_5xx": "enforcing_consecutive_5xx",
    "enforce_gateway": "enforcing_consecutive_gateway_failure",
    "enforce_local": "enforcing_consecutive_local_origin_failure",
    "enforce_success_rate": "enforcing_success_rate",
    "enforce_failure_pct": "enforcing_failure_percentage",
}
SECONDS = {
    "interval_ms": "interval",
    "base_ejection_ms": "base_ejection_time",
    "max_ejection_ms": "max_ejection_time",
}


def scenarios() -> list[Any]:
    if not VECTORS.exists():
        return [pytest.param(None, marks=pytest.mark.skip("no vectors: outlier_detection.json"))]
    document = json.loads(VECTORS.read_text())
    return [
        pytest.param({**one, "config": document["defaults"] | one["config"]}, id=one["id"])
        for one in document["scenarios"]
    ]


def spec_of(config: dict[str, Any]) -> OutlierSpec:
    known = PLAIN.keys() | ENFORCED.keys() | SECONDS.keys()
    assert config.keys() <= known, "a key that this test would not honour"
    return OutlierSpec(
        **{PLAIN[key]: value for key, value in config.items() if key in PLAIN},
        **{ENFORCED[key]: 100 * value for key, value in config.items() if key in ENFORCED},
        **{SECONDS[key]: value / 1000 for key, value in config.items() if key in SECONDS},
    )


def report(outlier: Outlier, endpoint: Endpoint, result: int | str, now: float) -> None:
    if isinstance(result, int):
        outlier.report_status(endpoint, result, now)
    else:
        outlier.report_local(endpoint, OUTCOMES[result], now)


@pytest.mark.parametrize("scenario", scenarios())
def test_the_detector_does_what_envoy_does(scenario: dict[str, Any]) -> None:
    hosts = [Endpoint(f"10.0.0.{i}:80") for i in range(scenario["hosts"])]
    outlier = Outlier(spec_of(scenario["config"]), hosts, lambda: 0.0)
    now, expectations = 0.0, 0
    for step in scenario["steps"]:
        now = step.get("t_ms", now * 1000) / 1000
        if step["op"] == "report":
            for _ in range(step.get("count", 1)):
                report(outlier, hosts[step["host"]], step["result"], now)
        elif step["op"] == "sweep":
            outlier.sweep(now)
        else:
            expectations += 1
            assert [i for i, host in enumerate(hosts) if host.ejected] == step["ejected"]
            statistics = outlier.statistics()
            assert statistics["ejections_active"] == len(step["ejected"])
            if "overflow" in step:
                assert statistics["ejections_overflow"] == step["overflow"]
    assert expectations


@pytest.mark.parametrize(
    ("status", "kinds"),
    [
        # Envoy's own table: what is named counts, as itself where it is a 5xx, else as 500.
        (429, [Kind.CONSECUTIVE_5XX]),
        (500, [Kind.CONSECUTIVE_5XX]),
        (503, [Kind.CONSECUTIVE_GATEWAY_FAILURE, Kind.CONSECUTIVE_5XX]),
        # What is not named is a success, whatever it is.
        (502, []),
        (404, []),
        (300, []),
    ],
)
def test_where_errors_are_named_no_other_status_is_one(status: int, kinds: list[Kind]) -> None:
    spec = OutlierSpec(
        consecutive_5xx=2,
        consecutive_gateway_failure=2,
        max_ejection_percent=100,
        errors=frozenset({429, 500, 503}),
    )
    host = Endpoint("10.0.0.0:80")
    outlier = Outlier(spec, [host], lambda: 0.0)
    events = [one for _ in range(2) for one in outlier.report_status(host, status, 0.0)]
    assert [one.kind for one in events] == kinds
    assert (host.bad, host.good) == ((2, 0) if kinds else (0, 2))
    outlier.replace(OutlierSpec(max_ejection_percent=100), [host])
    outlier.report_status(host, 429, 1.0)
    assert host.good == (1 if kinds else 3), "by another configuration it is no error"


def test_our_own_failures_are_errors_whatever_statuses_are() -> None:
    spec = OutlierSpec(consecutive_5xx=2, max_ejection_percent=100, errors=frozenset({429}))
    host = Endpoint("10.0.0.0:80")
    outlier = Outlier(spec, [host], lambda: 0.0)
    outlier.report_local(host, Outcome.CONNECT_FAILED, 0.0)
    outlier.report_local(host, Outcome.TIMEOUT, 0.0)
    assert host.ejected
