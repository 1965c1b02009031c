from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sidecar.config.documents import Balance, DestinationRule, TrafficPolicy
from sidecar.config.loaded import Loaded

Document = Callable[..., Loaded]


def rule(**blocks: Any) -> dict[str, Any]:
    return {"host": "a.example", "trafficPolicy": blocks}


def codes(loaded: Loaded) -> list[str]:
    return [problem.code for problem in loaded.problems]


def only(loaded: Loaded) -> DestinationRule:
    (found,) = loaded.documents
    assert isinstance(found, DestinationRule)
    return found


@pytest.mark.parametrize(
    "host", ["a", "a.b.svc.cluster.local", "*.b.example", "*", "127.0.0.1", "a_b.c"]
)
def test_a_rule_is_for_a_host_or_a_suffix(host: str, document: Document) -> None:
    assert only(document("DestinationRule", {"host": host})).spec.host == host


@pytest.mark.parametrize("host", ["", "a b", "a..b", "-a", "a.*", "http://a", "a/b", "a" * 254])
def test_what_is_no_host_is_refused(host: str, document: Document) -> None:
    assert codes(document("DestinationRule", {"host": host})) == ["SC0211"]


def test_a_rule_without_settings_has_defaults(document: Document) -> None:
    assert only(document("DestinationRule", {"host": "a"})).spec.traffic_policy == TrafficPolicy()


@pytest.mark.parametrize(
    ("written", "balance", "found"),
    [
        ("LEAST_REQUEST", Balance.LEAST_REQUEST, []),
        ("ROUND_ROBIN", Balance.ROUND_ROBIN, []),
        ("RANDOM", Balance.RANDOM, []),
        ("UNSPECIFIED", Balance.LEAST_REQUEST, []),
        ("LEAST_CONN", Balance.LEAST_REQUEST, ["SC0603"]),
    ],
)
def test_the_simple_balancers_act(
    written: str, balance: Balance, found: list[str], document: Document
) -> None:
    loaded = document("DestinationRule", rule(loadBalancer={"simple": written}))
    assert codes(loaded) == found
    assert only(loaded).spec.traffic_policy.load_balancer.simple is balance


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({}, ["SC0202"]),
        (rule(), ["SC0210"]),
        (rule(loadBalancer={"simple": "PASSTHROUGH"}), ["SC0304"]),
        (rule(loadBalancer={"simple": "BEST"}), ["SC0205"]),
        (rule(tls={"mode": "SIMPLE"}), ["SC0304"]),
        (rule(tls={"mode": "MUTUAL", "clientCertificate": "x"}), ["SC0304"]),
        (rule(tls={"mode": "ISTIO_MUTUAL"}), ["SC0304"]),
        (rule(tls={"mod": "SIMPLE"}), ["SC0204"]),
        (
            rule(portLevelSettings=[{"port": {"number": 80}, "tls": {"mode": "SIMPLE"}}]),
            ["SC0303", "SC0304"],
        ),
        (
            {
                "host": "a",
                "subsets": [{"name": "v1", "trafficPolicy": {"tls": {"mode": "SIMPLE"}}}],
            },
            ["SC0303", "SC0304"],
        ),
        ({"host": "a", "subsets": [{"labels": {}}]}, ["SC0303", "SC0202"]),
    ],
)
def test_what_a_rule_may_not_say(
    spec: dict[str, Any], found: list[str], document: Document
) -> None:
    loaded = document("DestinationRule", spec)
    assert codes(loaded) == found
    assert loaded.documents == ()


@pytest.mark.parametrize(
    "spec",
    [
        rule(tls={"mode": "DISABLE", "sni": "x"}),
        rule(tls={}),
    ],
)
def test_plaintext_that_is_asked_for_is_what_happens(
    spec: dict[str, Any], document: Document
) -> None:
    assert codes(document("DestinationRule", spec)) == []


@pytest.mark.parametrize(
    "spec",
    [
        rule(loadBalancer={"consistentHash": {"useSourceIp": True}}),
        rule(loadBalancer={"warmup": {"duration": "1m"}}),
        rule(loadBalancer={"localityLbSetting": {}}),
        rule(tunnel={"targetHost": "x"}),
        rule(proxyProtocol={"version": "V2"}),
        rule(portLevelSettings=[{"port": {"number": 80}, "outlierDetection": {}}]),
        {"host": "a", "exportTo": ["."]},
        {"host": "a", "workloadSelector": {"matchLabels": {"a": "b"}}},
        {"host": "a", "subsets": [{"name": "v1", "labels": {"v": "1"}}]},
    ],
)
def test_what_has_no_effect_yet_draws_a_warning(spec: dict[str, Any], document: Document) -> None:
    loaded = document("DestinationRule", spec)
    assert codes(loaded) == ["SC0303"]
    assert len(loaded.documents) == 1


def test_a_misplaced_field_is_told_where_it_belongs(document: Document) -> None:
    loaded = document("DestinationRule", rule(connectionPool={"h2UpgradePolicy": "UPGRADE"}))
    assert [problem.help for problem in loaded.problems] == ["did you mean `http.h2UpgradePolicy`?"]
    loaded = document("DestinationRule", {"host": "a", "maxConnections": 3})
    assert [problem.help for problem in loaded.problems] == [
        "did you mean `trafficPolicy.connectionPool.tcp.maxConnections`?"
    ]
