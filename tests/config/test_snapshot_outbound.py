"""Outbound listeners compiled: where their calls go, how secured, and who may make them."""

from __future__ import annotations

import pytest
from support.snapshots import HARM, bootstrap, compiled, document, inspection, policy, problems

from sidecar.config.problem import ConfigError
from sidecar.config.snapshot import Locals, Service, Snapshot
from sidecar.policy.call import Call, Peer
from sidecar.policy.decide import decide
from sidecar.policy.verdict import Permit, Reason, Refusal
from sidecar.upstream.cluster import ClusterSpec, TlsMode, TlsSpec

FILES = "spiffe://cluster.local/ns/mcp-prod/sa/files"
SOCKET = "unix:/run/agent/files.sock"
ONE = f'{{listen: "{SOCKET}", service: files.mesh}}'


def entry(names: str = FILES, more: str = "", endpoint: str = "10.0.0.5") -> str:
    said = f"subjectAltNames: ['{names}'], " if names else ""
    return document(
        "ServiceEntry",
        f"{{hosts: [files.mesh], ports: [{{number: 8443, name: http}}], {said}{more}"
        f"resolution: STATIC, endpoints: [{{address: {endpoint}}}]}}",
    )


def rule(tls: str, name: str = "rule") -> str:
    return document(
        "DestinationRule", f"{{host: files.mesh, trafficPolicy: {{tls: {tls}}}}}", name=name
    )


def outbound(one: str = ONE) -> str:
    return bootstrap().replace("  inbound:", f"  outbound: [{one}]\n  inbound:")


def made(*documents: str, one: str = ONE) -> tuple[Service, ClusterSpec]:
    snapshot: Snapshot = compiled(outbound(one), policy("{action: ALLOW}"), *documents)
    (service,) = (x for x in snapshot.services.values() if x.local is not None)
    (cluster,) = (x for x in snapshot.clusters if x.name == service.cluster)
    return service, cluster


def test_calls_go_to_the_service_over_mtls_with_who_may_answer() -> None:
    service, cluster = made(entry())
    assert service.listen == SOCKET
    assert service.local == Locals(())
    assert (service.authority, service.preserve_host) == (b"files.mesh", False)
    assert [one.address for one in cluster.endpoints] == ["10.0.0.5:8443"]
    assert cluster.tls == TlsSpec(TlsMode.ISTIO_MUTUAL, "files.mesh", (FILES,))


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("allowUids: [1000]", Locals((1000,))),
        ("allowAnyLocalProcess: true", Locals(None)),
    ],
)
def test_it_is_said_which_processes_may_connect(written: str, wanted: Locals) -> None:
    service, _ = made(entry(), one=f'{{listen: "{SOCKET}", service: files.mesh, {written}}}')
    assert service.local == wanted


@pytest.mark.parametrize(
    ("names", "tls", "wanted"),
    [
        (FILES, "{mode: ISTIO_MUTUAL}", TlsSpec(TlsMode.ISTIO_MUTUAL, "files.mesh", (FILES,))),
        (
            FILES,
            "{mode: ISTIO_MUTUAL, subjectAltNames: ['spiffe://a/b'], sni: x.y}",
            TlsSpec(TlsMode.ISTIO_MUTUAL, "x.y", ("spiffe://a/b",)),
        ),
        ("", "{mode: SIMPLE}", TlsSpec(TlsMode.SIMPLE, "files.mesh")),
        ("api.example", "{mode: SIMPLE}", TlsSpec(TlsMode.SIMPLE, "files.mesh", ("api.example",))),
        ("", "{mode: DISABLE}", None),
        (FILES, "{mode: DISABLE}", None),
    ],
)
def test_a_rule_says_it_otherwise(names: str, tls: str, wanted: TlsSpec | None) -> None:
    _, cluster = made(entry(names), rule(tls))
    assert cluster.tls == wanted
    assert cluster.plain == (wanted is None)


