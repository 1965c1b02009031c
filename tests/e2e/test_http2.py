"""HTTP/2 through a running sidecar: agreed on at the handshake, identified, drained, upgraded."""

from __future__ import annotations

import signal
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.e2e import Daemon, Mesh
from support.server2 import Recorder2
from support.speaker import Caller2
from support.two_sidecars import HOST, Near, Pair
from support.wire import Heard, Recorder, eventually, reply, tool

ALICE_MAY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: alice, namespace: mcp-prod}
spec: {rules: [{from: [{source: {principals: ["cluster.local/ns/agent/sa/alice"]}}]}]}
"""
UPGRADE = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: upgrade, namespace: mcp-prod}
spec:
  host: 127.0.0.1
  trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}
"""
FRAMED = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: framed, namespace: mcp-prod}}
spec:
  hosts: [framed.local]
  ports: [{{number: {port}, name: http2, protocol: HTTP2}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1}}]
"""
JSON = [("content-type", "application/json")]


@contextmanager
def running(mesh: Mesh, to: str, **inbound: object) -> Iterator[Daemon]:
    with mesh.run({"mcp": {"to": to, **inbound}}) as daemon:
        yield daemon


@pytest.fixture
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    mesh = Mesh(tmp_path_factory.mktemp("http2"))
    mesh.write("alice.yaml", ALICE_MAY)
    return mesh


def caller(daemon: Daemon, mesh: Mesh, who: str = "agent/alice") -> Caller2:
    return Caller2.secure(daemon.port, mesh.context(who))


def offered(daemon: Daemon, mesh: Mesh, *protocols: str) -> str | None:
    """Return what is agreed on where a caller offers *protocols*."""
    context: ssl.SSLContext = mesh.context("agent/alice")
    context.set_alpn_protocols(list(protocols))
    with context.wrap_socket(daemon.dial(), server_hostname="127.0.0.1") as sock:
        return sock.selected_alpn_protocol()


def test_what_is_spoken_is_agreed_on_and_each_call_is_judged_by_its_caller(mesh: Mesh) -> None:
    with Recorder() as server, running(mesh, server.url) as daemon:
        assert offered(daemon, mesh, "h2", "http/1.1") == "h2"
        assert offered(daemon, mesh, "http/1.1") == "http/1.1"
        with caller(daemon, mesh) as alice, caller(daemon, mesh, "agent/bob") as bob:
            told = alice.call("POST", "/mcp", tool("search", q="x" * 20_000), JSON)
            assert (told.status, told.headers["content-type"]) == (200, "application/json")
            refused = bob.call("POST", "/mcp", tool("search"), JSON)
            assert (refused.status, b"RBAC: access denied" in refused.body) == (403, True)
        [heard] = server.heard
        assert heard.body == tool("search", q="x" * 20_000)
        assert "sa/alice" in heard.get("x-forwarded-client-cert")
        assert daemon.event(status=403)["caller"].endswith("sa/bob")  # type: ignore[arg-type]
        assert "a fault in" not in daemon.said()


def test_an_inbound_may_offer_http1_alone(mesh: Mesh) -> None:
    with Recorder() as server, running(mesh, server.url, http2=False) as daemon:
        assert offered(daemon, mesh, "h2", "http/1.1") == "http/1.1"


def test_without_tls_it_is_spoken_by_choice_beside_http1(mesh: Mesh) -> None:
    mesh.write("alice.yaml", ALICE_MAY.replace("{rules: [{from:", "{rules: [{}, {from:"))
    with (
        Recorder() as server,
        mesh.run({"mcp": {"to": server.url, "h2c": True}}, mtls="DISABLE") as daemon,
    ):
        with Caller2(daemon.dial()) as plain:
            assert plain.call("GET", "/mcp").status == 200
        with daemon.plain() as old:
            assert old.ask("GET", "/mcp").status == 200


def test_streams_pass_beside_each_other_and_a_leaver_stops_its_own(mesh: Mesh) -> None:
    gone = threading.Event()

    def events(heard: Heard) -> bytes:
        heard.socket.sendall(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n"
        )
        if not heard.socket.recv(1):
            gone.set()
        return b""

    with Recorder() as server, running(mesh, server.url) as daemon, caller(daemon, mesh) as alice:
        server.answers["/events"] = events
        alice.sock.sendall(alice.ask("GET", "/events"))
        stream = alice.replies[1]
        while not stream.body:
            assert alice.more()
        assert alice.call("GET", "/mcp").status == 200
        assert not stream.ended
        alice.h2.reset_stream(1, 8)
        alice.sock.sendall(alice.out())
        assert gone.wait(10)
        assert alice.call("GET", "/mcp").status == 200


def test_a_reply_that_breaks_off_is_reset(mesh: Mesh) -> None:
    def broken(heard: Heard) -> bytes:
        heard.socket.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        return b""

    with Recorder() as server, running(mesh, server.url) as daemon, caller(daemon, mesh) as alice:
        server.answers["/broken"] = broken
        told = alice.call("GET", "/broken")
        assert (told.body, told.ended, told.reset) == (b"half", False, 2)
        assert alice.call("GET", "/mcp").status == 200


def test_a_large_reply_is_whole_however_slowly_it_is_taken(mesh: Mesh) -> None:
    body = bytes(range(256)) * 20_000

    def large(_: Heard) -> bytes:
        return reply(body, headers=(("content-type", "application/octet-stream"),))

    with Recorder(large) as server, running(mesh, server.url) as daemon:
        context = mesh.context("agent/alice")
        context.set_alpn_protocols(["h2"])
        sock = context.wrap_socket(daemon.dial(), server_hostname="127.0.0.1")
        with Caller2(sock, window=5_000) as alice:
            assert alice.call("GET", "/mcp").body == body


def test_a_drain_says_goaway_and_lets_what_runs_finish(mesh: Mesh) -> None:
    go = threading.Event()

    def late(_: Heard) -> bytes:
        go.wait(10)
        return reply()

    with Recorder(late) as server, running(mesh, server.url) as daemon, caller(daemon, mesh) as one:
        one.sock.sendall(one.ask("GET", "/mcp"))
        eventually(lambda: len(server), "the call")
        daemon.process.signal(signal.SIGTERM)
        while one.goaway is None:
            assert one.more()
        assert one.goaway == (1, 0)
        go.set()
        while not one.replies[1].ended:
            assert one.more()
        assert one.replies[1].status == 200
        one.sock.close()
        assert daemon.process.wait(15) == 0


def test_a_stream_whose_permit_a_reload_takes_back_ends(mesh: Mesh) -> None:
    def events(heard: Heard) -> bytes:
        heard.socket.sendall(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n"
        )
        heard.socket.recv(1)
        return b""

    with (
        Recorder(events) as server,
        running(mesh, server.url) as daemon,
        caller(daemon, mesh) as alice,
    ):
        alice.sock.sendall(alice.ask("GET", "/mcp"))
        while not alice.replies[1].body:
            assert alice.more()
        mesh.write("alice.yaml", ALICE_MAY.replace("sa/alice", "sa/bob"))
        daemon.reload()
        told = alice.told(1)
        assert (told.ended, told.reset) == (False, 2)
        assert alice.call("GET", "/mcp").status == 403


# -- to the server


def test_an_upgrade_in_plaintext_acts_where_the_inbound_says_so(mesh: Mesh) -> None:
    mesh.write("upgrade.yaml", UPGRADE)
    with Recorder2() as server, running(mesh, server.url, h2c=True) as daemon:
        with caller(daemon, mesh) as alice, daemon.caller() as old:
            for _ in range(5):
                assert alice.call("POST", "/mcp", tool("search"), JSON).body == b"ok"
            assert old.ask("POST", "/mcp", tool("search")).body == b"ok"
            assert old.ask("HEAD", "/mcp").status == 200
        assert server.accepted == 1
        assert {one.headers["x-request-id"] for one in server.heard} != {""}
        assert "sa/alice" in server.heard[0].headers["x-forwarded-client-cert"]
        assert server.heard[0].body == tool("search")
        assert "a fault in" not in daemon.said()


def test_a_port_that_is_said_to_be_of_http_2_is_spoken_to_so(mesh: Mesh) -> None:
    with Recorder2() as server:
        mesh.write("framed.yaml", FRAMED.format(port=server.url.rpartition(":")[2]))
        with running(mesh, "http://framed.local") as daemon, caller(daemon, mesh) as alice:
            assert alice.call("POST", "/mcp", tool("search"), JSON).body == b"ok"
        assert [one.body for one in server.heard] == [tool("search")]
        assert "SC0613" not in daemon.said()


def test_an_upgrade_in_plaintext_without_that_is_told_and_does_not_act(mesh: Mesh) -> None:
    mesh.write("upgrade.yaml", UPGRADE)
    with Recorder() as server, running(mesh, server.url) as daemon:
        with daemon.caller() as alice:
            assert alice.ask("GET", "/mcp").status == 200
        assert "SC0613" in daemon.said()
        assert server.heard


def test_two_sidecars_agree_on_it_and_share_one_connection(tmp_path: Path) -> None:
    upgrade = "---\n" + UPGRADE.replace("127.0.0.1", HOST).replace("mcp-prod", "agent")

    def ask(near: Near, told: list[int]) -> None:
        with near.local() as one:
            told += [one.ask("POST", "/mcp", tool("search")).status for _ in range(10)]

    with Recorder() as server, Pair(tmp_path).run(server.url, more=upgrade) as (near, far):
        told: list[int] = []
        threads = [threading.Thread(target=ask, args=(near, told)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert told == [200] * 80
        assert near.stats()[f"cluster.{HOST}.upstream_cx_total"] == 1
        assert far.stats()["server.total_connections"] == 1
        assert "sa/alice" in server.heard[0].get("x-forwarded-client-cert")
        assert "a fault in" not in near.said() + far.said()
