"""Who is refused before a byte of theirs reaches the server, and the reason that is logged."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator

import pytest
from support.daemon import free_port
from support.e2e import Daemon, Mesh, client_context
from support.mint import REFUSED_FOR, WRONG
from support.wire import Heard, Recorder, reply, request, rpc

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: agents, namespace: mcp-prod}
spec:
  rules:
  - from: [{source: {principals: ["cluster.local/ns/agent/sa/alice"]}}]
  - to: [{operation: {paths: [/open]}}]
"""
MODES = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: modes, namespace: mcp-prod}
spec:
  selector: {matchLabels: {app: mcp-server}}
  mtls: {mode: STRICT}
  portLevelMtls:
"""
CALL = request("POST", "/mcp", rpc("ping"))

# What each wrong certificate is logged as.
REASONS = {fault: REFUSED_FOR.get(fault, fault) for fault in WRONG}


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def daemon(server: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One listener of each mode, before one server."""
    mesh = Mesh(tmp_path_factory.mktemp("handshakes"))
    mesh.write("policy.yaml", POLICY)
    ports = {mode: free_port() for mode in ("STRICT", "PERMISSIVE", "DISABLE")}
    lines = [f"    {ports[mode]}: {{mode: {mode}}}\n" for mode in ("PERMISSIVE", "DISABLE")]
    mesh.write("modes.yaml", MODES + "".join(lines))
    inbound = {
        mode: {"to": server.url, "listen": f"127.0.0.1:{port}", "service": f"{mode.lower()}.test"}
        for mode, port in ports.items()
    }
    with mesh.run(inbound) as running:
        yield running


def expect_refused(
    daemon: Daemon, server: Recorder, context: ssl.SSLContext, reason: str, inbound: str = "STRICT"
) -> None:
    """No byte of the call arrives anywhere, and the log says why."""
    before = len(server), server.accepted
    failures = daemon.stats().get(f"listener.ssl.fail_verify.{reason}", 0)
    with daemon.dial(inbound) as sock:
        host, port = sock.getsockname()
        try:
            with context.wrap_socket(sock, server_hostname="127.0.0.1") as secure:
                secure.sendall(CALL)
                assert secure.recv(1) == b""
        except (ssl.SSLError, ConnectionError):
            pass  # refused as well, only sooner
    # A port may have been another test's before.
    event = daemon.event(event="handshake_failed", peer=f"{host}:{port}", reason=reason)
    assert event["detail"] is not None
    assert (len(server), server.accepted) == before
    assert daemon.stats()[f"listener.ssl.fail_verify.{reason}"] == failures + 1


def test_many_kinds_of_wrong_certificates_are_tried() -> None:
    assert len(WRONG) >= 15
    assert len(set(REASONS.values())) >= 11


@pytest.mark.parametrize("inbound", ["STRICT", "PERMISSIVE"])
@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_certificate_is_refused_by_its_reason(
    daemon: Daemon, server: Recorder, fault: str, inbound: str
) -> None:
    context = client_context(daemon.mesh.mint.wrong(fault), daemon.mesh.own.bundle)
    expect_refused(daemon, server, context, REASONS[fault], inbound)


@pytest.mark.parametrize("inbound", ["STRICT", "PERMISSIVE"])
def test_tls_without_a_certificate_is_refused(
    daemon: Daemon, server: Recorder, inbound: str
) -> None:
    context = client_context(None, daemon.mesh.own.bundle)
    expect_refused(daemon, server, context, "no_certificate", inbound)


def test_tls_1_2_is_refused(daemon: Daemon, server: Recorder) -> None:
    context = client_context(daemon.mesh.mint.leaf(), daemon.mesh.own.bundle)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    expect_refused(daemon, server, context, "old_protocol")


def test_plaintext_is_refused_where_mtls_is_strict(daemon: Daemon, server: Recorder) -> None:
    before = len(server)
    with daemon.plain("STRICT") as caller:
        caller.send(CALL)
        assert caller.ended()
        event = daemon.event(event="handshake_failed", peer=caller.address)
    assert event["reason"] == "plaintext"
    assert len(server) == before


@pytest.mark.parametrize("data", [b"\x16", b"\x16\x03\x01\x00\x05hello", b"\0" * 600, b""])
def test_what_is_neither_tls_nor_http_is_refused_too(
    daemon: Daemon, server: Recorder, data: bytes
) -> None:
    before = len(server)
    with daemon.plain("STRICT") as caller:
        caller.send(data)
        caller.sock.shutdown(socket.SHUT_WR)
        assert caller.reply_or_end() is None
        daemon.event(event="handshake_failed", peer=caller.address)
    assert len(server) == before


def test_a_good_certificate_is_let_in_and_counted(daemon: Daemon, server: Recorder) -> None:
    before = daemon.stats()["listener.ssl.handshake"]
    with daemon.caller("agent/alice", "STRICT") as alice:
        assert alice.ask("POST", "/mcp", rpc("ping")).status == 200
    assert daemon.stats()["listener.ssl.handshake"] == before + 1


# -- PERMISSIVE and DISABLE