@pytest.mark.parametrize(
    "documents",
    [
        [entry("")],
        [entry("", endpoint="127.0.0.1")],
        [entry(""), rule("{mode: ISTIO_MUTUAL}")],
        [entry("files.mesh")],
        [entry(), rule("{mode: ISTIO_MUTUAL, subjectAltNames: [files.mesh]}")],
        [entry(), rule("{mode: ISTIO_MUTUAL, subjectAltNames: ['spiffe://UPPER/x']}")],
    ],
    ids=range(6),
)
def test_without_a_word_on_who_may_answer_nothing_starts(documents: list[str]) -> None:
    (found,) = problems(outbound(), policy("{action: ALLOW}"), *documents)
    assert found.code == "SC0907"
    assert found.is_error
    assert "spiffe" in found.message + found.help


def test_a_service_that_nobody_describes_is_an_error() -> None:
    (found,) = problems(outbound(), policy("{action: ALLOW}"))
    assert found.code == "SC0902"


def test_a_route_elsewhere_must_be_as_safe() -> None:
    other = entry("").replace("files.mesh", "old.mesh").replace("name: one", "name: two")
    route = document(
        "VirtualService",
        "{hosts: [files.mesh], http: [{route: [{destination: {host: old.mesh}}]}]}",
    ).replace("security.istio.io/v1", "networking.istio.io/v1")
    (found,) = problems(outbound(), policy("{action: ALLOW}"), entry(), other, route)
    assert (found.code, "old.mesh" in found.message) == ("SC0907", True)


def call(**more: object) -> Call:
    return Call(Peer(None, "", 0), "POST", "/mcp", "", "files.mesh", (), b"", **more)  # type: ignore[arg-type]


def test_who_may_connect_may_call_and_no_page_of_another_origin_does() -> None:
    service, _ = made(entry(), inspection())
    assert type(decide(call(), service.policy, 0.0)) is Permit
    from_page = call(origin="https://evil.example")
    verdict = decide(from_page, service.policy, 0.0)
    assert isinstance(verdict, Refusal)
    assert verdict.reason is Reason.DENIED


def test_what_is_asked_and_what_comes_back_is_scanned_as_elsewhere() -> None:
    service, _ = made(entry(), inspection())
    assert service.policy.requests.refuse is not None
    assert service.policy.replies.refuse is not None
    harmful = Call(
        Peer(None, "", 0), "POST", "/mcp", "", "files.mesh", (), f'"{HARM}"'.encode(), "text/plain"
    )
    verdict = decide(harmful, service.policy, 0.0)
    assert isinstance(verdict, Refusal)
    assert verdict.reason is Reason.INJECTION


def inbound_to(*documents: str) -> list[str]:
    text = bootstrap('{listen: "127.0.0.1:8443", to: "http://files.mesh"}')
    try:
        warnings = compiled(text, policy("{action: ALLOW}"), *documents).warnings
    except ConfigError as error:
        return [one.code for one in error.problems]
    return [one.code for one in warnings]


def test_an_inbound_in_plaintext_to_another_machine_draws_a_warning_unless_it_is_meant() -> None:
    assert inbound_to(entry("")) == ["SC0704"]
    assert inbound_to(entry("", endpoint="127.0.0.1")) == []
    assert inbound_to(entry("", endpoint="'unix:/run/x'")) == []
    assert inbound_to(entry(""), rule("{mode: DISABLE}")) == []
    assert inbound_to(entry(""), rule("{mode: SIMPLE}")) == []
    assert inbound_to(entry()) == []


def test_a_service_of_the_mesh_is_not_called_over_the_network_in_plaintext() -> None:
    internal = "location: MESH_INTERNAL, "
    assert inbound_to(entry("", internal)) == ["SC0907"]
    assert inbound_to(entry("", internal, "127.0.0.1")) == []
    assert inbound_to(entry(FILES, internal)) == []
