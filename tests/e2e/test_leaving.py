"""Connections end: a caller leaves, a server closes what is idle, a limit is reached."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.daemon import BOOTSTRAP, Sidecar, free_port, sidecar
from support.raw_caller import Caller, stats
from support.raw_upstream import Connection, RawUpstream, Script, chunk, head, reply

DOCUMENTS = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: alice, namespace: mcp-prod}}
spec:
  rules:
  - from: [{{source: {{principals: ["cluster.local/ns/agent/sa/alice"]}}}}]
  - to: [{{operation: {{ports: ["{plain}"]}}}}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: plain, namespace: mcp-prod}}
spec:
  selector: {{matchLabels: {{app: mcp-server}}}}
  mtls: {{mode: STRICT}}
  portLevelMtls: {{{plain}: {{mode: DISABLE}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: thrice, namespace: mcp-prod}}
spec:
  host: thrice
  trafficPolicy: {{connectionPool: {{http: {{maxRequestsPerConnection: 3}}}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: brief, namespace: mcp-prod}}
spec:
  host: brief
  trafficPolicy: {{connectionPool: {{http: {{idleTimeout: 300ms}}}}}}
"""
EVENT = b'data: {"jsonrpc":"2.0","method":"notifications/message"}\n\n'


def stream_of_events(connection: Connection) -> None:
    connection.send(head(200, "content-type: text/event-stream", "transfer-encoding: chunked"))
    connection.send(chunk(EVENT))
    connection.is_left()


def no_answer(connection: Connection) -> None:
    connection.is_left()


def half_a_body(connection: Connection) -> None:
    connection.send(head(200, "content-length: 100") + b"half")
    connection.is_left()


def slow(connection: Connection) -> None:
    time.sleep(0.3)
    reply(b"for whoever still reads")(connection)


def closes_after(connection: Connection) -> None:
    reply(b"and goodbye")(connection)
    connection.close()


SCRIPTS: dict[str, Script] = {
    "/events": stream_of_events,
    "/no-answer": no_answer,
    "/half": half_a_body,
    "/slow": slow,
    "/goodbye": closes_after,
}


@dataclass
class World:
    """One sidecar; each service has a server of its own."""

    sidecar: Sidecar
    servers: dict[str, RawUpstream]
    ports: dict[str, int]

    def caller(self, name: str) -> Caller:
        certs = self.sidecar.identity("agent/alice") if name != "plain" else None
        return Caller(self.ports[name], certs)

    def stat(self, name: str, what: str) -> float:
        return stats(self.sidecar.admin)[f"cluster.{name}.{what}"]

    def rests(self, name: str) -> bool:
        return (
            self.stat(name, "upstream_rq_active") == 0
            and self.stat(name, "upstream_cx_active") == self.servers[name].live
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("leaving")
    servers = {name: RawUpstream(SCRIPTS) for name in ("usual", "plain", "thrice", "brief")}
    servers["socket"] = RawUpstream(SCRIPTS, unix=short_path(folder))
    ports = {name: free_port() for name in servers}
    inbounds = "".join(
        f"  - {{{{listen: 127.0.0.1:{ports[name]}, to: '{server.url}', service: {name}}}}}\n"
        for name, server in servers.items()
    )
    bootstrap = BOOTSTRAP.replace("  admin:", inbounds + "  admin:")
    with ExitStack() as stack:
        for server in servers.values():
            stack.enter_context(server)
        documents = DOCUMENTS.format(plain=ports["plain"])
        spare = servers["usual"].url
        running = stack.enter_context(sidecar(folder, spare, documents, bootstrap))
        yield World(running, servers, ports)


def short_path(folder: Path) -> Path:
    """A socket's path has at most 107 bytes."""
    path = folder / "s.sock"
    assert len(str(path)) <= 107
    return path


def gone_within_a_second(world: World, name: str) -> None:
    server = world.servers[name]
    assert server.until(lambda: server.live == 0, 1.0), "the server still has its connection"
    assert server.until(lambda: world.rests(name), 1.0)


@pytest.mark.parametrize("path", ["/events", "/half", "/no-answer"])
@pytest.mark.parametrize("name", ["usual", "socket"])
def test_when_the_caller_leaves_the_server_is_let_go_at_once(
    world: World, name: str, path: str
) -> None:
    server = world.servers[name]
    before = len(server.seen)
    with world.caller(name) as caller:
        caller.send("GET", path)
        assert server.until(lambda: len(server.seen) > before)
        if path != "/no-answer":
            assert caller.head().status == 200
    gone_within_a_second(world, name)


def test_when_a_caller_in_plaintext_leaves_a_stream_the_server_is_let_go_at_once(
    world: World,
) -> None:
    with world.caller("plain") as caller:
        caller.send("GET", "/events")
        caller.head()
        assert caller.chunk() == EVENT
    gone_within_a_second(world, "plain")


def test_who_only_stops_sending_is_still_answered(world: World) -> None:
    with world.caller("plain") as caller:
        caller.send("GET", "/slow")
        caller.sock.shutdown(socket.SHUT_WR)
        assert caller.reply().body == b"for whoever still reads"
        assert caller.ends()


@pytest.mark.parametrize("name", ["plain", "usual"])
def test_who_hangs_up_leaves_no_open_connection_behind(world: World, name: str) -> None:
    fds = Path(f"/proc/{world.sidecar.process.pid}/fd")
    with world.caller(name) as caller:
        assert caller.ask("GET", "/").status == 200
    before = len(list(fds.iterdir()))
    for _ in range(20):
        with world.caller(name) as caller:
            assert caller.ask("GET", "/").status == 200
    assert world.servers[name].until(lambda: len(list(fds.iterdir())) <= before + 1)


def test_one_connection_serves_call_after_call(world: World) -> None:
    server = world.servers["usual"]
    before = server.connections
    with world.caller("usual") as caller:
        assert [caller.ask("GET", "/").body for _ in range(10)] == [b"ok"] * 10
    assert server.connections <= before + 1


def test_calls_go_over_a_unix_socket(world: World) -> None:
    with world.caller("socket") as caller:
        answers = [caller.ask("POST", f"/{n}", b"text", "content-type: text/plain") for n in "abc"]
    assert [answer.body for answer in answers] == [b"ok"] * 3
    assert world.servers["socket"].targets()[-3:] == ["/a", "/b", "/c"]
    assert world.servers["socket"].seen[-1].body == b"text"


def test_an_idle_connection_that_the_server_closed_is_not_used_again(world: World) -> None:
    server = world.servers["usual"]
    with world.caller("usual") as caller:
        for _ in range(5):
            assert caller.ask("GET", "/goodbye").body == b"and goodbye"
            assert server.until(lambda: world.stat("usual", "upstream_cx_active") == 0)
            answer = caller.ask("GET", "/")
            assert (answer.status, answer.body) == (200, b"ok")


def test_a_connection_carries_no_more_calls_than_its_rule_says(world: World) -> None:
    server = world.servers["thrice"]
    with world.caller("thrice") as caller:
        assert {caller.ask("GET", "/").status for _ in range(7)} == {200}
    by_connection = [one.connection for one in server.seen]
    assert by_connection == [1, 1, 1, 2, 2, 2, 3]
    assert server.until(lambda: server.live == 1)


def test_a_connection_that_was_idle_too_long_is_closed(world: World) -> None:
    server = world.servers["brief"]
    with world.caller("brief") as caller:
        assert caller.ask("GET", "/").status == 200
        assert server.until(lambda: server.live == 0, 3.0)
        assert caller.ask("GET", "/").status == 200
    assert server.connections == 2
