from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sidecar.config.documents import DestinationRule
from sidecar.config.loaded import Loaded
from sidecar.config.traffic_specs import Balance, LoadBalancer, TrafficPolicy
from sidecar.upstream.affinity import By, HashOn
from sidecar.upstream.balance import Warmup
from sidecar.upstream.retry import RetryBudget

Document = Callable[..., Loaded]


def rule(**blocks: Any) -> dict[str, Any]:
    return {"host": "a.example", "trafficPolicy": blocks}


IN_TWO = {"name": "a", "path": "/a\r\nset-cookie: b"}
OF_80 = {"port": {"number": 80}, "outlierDetection": {}}


def codes(loaded: Loaded) -> list[str]:
    return [problem.code for problem in loaded.problems]


def only(loaded: Loaded) -> DestinationRule:
    (found,) = loaded.documents
    assert isinstance(found, DestinationRule)
    return found


@pytest.mark.parametrize(
    "host",
    ["a", "a.b.svc.cluster.local", "*.b.example", "*b.example", "*-b.a", "*", "127.0.0.1", "a_b.c"],
)
def test_a_rule_is_for_a_host_or_a_suffix(host: str, document: Document) -> None:
    assert only(document("DestinationRule", {"host": host})).spec.host == host


@pytest.mark.parametrize(
    "host", ["", "a b", "a..b", "-a", "a.*", "**", "*..a", ".a", "http://a", "a/b", "a" * 254]
)
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
    balancer = only(loaded).spec.traffic_policy.load_balancer
    assert balancer is not None
    assert balancer.simple is balance


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({}, ["SC0202"]),
        (rule(), ["SC0210"]),
        (rule(loadBalancer={"simple": "PASSTHROUGH"}), ["SC0304"]),
        (rule(loadBalancer={"simple": "BEST"}), ["SC0205"]),
        (rule(tls={"mode": "MUTUAL", "clientCertificate": "/x"}), ["SC0610"]),
        (rule(tls={"mode": "SIMPLE", "privateKey": "/x"}), ["SC0610"]),
        (rule(tls={"mode": "ISTIO_MUTUAL", "caCertificates": "/x"}), ["SC0610"]),
        (rule(tls={"caCertificates": "/x"}), ["SC0610"]),
        (rule(tls={"mode": "SIMPLE", "caCertificates": "x"}), ["SC0211"]),
        (rule(tls={"insecureSkipVerify": True}), ["SC0304"]),
        (rule(tls={"credentialName": "x"}), ["SC0304"]),
        (rule(tls={"mod": "SIMPLE"}), ["SC0204"]),
        (rule(tls={"mode": "SIMPLE", "subjectAltNames": []}), ["SC0210"]),
        ({"host": "a", "subsets": [{"labels": {}}]}, ["SC0202"]),
        ({"host": "a", "subsets": [{"name": "v_1"}]}, ["SC0211"]),
        ({"host": "a", "subsets": [{"name": "a|b"}]}, ["SC0211"]),
        ({"host": "a", "subsets": [{"name": "v1"}, {"name": "v1"}]}, ["SC0611"]),
        (rule(portLevelSettings=[{"tls": {}}]), ["SC0202"]),
        (rule(portLevelSettings=[{"port": {"number": 80}}]), ["SC0210"]),
        (rule(portLevelSettings=[OF_80, OF_80]), ["SC0611"]),
        (rule(retryBudget={"percent": 101}), ["SC0206"]),
        (
            rule(loadBalancer={"simple": "RANDOM", "consistentHash": {"useSourceIp": True}}),
            ["SC0611"],
        ),
        (rule(loadBalancer={"consistentHash": {}}), ["SC0203"]),
        (rule(loadBalancer={"consistentHash": {"useSourceIp": False}}), ["SC0203"]),
        (
            rule(loadBalancer={"consistentHash": {"useSourceIp": True, "usePrincipal": True}}),
            ["SC0203"],
        ),
        (rule(loadBalancer={"consistentHash": {"httpCookie": {"path": "/"}}}), ["SC0202"]),
        (rule(loadBalancer={"consistentHash": {"httpHeaderName": "a b"}}), ["SC0211"]),
        (rule(loadBalancer={"consistentHash": {"httpHeaderName": "\u0436"}}), ["SC0211"]),
        (rule(loadBalancer={"consistentHash": {"httpCookie": {"name": "a; b"}}}), ["SC0211"]),
        (rule(loadBalancer={"consistentHash": {"httpCookie": {"name": "\u0436"}}}), ["SC0211"]),
        (rule(loadBalancer={"consistentHash": {"httpCookie": IN_TWO}}), ["SC0211"]),
        (rule(loadBalancer={"warmup": {"minimumPercent": 3}}), ["SC0202"]),
        (rule(loadBalancer={"warmup": {"duration": "1m", "minimumPercent": 150.0}}), ["SC0206"]),
        (rule(loadBalancer={"warmup": {"duration": "1m", "aggression": 0.3}}), ["SC0206"]),
        (rule(loadBalancer={"warmup": {"duration": "1m", "aggression": "1"}}), ["SC0203"]),
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
        rule(loadBalancer={"consistentHash": {"useSourceIp": True, "ringHash": {}}}),
        rule(loadBalancer={"localityLbSetting": {}}),
        rule(tunnel={"targetHost": "x"}),
        rule(proxyProtocol={"version": "V2"}),
        {"host": "a", "exportTo": ["."]},
        {"host": "a", "workloadSelector": {"matchLabels": {"a": "b"}}},
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


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"httpHeaderName": "X-User"}, HashOn(By.HEADER, "x-user")),
        ({"httpCookie": {"name": "Who"}}, HashOn(By.COOKIE, "Who")),
        (
            {"httpCookie": {"name": "Who", "path": "/mcp", "ttl": "60s"}},
            HashOn(By.COOKIE, "Who", 60.0, "/mcp"),
        ),
        ({"httpCookie": {"name": "Who", "ttl": "0s"}}, HashOn(By.COOKIE, "Who", 0.0)),
        ({"useSourceIp": True}, HashOn(By.SOURCE_IP)),
        ({"httpQueryParameterName": "who"}, HashOn(By.QUERY, "who")),
        ({"usePrincipal": True, "useSourceIp": False}, HashOn(By.PRINCIPAL)),
    ],
)
def test_what_is_hashed_comes_out(
    written: dict[str, Any], meant: HashOn, document: Document
) -> None:
    loaded = document("DestinationRule", rule(loadBalancer={"consistentHash": written}))
    assert codes(loaded) == []
    balancer = only(loaded).spec.traffic_policy.load_balancer
    assert balancer is not None
    assert balancer.hash_on == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"warmup": {"duration": "1m"}}, Warmup(60.0)),
        ({"warmup": {"duration": "1m", "minimumPercent": 5, "aggression": 2}}, Warmup(60.0, 5, 2)),
        (
            {"warmup": {"duration": "1m", "minimumPercent": 0.5, "aggression": 1.5}},
            Warmup(60.0, 0.5, 1.5),
        ),
        ({"warmup": {"duration": "1m", "minimumPercent": 0}}, Warmup(60.0, 0.0)),
        ({"warmupDurationSecs": "30s"}, Warmup(30.0)),
        ({"simple": "RANDOM"}, None),
    ],
)
def test_a_warm_up_comes_out(
    written: dict[str, Any], meant: Warmup | None, document: Document
) -> None:
    balancer = only(document("DestinationRule", rule(loadBalancer=written))).spec
    assert balancer.traffic_policy.load_balancer is not None
    assert balancer.traffic_policy.load_balancer.warmup == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({}, RetryBudget(percent=20.0, least=3)),
        ({"percent": 12.5, "minRetryConcurrency": 0}, RetryBudget(percent=12.5, least=0)),
    ],
)
def test_a_retry_budget_has_istios_defaults(
    written: dict[str, Any], meant: RetryBudget, document: Document
) -> None:
    found = only(document("DestinationRule", rule(retryBudget=written)))
    assert found.spec.traffic_policy.retry_budget == meant


