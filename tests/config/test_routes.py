"""Services and their VirtualServices together: which clusters there are, and what leads where."""

from __future__ import annotations

import pytest

from sidecar.config.files import load
from sidecar.config.problem import ConfigError
from sidecar.config.snapshot import Service, Snapshot, compile_snapshot
from sidecar.upstream.affinity import By, HashOn
from sidecar.upstream.balance import Algorithm
from sidecar.upstream.edit import edited
from sidecar.upstream.retry import INBOUND, OUTBOUND
from sidecar.upstream.route import Action

BOOTSTRAP = """\
apiVersion: sidecar/v1
kind: Sidecar
metadata: {name: files, namespace: prod}
spec:
  inbound: [{listen: "127.0.0.1:8443", to: TO}]
"""
ENTRY = """
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: files}
spec:
  hosts: [files.local]
  ports: [{number: 80, name: http}, {number: 81, name: more}]
  resolution: STATIC
  endpoints:
  - {address: 127.0.0.1, labels: {version: v1, zone: a}}
  - {address: 127.0.0.2, labels: {version: v1, zone: b}}
  - {address: 127.0.0.3, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shadow}
spec:
  hosts: ["*.shadow.local"]
  ports: [{number: 80, name: http}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.9}]
"""
RULE = """
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: files}
spec:
  host: files.local
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    portLevelSettings: [{port: {number: 81}, loadBalancer: {simple: RANDOM}}]
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}, trafficPolicy: {outlierDetection: {}}}
"""


def virtual(http: str, name: str = "files", hosts: str = "files.local") -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [{hosts}]
  http: [{http}]
