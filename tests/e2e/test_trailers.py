"""Trailers through running sidecars, from one protocol to the other and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.e2e import Mesh
from support.server2 import Recorder2
from support.speaker import Caller2
from support.two_sidecars import HOST, Pair
from support.wire import JSON, Heard, Recorder, tool

ANYBODY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: anybody, namespace: mcp-prod}
spec: {rules: [{}]}
"""
UPGRADE = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: upgrade, namespace: mcp-prod}
spec:
  host: 127.0.0.1
  trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}
"""
SUMS = [("x-sum", "1"), ("grpc-status", "0")]
LINES = [b"x-sum: 1", b"grpc-status: 0"]
SENT = [*SUMS, ("set-cookie", "a=b"), ("content-type", "text/html")]
TAKES = [*JSON, ("te", "trailers")]


def summed(_: Heard) -> bytes:
    """A reply in chunks with trailers behind it, two of which may not stand there."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in SENT).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"4\r\nbody\r\n0\r\n" + lines + b"\r\n"


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    mesh = Mesh(tmp_path)
    mesh.write("anybody.yaml", ANYBODY)
    return mesh


def test_from_a_server_of_http1_they_reach_who_takes_them(mesh: Mesh) -> None:
    with Recorder(summed) as server, mesh.run({"mcp": {"to": server.url}}) as daemon:
        with Caller2.secure(daemon.port, mesh.context("agent/alice")) as alice:
            told = alice.call("POST", "/mcp", tool("search"), JSON)
            assert (told.body, told.trailers, told.ended) == (b"body", SUMS, True)
        with daemon.caller() as old:
            assert old.ask("POST", "/mcp", tool("search"), TAKES).body == b"body"
            assert old.trailers == LINES
            assert old.ask("POST", "/mcp", tool("search")).body == b"body"
            assert old.trailers == []


def test_from_a_server_of_http2_they_reach_who_takes_them_and_it_hears_its_callers(
    mesh: Mesh,
) -> None:
    mesh.write("upgrade.yaml", UPGRADE)
    with (
        Recorder2(trailers=SENT) as server,
        mesh.run({"mcp": {"to": server.url, "h2c": True}}) as daemon,
    ):
        with daemon.caller() as old:
            assert old.ask("POST", "/mcp", tool("search"), TAKES).body == b"ok"
            assert old.trailers == LINES
        with Caller2.secure(daemon.port, mesh.context("agent/alice")) as alice:
            alice.sock.sendall(alice.ask("POST", "/mcp", tool("search"), JSON, end=False))
            alice.sock.sendall(alice.trail(1, [*SUMS, ("authorization", "no")]))
            told = alice.told(1)
            assert (told.body, told.trailers, told.ended) == (b"ok", SUMS, True)
        assert [heard.trailers for heard in server.heard] == [None, SUMS]
        assert [heard.body for heard in server.heard] == [tool("search")] * 2
        assert "a fault in" not in daemon.said()


def test_they_cross_two_sidecars_over_http2_and_mutual_tls(tmp_path: Path) -> None:
    upgrade = "---\n" + UPGRADE.replace("127.0.0.1", HOST).replace("mcp-prod", "agent")
    with (
        Recorder(summed) as server,
        Pair(tmp_path).run(server.url, more=upgrade) as (near, far),
        near.local() as one,
    ):
        for _ in range(3):
            assert one.ask("POST", "/mcp", tool("search"), TAKES).body == b"body"
            assert one.trailers == LINES
        assert far.stats()["server.total_connections"] == 1
        assert "te" not in dict(server.heard[0].headers)
        assert "a fault in" not in near.said() + far.said()


def test_a_body_of_another_length_costs_its_own_stream_alone(mesh: Mesh) -> None:
    with Recorder() as server, mesh.run({"mcp": {"to": server.url}}) as daemon:
        with Caller2.secure(daemon.port, mesh.context("agent/alice")) as alice:
            for length in "3", "5":
                fields = [*JSON, ("content-length", length)]
                assert alice.call("POST", "/mcp", b"four", fields).status == 400
            assert alice.call("POST", "/mcp", tool("search"), JSON).status == 200
            assert alice.goaway is None
        assert [heard.body for heard in server.heard] == [tool("search")]
