"""A target and documents become a cluster: where its calls go, and how they are treated."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import inf
from typing import Any, TypeVar

import pytest

from sidecar.config.addresses import target_of
from sidecar.config.clusters import cluster_of
from sidecar.config.documents import DestinationRule, Document, ServiceEntry
from sidecar.config.limits import Limits
from sidecar.config.loaded import parse_documents
from sidecar.upstream.balance import Algorithm
from sidecar.upstream.cluster import ClusterSpec, EndpointSpec
from sidecar.upstream.endpoint import Endpoint, OutlierSpec, PoolSpec

T = TypeVar("T", bound=Document)

LIMITS = Limits(
    upstream_connections=11,
    upstream_pending=12,
    upstream_requests=13,
    connect_timeout=14.0,
    upstream_idle_timeout=15.0,
)
OURS = PoolSpec(
    max_connections=11, max_pending=12, max_requests=13, connect_timeout=14.0, idle_timeout=15.0
)


def read(text: str, kind: type[T]) -> list[T]:
    loaded = parse_documents(text.encode(), "f.yaml", namespace="prod")
    assert not loaded.errors, loaded.errors
    found = [one for one in loaded.documents if isinstance(one, kind)]
    assert len(found) == len(loaded.documents)
    return found


def rules(*specs: tuple[str, Any]) -> list[DestinationRule]:
    documents = (
        json.dumps(
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "DestinationRule",
                "metadata": {"name": f"rule-{index}"},
                "spec": {"host": host} | ({} if policy is None else {"trafficPolicy": policy}),
            }
        )
        for index, (host, policy) in enumerate(specs)
    )
    return read("\n---\n".join(documents), DestinationRule)


ENTRIES = read(
    """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: replicas}
spec:
  hosts: [replicas.local, Twins.Local]
  ports:
  - {number: 80, name: http}
  - {number: 81, name: other, targetPort: 9081}
  resolution: STATIC
  endpoints:
  - {address: 127.0.0.1, weight: 3}
  - {address: 127.0.0.2, ports: {http: 8080}, weight: 0}
  - {address: "::1"}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: socket}
spec:
  hosts: [socket.local]
  ports: [{number: 80, name: http}]
  resolution: STATIC
  endpoints: [{address: "unix:/run/a.sock"}, {address: "unix:/run/b.sock", weight: 2}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: doubled}
spec:
  hosts: [doubled.local, replicas.local]
  ports: [{number: 80, name: http}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.9, weight: 5}, {address: 127.0.0.9, weight: 2}]