def test_ports_and_subsets_come_out_with_policies_of_their_own(document: Document) -> None:
    random = {"loadBalancer": {"simple": "RANDOM"}}
    spec = rule(portLevelSettings=[{"port": {"number": 80}, **random}], outlierDetection={})
    spec["subsets"] = [
        {"name": "v1", "labels": {"v": "1"}, "trafficPolicy": random},
        {"name": "v2"},
    ]
    found = only(document("DestinationRule", spec)).spec
    one = TrafficPolicy(load_balancer=LoadBalancer(Balance.RANDOM))
    assert found.traffic_policy.ports == {80: one}
    first, second = found.subsets
    assert (first.name, first.labels, first.traffic_policy) == ("v1", {"v": "1"}, one)
    assert (second.name, second.labels, second.traffic_policy) == ("v2", {}, TrafficPolicy())


@pytest.mark.parametrize(
    ("ring", "found"),
    [
        ({"minimumRingSize": 1024}, ["SC0303"]),
        ({"ringHash": {"minimumRingSize": 1024}}, ["SC0303"]),
        ({"maglev": {"tableSize": 1009}}, ["SC0303"]),
        ({"maglev": {"tableSize": 1000}}, ["SC0206"]),
        ({"maglev": {"tableSize": 0}}, ["SC0206"]),
        ({"maglev": {"tableSize": 5000111}}, ["SC0206"]),
        ({"maglev": {}}, ["SC0206"]),
        ({"minimumRingSize": 1024, "maglev": {"tableSize": 1009}}, ["SC0611"]),
    ],
)
def test_a_ring_has_no_effect_but_must_be_one_that_istio_takes(
    ring: dict[str, Any], found: list[str], document: Document
) -> None:
    loaded = document(
        "DestinationRule", rule(loadBalancer={"consistentHash": {"useSourceIp": True, **ring}})
    )
    told = [code for code in codes(loaded) if code != "SC0303"] or codes(loaded)
    assert told == found
