"""Rows 17 to 19: callers that stop sending, and callers that are gone."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from support.raw_caller import Broken
from support.raw_upstream import Connection, RawUpstream, Script, chunk, head, reply
from support.two_sidecars import Near, Pair
from support.wire import request, tool

from .world import JSON, TEXT, World, silent, started

NARROW = """\
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: narrow, namespace: mcp-prod}
spec:
  host: narrow
  trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 4}}}
"""
CALL = tool("read_file", path="/srv/a")
EVENT = b'data: {"jsonrpc":"2.0","method":"notifications/message"}\n\n'
SOON = 10.0  # seconds in which a server must know


def slow(connection: Connection) -> None:
    time.sleep(0.3)
    reply(b"for whoever still reads")(connection)


def slow_in_pieces(connection: Connection) -> None:
    connection.send(head(200, TEXT, "transfer-encoding: chunked"))
    for _ in range(5):
        time.sleep(0.05)
        connection.send(chunk(b"piece"))
    connection.send(b"0\r\n\r\n")


def half(connection: Connection) -> None:
    connection.send(head(200, TEXT, "content-length: 100") + b"half")
    connection.is_left()


def events(connection: Connection) -> None:
    connection.send(head(200, "content-type: text/event-stream", "transfer-encoding: chunked"))
    connection.send(chunk(EVENT))
    connection.is_left()


def endless(connection: Connection) -> None:
    connection.send(head(200, TEXT, "transfer-encoding: chunked"))
    while connection.open:
        connection.send(chunk(b"x" * 16_384))


SCRIPTS: dict[str, Script] = {
    "/slow": slow,
    "/pieces": slow_in_pieces,
    "/silent": silent,
    "/half": half,
    "/events": events,
    "/endless": endless,
}


class Gated(RawUpstream):
    """Answers once it may."""

    def __init__(self) -> None:
        self.may = threading.Event()
        super().__init__(otherwise=self._wait)

    def _wait(self, connection: Connection) -> None:
        self.may.wait(10)
        reply(b"served")(connection)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    servers = {"mcp": RawUpstream(SCRIPTS), "narrow": Gated()}
    with started(tmp_path_factory.mktemp("leaving"), servers, NARROW) as running:
        yield running


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Near, RawUpstream]]:
    """The sidecar of a local process, which reaches a server through another one."""
    folder = tmp_path_factory.mktemp("two")
    with RawUpstream(SCRIPTS) as server, Pair(folder).run(server.url) as (near, _):
        yield near, server


# -- 17


@pytest.mark.parametrize(
    ("path", "body"),
    [("/slow", b"for whoever still reads"), ("/pieces", b"piece" * 5)],
)
def test_row_17_who_only_stops_sending_is_still_answered(
    world: World, path: str, body: bytes
) -> None:
    with world.caller("plain") as caller:
        caller.send("POST", path, CALL, JSON)
        caller.sock.shutdown(socket.SHUT_WR)
        assert caller.reply().body == body
        assert caller.ends()
    assert world.server.seen[-1].body == CALL


def test_row_17_who_stops_in_the_middle_of_a_request_asked_nothing(world: World) -> None:
    before = len(world.server.seen)
    with world.caller("plain") as caller:
        caller.sock.sendall(b"POST /slow HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf")
        caller.sock.shutdown(socket.SHUT_WR)
        try:
            assert caller.reply().status == 400
        except Broken:
            pass  # no answer is one, too
    assert len(world.server.seen) == before


# -- 18


def vanish(sock: socket.socket) -> None:
    """Leave with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


PATHS = ("/half", "/events", "/endless", "/silent")
# Without TLS, who closes can't be told from who only sends no more, until it is written to;
# a stream of events is for somebody who stays.
LEAVING = [
    *(("mcp", path, reset) for path in PATHS for reset in (False, True)),
    *(("plain", path, True) for path in PATHS),
    *(("plain", path, False) for path in ("/events", "/endless")),
]


@pytest.mark.parametrize(("name", "path", "reset"), LEAVING)
def test_row_18_when_callers_vanish_their_servers_are_let_go_at_once(
    world: World, name: str, path: str, reset: bool
) -> None:
    server = world.server
    before = len(server.seen)
    with ExitStack() as stack:
        callers = [stack.enter_context(world.caller(name)) for _ in range(10)]
        for caller in callers:
            caller.send("GET", path)
        assert server.until(lambda: len(server.seen) == before + 10)
        if path != "/silent":
            assert {caller.head().status for caller in callers} == {200}
        if reset:
            for caller in callers:
                vanish(caller.sock)
    assert server.until(lambda: server.live == 0, SOON)


@pytest.mark.parametrize("path", PATHS)
def test_row_18_over_http2_a_stream_that_is_reset_lets_its_server_go(
    world: World, path: str
) -> None:
    server = world.server
    with world.http2() as alice:
        before = len(server.seen)
        alice.sock.sendall(alice.ask("GET", path))
        assert server.until(lambda: len(server.seen) == before + 1)
        while path != "/silent" and not alice.replies[1].status:
            assert alice.more()
        alice.h2.reset_stream(1, 8)
        alice.sock.sendall(alice.out())
        assert server.until(lambda: server.live == 0, SOON)
        assert alice.call("GET", "/").body == b"ok", "the connection goes on"


@pytest.mark.parametrize("path", PATHS)
def test_row_18_a_local_process_that_closes_its_socket_lets_all_behind_it_go(
    two: tuple[Near, RawUpstream], path: str
) -> None:
    near, server = two
    before = len(server.seen)
    with ExitStack() as stack:
        callers = [stack.enter_context(near.local()) for _ in range(5)]
        for caller in callers:
            caller.send(request("GET", path))
        assert server.until(lambda: len(server.seen) == before + 5)
    assert server.until(lambda: server.live == 0, SOON)
    assert server.until(lambda: near.stats()["server.total_connections"] == 0, SOON)


def test_row_17_a_local_process_that_only_stops_sending_is_still_answered(
    two: tuple[Near, RawUpstream],
) -> None:
    near, _ = two
    with near.local() as caller:
        caller.send(request("GET", "/slow"))
        caller.sock.shutdown(socket.SHUT_WR)
        assert caller.reply().body == b"for whoever still reads"


# -- 19


def test_row_19_who_leaves_the_queue_frees_its_place_and_never_reaches_the_server(
    world: World,
) -> None:
    server = world.servers["narrow"]
    assert isinstance(server, Gated)

    def waiting() -> float:
        return world.of("narrow", "upstream_rq_pending_active")

    with world.caller("narrow") as first, world.http2("narrow") as other:
        first.send("GET", "/first")
        assert server.until(lambda: len(server.seen) == 1)
        for _ in range(3):
            with ExitStack() as stack:
                for _ in range(3):
                    stack.enter_context(world.caller("narrow")).send("GET", "/never")
                other.sock.sendall(other.ask("GET", "/never"))
                assert server.until(lambda: waiting() == 4)
                other.h2.reset_stream(max(other.replies), 8)
                other.sock.sendall(other.out())
            assert server.until(lambda: waiting() == 0)
        other.sock.sendall(other.ask("GET", "/last"))
        assert server.until(lambda: waiting() == 1)
        server.may.set()
        assert first.reply().body == b"served"
        assert other.told(max(other.replies)).body == b"served"
    assert server.targets() == ["/first", "/last"]
    assert world.of("narrow", "upstream_rq_pending_overflow") == 0
