"""Where a workload's calls go: its inbounds and the documents of servers together."""

from __future__ import annotations

import pytest
from support.snapshots import ONE, bootstrap, codes, compiled, document, entry, policy, problems

from sidecar.config.snapshot import Snapshot


def clusters_of(snapshot: Snapshot) -> dict[str, tuple[str, ...]]:
    """Where the calls to each listener go."""
    found = {one.name: tuple(e.address for e in one.endpoints) for one in snapshot.clusters}
    assert len(found) == len(snapshot.clusters)
    return {listen: found[one.cluster] for listen, one in snapshot.services.items()}


@pytest.mark.parametrize("service", ["", ", service: tools"])
def test_two_servers_of_one_services_name_are_told_apart(service: str) -> None:
    inbounds = [
        f'{{listen: "127.0.0.1:{port}", to: "http://127.0.0.1:900{port}"{service}}}'
        for port in (1, 2, 3)
    ]
    snapshot = compiled(bootstrap(*inbounds))
    assert clusters_of(snapshot) == {
        f"127.0.0.1:{port}": (f"127.0.0.1:900{port}",) for port in (1, 2, 3)
    }
    assert snapshot.clusters[0].name == ("tools" if service else "127.0.0.1")


def test_two_ways_to_one_server_are_one_cluster() -> None:
    snapshot = compiled(
        bootstrap(
            '{listen: "127.0.0.1:1", to: "http://127.0.0.1:9000"}',
            '{listen: "127.0.0.1:2", to: "http://127.0.0.1:9000"}',
        )
    )
    assert len(snapshot.clusters) == 1
    assert [one.cluster for one in snapshot.services.values()] == ["127.0.0.1"] * 2


def test_services_that_share_an_endpoint_are_told_apart() -> None:
    hosts = {"a.local": ["127.0.0.1"], "b.local": ["127.0.0.2", "127.0.0.3"]}
    hosts["c.local"] = ["127.0.0.2", "127.0.0.4"]
    inbounds = [
        f'{{listen: "127.0.0.1:{port}", to: {host}, service: tools}}'
        for port, host in enumerate(hosts, 1)
    ]
    snapshot = compiled(bootstrap(*inbounds), *(entry(host, *ips) for host, ips in hosts.items()))
    assert clusters_of(snapshot) == {
        f"127.0.0.1:{port}": tuple(f"{ip}:80" for ip in ips)
        for port, ips in enumerate(hosts.values(), 1)
    }


def test_the_rule_of_a_service_governs_all_its_clusters() -> None:
    rule = document(
        "DestinationRule",
        "{host: tools, trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}}",
    )
    inbounds = [
        f'{{listen: "127.0.0.1:{n}", to: "http://127.0.0.1:900{n}", service: tools}}'
        for n in (1, 2)
    ]
    snapshot = compiled(bootstrap(*inbounds, ONE), rule)
    assert [one.pool.max_connections for one in snapshot.clusters] == [7, 7, 1024]


def test_a_target_that_nobody_knows_is_a_problem_at_its_inbound() -> None:
    (found,) = problems(bootstrap('{listen: "127.0.0.1:1", to: nobody.local}'))
    assert (found.code, found.is_error) == ("SC0902", True)
    assert (found.where.line, found.where.file) == (5, "f.yaml")
    assert "`nobody.local`" in found.message
    assert "ServiceEntry" in found.message


def test_two_listeners_on_any_free_port_cannot_be_told_apart() -> None:
    (found,) = problems(
        bootstrap(
            '{listen: "127.0.0.1:0", to: "http://127.0.0.1:9000"}',
            '{listen: "127.0.0.1:0", to: "http://127.0.0.1:9001"}',
        )
    )
    assert (found.code, found.is_error, found.where.line) == ("SC0705", True, 5)
    text = bootstrap(
        '{listen: "127.0.0.1:0", to: "http://127.0.0.1:9000"}',
        '{listen: "[::1]:0", to: "http://127.0.0.1:9001"}',
    )
    assert len(compiled(text).services) == 2


def test_all_problems_are_told_at_once() -> None:
    found = problems(
        bootstrap(
            '{listen: "127.0.0.1:1", to: nobody.local}',
            ONE,
            '{listen: "127.0.0.1:2", to: "some.local:81"}',
        ),
        entry("some.local", "127.0.0.1"),
        policy("{selector: {matchLabels: {app: flies}}}"),
        document("Inspection", '{patterns: ["\u115f\u115f\u115f\u115f", "harm\\0ful"]}'),
    )
    assert sorted(codes(found)) == ["SC0503", "SC0503", "SC0901", "SC0902", "SC0902"]
    assert [one.is_error for one in found if one.code == "SC0901"] == [False]