""",
    ServiceEntry,
)


def cluster(
    to: str = "http://127.0.0.1:9000", service: str = "files", *specs: tuple[str, Any]
) -> ClusterSpec:
    return cluster_of(target_of(to), service, ENTRIES, rules(*specs) if specs else (), LIMITS)


HTTP_ENDPOINTS = [("127.0.0.1:80", 3), ("127.0.0.2:8080", 1), ("[::1]:80", 1)]


@pytest.mark.parametrize(
    ("to", "wanted"),
    [
        ("http://127.0.0.1:9000", [("127.0.0.1:9000", 1)]),
        ("127.0.0.1:9000", [("127.0.0.1:9000", 1)]),
        ("http://localhost:9000", [("127.0.0.1:9000", 1)]),
        ("http://127.0.0.1", [("127.0.0.1:80", 1)]),
        ("http://[::1]:9000", [("[::1]:9000", 1)]),
        ("unix:/run/files.sock", [("unix:/run/files.sock", 1)]),
        ("replicas.local", HTTP_ENDPOINTS),
        ("http://replicas.local", HTTP_ENDPOINTS),
        ("replicas.local:80", HTTP_ENDPOINTS),
        ("REPLICAS.local", HTTP_ENDPOINTS),
        ("twins.local", HTTP_ENDPOINTS),
        (
            "http://replicas.local:81",
            [("127.0.0.1:9081", 3), ("127.0.0.2:9081", 1), ("[::1]:9081", 1)],
        ),
        ("socket.local", [("unix:/run/a.sock", 1), ("unix:/run/b.sock", 2)]),
        ("socket.local:80", [("unix:/run/a.sock", 1), ("unix:/run/b.sock", 2)]),
        # An address that is written twice is one endpoint, as it was written first.
        ("doubled.local", [("127.0.0.9:80", 5)]),
    ],
)
def test_a_target_becomes_the_addresses_it_means(to: str, wanted: list[tuple[str, int]]) -> None:
    found = cluster(to).endpoints
    assert found == tuple(EndpointSpec(address, weight) for address, weight in wanted)
    for one in found:
        Endpoint(one.address, one.weight)  # raises for what could not be connected to


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("nobody.local", ["`nobody.local`", "no ServiceEntry", "http://host:port"]),
        ("local", ["`local`", "no ServiceEntry"]),
        ("a.replicas.local", ["`a.replicas.local`", "no ServiceEntry"]),
        ("replicas.local:82", ["ServiceEntry of `replicas.local`", "no port 82"]),
        ("socket.local:81", ["no port 81"]),
        # The first entry that has the host decides, though another one has the port.
        ("replicas.local:9081", ["no port 9081"]),
    ],
)
def test_a_target_that_nobody_knows_is_refused_with_its_name(to: str, words: list[str]) -> None:
    with pytest.raises(ValueError) as refused:
        cluster(to)
    assert [word for word in words if word not in str(refused.value)] == []


def test_a_cluster_without_a_rule_has_our_limits_and_ejects_nobody() -> None:
    found = cluster(service="files.tools")
    assert found == ClusterSpec("files.tools", (EndpointSpec("127.0.0.1:9000"),), OURS)
    assert found.outlier is None
    assert found.balance is Algorithm.LEAST_REQUEST
    assert found.min_health_percent == 0


def pool(number: int) -> dict[str, Any]:
    return {"connectionPool": {"tcp": {"maxConnections": number}}}


@pytest.mark.parametrize(
    ("service", "hosts", "winner"),
    [
        ("a.tools.local", ["a.tools.local"], 0),
        ("a.tools.local", ["b.tools.local"], None),
        ("A.Tools.local", ["a.TOOLS.local"], 0),
        ("a.tools.local", ["tools.local"], None),
        ("a.tools.local", ["*.tools.local"], 0),
        ("a.b.tools.local", ["*.tools.local"], 0),
        ("A.TOOLS.LOCAL", ["*.tools.local"], 0),
        ("tools.local", ["*.tools.local"], None),
        ("atools.local", ["*.tools.local"], None),
        ("a.tools.local", ["*"], 0),
        # An exact name wins over `*`, a longer suffix over a shorter, in either order.
        ("a.tools.local", ["*", "*.local", "*.tools.local", "a.tools.local"], 3),
        ("a.tools.local", ["a.tools.local", "*.tools.local", "*.local", "*"], 0),
        ("a.tools.local", ["*.local", "*.tools.local", "*"], 1),
        ("a", ["*", "a"], 1),
        ("a", ["*.very.long.suffix.local", "a", "*"], 1),
        # Of two for one host the first is taken.
        ("a.tools.local", ["a.tools.local", "A.TOOLS.LOCAL"], 0),
        ("127.0.0.1", ["127.0.0.1"], 0),
        ("127.0.0.1", ["127.0.0.2", "*"], 1),
    ],
)
def test_the_rule_with_the_nearest_host_governs(
    service: str, hosts: list[str], winner: int | None
) -> None:
    specs = [(host, pool(100 + index)) for index, host in enumerate(hosts)]
    found = cluster("http://127.0.0.1:9000", service, *specs)
    wanted = LIMITS.upstream_connections if winner is None else 100 + winner
    assert found.pool.max_connections == wanted


def test_a_rule_is_for_the_services_name_and_not_for_its_address() -> None:
    found = cluster("http://127.0.0.1:9000", "files", ("127.0.0.1", pool(5)))
    assert found.pool == OURS


def test_a_rule_without_a_policy_leaves_our_limits() -> None:
    assert cluster("http://127.0.0.1:9000", "files", ("files", None)) == cluster()


@pytest.mark.parametrize(
    ("written", "changed"),
    [
        ({"tcp": {"maxConnections": 5}}, {"max_connections": 5}),
        ({"tcp": {"maxConnections": 100_000}}, {"max_connections": 100_000}),
        ({"tcp": {"maxConnections": 0}}, {}),
        ({"tcp": {"connectTimeout": "250ms"}}, {"connect_timeout": 0.25}),
        ({"tcp": {"maxConnectionDuration": "1h"}}, {"max_connection_duration": 3600.0}),
        ({"tcp": {"idleTimeout": "5s"}}, {"idle_timeout": 5.0}),
        ({"tcp": {"idleTimeout": "0s"}}, {"idle_timeout": inf}),
        ({"http": {"idleTimeout": "6s"}}, {"idle_timeout": 6.0}),
        ({"tcp": {"idleTimeout": "0s"}, "http": {"idleTimeout": "6s"}}, {"idle_timeout": 6.0}),
        ({"tcp": {"idleTimeout": "9s"}, "http": {"idleTimeout": "6s"}}, {"idle_timeout": 6.0}),
        ({"http": {"http1MaxPendingRequests": 7}}, {"max_pending": 7}),
        ({"http": {"http1MaxPendingRequests": 0}}, {}),
        ({"http": {"http2MaxRequests": 8}}, {"max_requests": 8}),
        ({"http": {"http2MaxRequests": 0}}, {}),
        ({"http": {"maxRequestsPerConnection": 1}}, {"max_requests_per_connection": 1}),
        ({"http": {"maxRequestsPerConnection": 0}}, {}),
        ({"tcp": {}, "http": {}}, {}),
    ],
)
def test_a_pools_limits_are_what_is_written_and_else_ours(
    written: dict[str, Any], changed: dict[str, Any]
) -> None:
    ours = {name: getattr(OURS, name) for name in PoolSpec.__slots__}
    found = cluster("http://127.0.0.1:9000", "files", ("files", {"connectionPool": written}))
    assert found.pool == PoolSpec(**ours | changed)
    assert found.outlier is None


OFF = {"consecutive_5xx": 0, "enforcing_consecutive_5xx": 0}


@pytest.mark.parametrize(
    ("written", "changed", "health"),
    [
        ({}, {}, 0),
        ({"consecutive5xxErrors": 2}, {"consecutive_5xx": 2}, 0),
        ({"consecutive5xxErrors": 0}, OFF, 0),
        (
            {"consecutiveGatewayErrors": 3},
            {"consecutive_gateway_failure": 3, "enforcing_consecutive_gateway_failure": 100},
            0,
        ),
        ({"splitExternalLocalOriginErrors": True}, {"split_external_local_origin_errors": True}, 0),
        (
            {"splitExternalLocalOriginErrors": True, "consecutiveLocalOriginFailures": 2},
            {"split_external_local_origin_errors": True, "consecutive_local_origin_failure": 2},
            0,
        ),
        ({"interval": "1s", "baseEjectionTime": "2s"}, {"interval": 1, "base_ejection_time": 2}, 0),
        # No ejection is shorter than its base, though the usual cap is 300 s.
        ({"baseEjectionTime": "1h"}, {"base_ejection_time": 3600, "max_ejection_time": 3600}, 0),
        ({"maxEjectionPercent": 100}, {"max_ejection_percent": 100}, 0),
        ({"maxEjectionPercent": 0}, {"max_ejection_percent": 10}, 0),
        ({"minHealthPercent": 40}, {}, 40),
        ({"minHealthPercent": 0}, {}, 0),
    ],
)
def test_ejection_is_what_is_written_and_else_istios(
    written: dict[str, Any], changed: dict[str, Any], health: int
) -> None:
    found = cluster("http://127.0.0.1:9000", "files", ("files", {"outlierDetection": written}))
    # Istio's default: the gateway detector is off until it is written.
    defaults = {"consecutive_gateway_failure": 0, "enforcing_consecutive_gateway_failure": 0}
    assert found.outlier == OutlierSpec(**defaults | changed)
    assert found.min_health_percent == health
    assert found.pool == OURS


# Envoy's names of what a detector needs before it ejects; the number counts only if enforced.
ENFORCED_BY = {
    "consecutive_5xx": "enforcing_consecutive_5xx",
    "consecutive_gateway_failure": "enforcing_consecutive_gateway_failure",
    "consecutive_local_origin_failure": "enforcing_consecutive_local_origin_failure",
}


def test_istios_own_blocks_become_what_istio_tells_envoy(
    vectors: Callable[[str], dict[str, Any]],
) -> None:
    cases = vectors("outlier_detection.json")["istio_to_envoy"]
    for case in cases:
        block, envoy = case["outlierDetection"], case["envoy"]
        policy = pool(5) | ({} if block is None else {"outlierDetection": block})
        found = cluster("http://127.0.0.1:9000", "files", ("files", policy)).outlier
        if envoy is None:
            assert found is None, case["name"]
            continue
        told = {name: getattr(found, name) for name in envoy}
        assert told == envoy, case["name"]
        for number, enforcing in ENFORCED_BY.items():
            if enforcing not in envoy and number != "consecutive_gateway_failure":
                assert getattr(found, enforcing) == 100, (case["name"], "Envoy's default")
    assert len(cases) == 8


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ({"simple": "LEAST_REQUEST"}, Algorithm.LEAST_REQUEST),
        ({"simple": "LEAST_CONN"}, Algorithm.LEAST_REQUEST),
        ({"simple": "UNSPECIFIED"}, Algorithm.LEAST_REQUEST),
        ({"simple": "ROUND_ROBIN"}, Algorithm.ROUND_ROBIN),
        ({"simple": "RANDOM"}, Algorithm.RANDOM),
        ({}, Algorithm.LEAST_REQUEST),
    ],
)
def test_calls_are_spread_as_the_rule_says(written: dict[str, Any], wanted: Algorithm) -> None:
    found = cluster("replicas.local", "files", ("files", {"loadBalancer": written}))
    assert found.balance is wanted


def test_all_blocks_of_one_rule_hold_together() -> None:
    policy = pool(5) | {
        "outlierDetection": {"consecutive5xxErrors": 1, "minHealthPercent": 50},
        "loadBalancer": {"simple": "RANDOM"},
    }
    found = cluster("replicas.local", "files", ("*", pool(99)), ("files", policy))
    assert found.pool.max_connections == 5
    assert found.outlier is not None
    assert found.outlier.consecutive_5xx == 1
    assert (found.balance, found.min_health_percent) == (Algorithm.RANDOM, 50)
    assert len(found.endpoints) == 3