"""


CANARY = (
    "{route: [{destination: {host: files.local, subset: v1}, weight: 90},"
    " {destination: {host: Files.local, subset: v2}, weight: 10}]}"
)
PLAIN = "{route: [{destination: {host: files.local}}]}"
OTHER = ", {destination: {host: files.local, subset: v2}, weight: 1}"


def compiled(*documents: str, to: str = "http://files.local") -> Snapshot:
    text = BOOTSTRAP.replace("TO", to) + "".join(documents)
    loaded = load([], given={"test.yaml": text.encode()})
    assert not loaded.errors, loaded.errors
    assert loaded.bootstrap is not None
    return compile_snapshot(loaded.bootstrap, loaded.documents)


def service(snapshot: Snapshot) -> Service:
    (found,) = snapshot.services.values()
    return found


def action(snapshot: Snapshot, number: int = 0) -> Action:
    routes = service(snapshot).routes
    assert routes is not None
    return routes.routes[number].action


def refused(*documents: str, to: str = "http://files.local") -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as error:
        compiled(*documents, to=to)
    return [(one.code, one.message) for one in error.value.problems if one.is_error]


def endpoints(snapshot: Snapshot) -> dict[str, list[str]]:
    return {one.name: [end.address for end in one.endpoints] for one in snapshot.clusters}


def test_without_a_virtual_service_there_is_one_way() -> None:
    found = service(compiled(ENTRY, RULE))
    assert found.routes is None
    assert [one.cluster for one in found.way.action.destinations] == ["files.local"]
    assert found.way.action.retry.retry_on == OUTBOUND
    assert found.spread


def test_one_server_has_the_retries_of_an_inbound_and_is_not_spread() -> None:
    found = service(compiled(to="http://127.0.0.1:9000"))
    assert (found.way.action.retry.retry_on, found.way.action.retry.attempts) == (INBOUND, 2)
    assert not found.spread


def test_subsets_become_clusters_of_the_endpoints_with_their_labels() -> None:
    snapshot = compiled(ENTRY, RULE, virtual(CANARY))
    assert endpoints(snapshot) == {
        "files.local": ["127.0.0.1:80", "127.0.0.2:80", "127.0.0.3:80"],
        "files.local|v1": ["127.0.0.1:80", "127.0.0.2:80"],
        "files.local|v2": ["127.0.0.3:80"],
    }
    found = action(snapshot).destinations
    assert [(one.host, one.cluster, one.weight, one.authority) for one in found] == [
        ("files.local", "files.local|v1", 90, b""),
        ("files.local", "files.local|v2", 10, b""),
    ]
    _, first, second = snapshot.clusters
    assert (first.balance, first.outlier) == (Algorithm.ROUND_ROBIN, None)
    assert second.balance is Algorithm.ROUND_ROBIN, "what a subset does not say it inherits"
    assert second.outlier is not None


def test_a_subset_without_a_route_has_a_cluster_for_the_sessions_that_live_there() -> None:
    snapshot = compiled(
        ENTRY, RULE, virtual("{route: [{destination: {host: files.local, subset: v2}}]}")
    )
    assert list(endpoints(snapshot)) == ["files.local", "files.local|v2", "files.local|v1"]


def test_a_port_has_settings_of_its_own() -> None:
    snapshot = compiled(
        ENTRY,
        RULE,
        virtual("{route: [{destination: {host: files.local, port: {number: 81}}}]}"),
    )
    assert endpoints(snapshot)["files.local:81"] == ["127.0.0.1:81", "127.0.0.2:81", "127.0.0.3:81"]
    by_name = {one.name: one.balance for one in snapshot.clusters}
    assert by_name["files.local:81"] is Algorithm.RANDOM
    assert by_name["files.local"] is Algorithm.ROUND_ROBIN
    assert service(compiled(ENTRY, RULE, to="http://files.local:81")).cluster == "files.local"


def test_a_route_may_lead_to_another_service_by_a_wildcard_too() -> None:
    snapshot = compiled(ENTRY, virtual("{route: [{destination: {host: a.shadow.local}}]}"))
    assert endpoints(snapshot)["a.shadow.local"] == ["127.0.0.9:80"]
    (one,) = action(snapshot).destinations
    assert (one.cluster, one.authority) == ("a.shadow.local", b"a.shadow.local")


def test_a_mirror_is_a_cluster_like_others() -> None:
    http = "{route: [{destination: {host: files.local}}], mirror: {host: b.shadow.local}}"
    snapshot = compiled(ENTRY, virtual(http))
    assert [one.cluster for one in action(snapshot).mirrors] == ["b.shadow.local"]
    assert "b.shadow.local" in endpoints(snapshot)


def test_where_a_fault_is_injected_neither_timeout_nor_retries_act() -> None:
    fault = "fault: {abort: {httpStatus: 500}}"
    http = f"{{route: [{{destination: {{host: files.local}}}}], timeout: 5s, {fault}}}"
    found = action(compiled(ENTRY, virtual(http)))
    assert (found.timeout, found.retry.attempts) == (0.0, 0)
    assert found.fault is not None


def test_a_hash_reaches_the_destination_and_keeps_retries_where_they_were() -> None:
    rule = RULE.replace("{simple: ROUND_ROBIN}", "{consistentHash: {usePrincipal: true}}")
    snapshot = compiled(ENTRY, rule, virtual(PLAIN))
    (one,) = action(snapshot).destinations
    assert one.hash_on == HashOn(By.PRINCIPAL)
    assert not action(snapshot).retry.avoid_previous
    assert not service(compiled(ENTRY, rule)).way.action.retry.avoid_previous


def test_of_several_destinations_with_a_hash_retries_go_to_another_endpoint() -> None:
    rule = RULE.replace("{simple: ROUND_ROBIN}", "{consistentHash: {usePrincipal: true}}")
    found = action(compiled(ENTRY, rule, virtual(CANARY)))
    assert all(one.hash_on is not None for one in found.destinations)
    assert found.retry.avoid_previous


@pytest.mark.parametrize(
    ("route", "goal", "others", "wanted"),
    [
        # A single destination has the last word, and what is removed goes before both.
        ("set: {x: r}", "set: {x: d}", "", ["x: d"]),
        ("add: {x: r}", "set: {x: d}", "", ["x: d"]),
        ("set: {x: r}", "add: {x: d}", "", ["x: r", "x: d"]),
        ("remove: [x]", "set: {x: d}", "", ["x: d"]),
        ("set: {x: r}", "remove: [x]", "", ["x: r"]),
        ("remove: [x]", "remove: [y]", "", []),
        # Of several, the route edits after the one that was chosen.
        ("set: {x: r}", "set: {x: d}", OTHER, ["x: r"]),
        ("add: {x: r}", "set: {x: d}", OTHER, ["x: d", "x: r"]),
        ("remove: [x]", "set: {x: d}", OTHER, []),
        ("set: {x: r}", "remove: [x]", OTHER, ["x: r"]),
    ],
)
@pytest.mark.parametrize("way", ["request", "response"])
def test_edits_of_a_route_and_of_its_destination_meet_in_istios_order(
    route: str, goal: str, others: str, wanted: list[str], way: str
) -> None:
    destination = (
        f"{{destination: {{host: files.local}}, weight: 1, headers: {{{way}: {{{goal}}}}}}}"
    )
    http = f"{{route: [{destination}{others}], headers: {{{way}: {{{route}}}}}}}"
    found = action(compiled(ENTRY, RULE, virtual(http)))
    one = found.destinations[0]
    edits = (one.request, found.request) if way == "request" else (one.reply, found.reply)
    lines = edited([b"x: caller\r\n"], *edits)
    assert [line.decode().strip() for line in lines] == wanted


def test_a_route_by_tool_needs_messages() -> None:
    tool = "{match: [{mcp: {tool: {exact: search}}}], route: [{destination: {host: files.local}}]}"
    assert service(compiled(ENTRY, virtual(tool))).policy.needs_messages
    assert not service(compiled(ENTRY, virtual(PLAIN))).policy.needs_messages


@pytest.mark.parametrize(
    ("destination", "message"),
    [
        ("{host: nobody.local}", "no ServiceEntry has it"),
        ("{host: files.local, port: {number: 82}}", "no port 82"),
        ("{host: files.local, subset: v3}", "has no subset `v3`: its DestinationRule's"),
        ("{host: a.shadow.local, subset: v1}", "`subsets` are none"),
    ],
)
def test_a_route_that_leads_nowhere_is_an_error(destination: str, message: str) -> None:
    ((code, told),) = refused(ENTRY, RULE, virtual(f"{{route: [{{destination: {destination}}}]}}"))
    assert code == "SC0905"
    assert message in told


def test_a_subset_of_which_no_endpoint_has_the_labels_is_an_error() -> None:
    rule = RULE.replace("version: v2", "version: v9")
    ((code, told),) = refused(ENTRY, rule, virtual(CANARY))
    assert code == "SC0905"
    assert "no endpoint of `files.local` has the labels of its subset `v2`" in told.lower()


def test_a_single_server_has_no_subsets_with_labels() -> None:
    rule = RULE.replace("host: files.local", 'host: "127.0.0.1"')
    http = '{route: [{destination: {host: "127.0.0.1", subset: v1}}]}'
    problems = refused(rule, virtual(http, hosts='"127.0.0.1"'), to="http://127.0.0.1:9000")
    assert {code for code, _ in problems} == {"SC0905"}


def test_a_second_virtual_service_of_a_host_is_an_error() -> None:
    ((code, told),) = refused(ENTRY, virtual(PLAIN), virtual(PLAIN, "second", "Files.local"))
    assert code == "SC0904"
    assert "a second VirtualService" in told


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearest_host_decides_which_virtual_service_routes(order: tuple[int, int]) -> None:
    documents = [virtual(CANARY), virtual(PLAIN, "all", '"*.local"')]
    snapshot = compiled(ENTRY, RULE, *(documents[index] for index in order))
    assert len(action(snapshot).destinations) == 2
    assert [one.code for one in snapshot.warnings] == ["SC0906"]


def test_rules_of_one_host_add_up_and_contradictions_are_errors() -> None:
    first = RULE.split("  subsets:")[0]
    more = RULE.split("  trafficPolicy:")[0].replace("name: files", "name: more")
    more += "  subsets:" + RULE.split("  subsets:")[1]
    snapshot = compiled(ENTRY, first, more, virtual(CANARY))
    assert snapshot.clusters[1].balance is Algorithm.ROUND_ROBIN
    assert "files.local|v2" in endpoints(snapshot)
    again = RULE.replace("name: files}", "name: again}")
    ((code, told),) = refused(ENTRY, RULE, again)
    assert code == "SC0904"
    assert "a second DestinationRule" in told


def test_one_name_for_a_service_and_for_another_route_is_an_error() -> None:
    second = """
  - {listen: "127.0.0.1:8444", to: "http://127.0.0.1:9000", service: a.shadow.local}
"""
    bootstrap_inbound = '  inbound:\n  - {listen: "127.0.0.1:8443", to: files.local}' + second
    text = (
        BOOTSTRAP.split("  inbound:")[0]
        + bootstrap_inbound
        + ENTRY
        + virtual("{route: [{destination: {host: a.shadow.local}}]}")
    )
    loaded = load([], given={"test.yaml": text.encode()})
    assert loaded.bootstrap is not None
    snapshot = compile_snapshot(loaded.bootstrap, loaded.documents)
    assert sorted(one.name for one in snapshot.clusters) == [
        "a.shadow.local",
        "a.shadow.local|127.0.0.1:9000",
        "files.local",
    ]