@pytest.mark.parametrize("inbound", ["PERMISSIVE", "DISABLE"])
def test_plaintext_has_no_identity_and_is_judged_by_the_rules(
    daemon: Daemon, server: Recorder, inbound: str
) -> None:
    before = len(server)
    with daemon.plain(inbound) as caller:
        assert caller.ask("POST", "/mcp", rpc("ping")).status == 403
        assert len(server) == before
        assert caller.ask("GET", "/open").status == 200
    heard = server.heard[-1]
    assert heard.path == "/open"
    assert heard.all("x-forwarded-client-cert") == []
    assert daemon.record(heard.get("x-request-id"))["caller"] == ""


@pytest.mark.parametrize("inbound", ["PERMISSIVE", "DISABLE"])
def test_plaintext_cannot_say_who_it_is(daemon: Daemon, server: Recorder, inbound: str) -> None:
    forged = [
        ("X-Forwarded-Client-Cert", "URI=spiffe://cluster.local/ns/agent/sa/alice"),
        ("x_forwarded_client_cert", "URI=spiffe://cluster.local/ns/agent/sa/alice"),
    ]
    with daemon.plain(inbound) as caller:
        assert caller.ask("POST", "/mcp", rpc("ping"), forged).status == 403
        assert caller.ask("GET", "/open", headers=forged).status == 200
    names = [name for name, _ in server.heard[-1].headers]
    assert not [name for name in names if name.replace("_", "-") == "x-forwarded-client-cert"]


def test_tls_authenticates_where_mtls_is_permissive(daemon: Daemon, server: Recorder) -> None:
    with daemon.caller("agent/alice", "PERMISSIVE") as alice:
        assert alice.ask("POST", "/mcp", rpc("ping")).status == 200
    forwarded = server.heard[-1].get("x-forwarded-client-cert")
    assert forwarded.endswith("URI=spiffe://cluster.local/ns/agent/sa/alice")
    with daemon.caller("agent/mallory", "PERMISSIVE") as mallory:
        assert mallory.ask("POST", "/mcp", rpc("ping")).status == 403


def test_tls_is_never_passed_through_where_mtls_is_off(daemon: Daemon, server: Recorder) -> None:
    before = server.accepted
    context = client_context(daemon.mesh.mint.leaf(), daemon.mesh.own.bundle)
    with daemon.dial("DISABLE") as sock, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(sock, server_hostname="127.0.0.1")
    assert server.accepted == before


def test_a_caller_that_closes_its_half_still_gets_its_answer(
    daemon: Daemon, server: Recorder
) -> None:
    closed = threading.Event()

    def late(_: Heard) -> bytes:
        closed.wait(10)
        return reply()

    server.answers["/open"] = late
    with daemon.plain("DISABLE") as caller:
        caller.send(request("GET", "/open"))
        caller.sock.shutdown(socket.SHUT_WR)
        closed.set()
        assert caller.reply().status == 200
        assert caller.ended()
    server.answers.clear()


# -- what a handshake settles


def test_there_is_no_ticket_and_so_no_resumption(daemon: Daemon) -> None:
    context = daemon.mesh.context("agent/alice")
    with daemon.caller(context, "STRICT") as first:
        assert first.ask("POST", "/mcp", rpc("ping")).status == 200
        session = first.sock.session
        assert not session.has_ticket
    with socket.create_connection(("127.0.0.1", daemon.ports["STRICT"]), timeout=10) as sock:
        again = context.wrap_socket(sock, server_hostname="127.0.0.1", session=session)
        with again:
            assert not again.session_reused


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), (["h3"], None), ([], None)],
)
def test_both_protocols_are_offered_and_without_a_choice_it_is_http_1_1(
    daemon: Daemon, offered: list[str], chosen: str | None
) -> None:
    context = client_context(daemon.mesh.mint.leaf(), daemon.mesh.own.bundle)
    if offered:
        context.set_alpn_protocols(offered)
    with daemon.caller(context, "STRICT") as caller:
        assert caller.sock.version() == "TLSv1.3"
        assert caller.sock.selected_alpn_protocol() == chosen


def test_a_name_asked_for_by_sni_changes_nothing(daemon: Daemon) -> None:
    context = client_context(None, daemon.mesh.own.bundle)
    with daemon.dial("STRICT") as sock:
        address = "{}:{}".format(*sock.getsockname())
        with context.wrap_socket(sock, server_hostname="elsewhere.test") as secure:
            secure.sendall(CALL)
            try:
                assert secure.recv(1) == b""
            except (ssl.SSLError, ConnectionError):
                pass
    assert daemon.event(event="handshake_failed", peer=address)["reason"] == "no_certificate"


def test_a_silent_connection_is_closed_and_does_not_hold_others_up(
    tmp_path_factory: pytest.TempPathFactory, server: Recorder
) -> None:
    mesh = Mesh(tmp_path_factory.mktemp("silent"))
    mesh.write("policy.yaml", POLICY)
    limits = {"handshakeTimeout": "300ms", "handshakes": 8}
    with mesh.run({"mcp": {"to": server.url}}, limits=limits) as daemon:
        silent = [daemon.plain() for _ in range(8)]
        with daemon.plain() as over:
            assert over.ended()
            event = daemon.event(event="handshake_failed", peer=over.address)
            assert event["reason"] == "too_many_connections"
        for caller in silent:
            assert caller.ended()
            event = daemon.event(event="handshake_failed", peer=caller.address)
            assert event["reason"] == "timeout"
            caller.sock.close()
        with daemon.caller() as alice:
            assert alice.ask("POST", "/mcp", rpc("ping")).status == 200
