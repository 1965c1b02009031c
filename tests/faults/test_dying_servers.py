"""Rows 1 to 6: servers that die before, in the middle of, and behind what they say."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from support.raw_caller import Broken
from support.raw_upstream import Connection, RawUpstream, Script, chunk, head, reply
from support.wire import tool

from .world import JSON, MIB, TEXT, World, raw, resets_after, started

RETRIED = """\
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: retried, namespace: mcp-prod}
spec:
  hosts: [retried]
  http:
  - route: [{destination: {host: retried}}]
    retries: {attempts: 1, retryOn: reset}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: fresh, namespace: mcp-prod}
spec:
  host: fresh
  trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 1}}}
"""
EVENT = b'data: {"jsonrpc":"2.0","method":"notifications/message"}\n\n'
CHUNKED = head(200, TEXT, "transfer-encoding: chunked")
EVENTS = head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
POISON = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"
CALL = tool("read_file", path="/srv/a")

# What a server says before it is gone, and what of it is body.
DYING: dict[str, tuple[bytes, bytes]] = {
    "/length": (head(200, TEXT, "content-length: 100") + b"ten bytes.", b"ten bytes."),
    "/chunked": (CHUNKED + chunk(b"ten bytes."), b"ten bytes."),
    "/half-a-chunk": (CHUNKED + b"a\r\nhalf", b"half"),
    "/events": (EVENTS + chunk(EVENT), EVENT),
}
NO_LAST: dict[str, bytes] = {
    "/no-last-chunk": CHUNKED + chunk(b"one"),
    "/half-a-size": CHUNKED + chunk(b"one") + b"1",
    "/no-last-crlf": CHUNKED + chunk(b"one") + b"0\r\n",
    "/half-a-trailer": CHUNKED + chunk(b"one") + b"0\r\nx-sum: 1\r\n",
}


def late_poison(connection: Connection) -> None:
    reply(b"right")(connection)
    time.sleep(0.05)
    connection.send(POISON)


# More than was announced.
LONGER: dict[str, Script] = {
    "/longer": raw(head(200, TEXT, "content-length: 5") + b"right" + POISON, closes=False),
    "/longer-chunked": raw(CHUNKED + chunk(b"right") + b"0\r\n\r\n" + POISON, closes=False),
    "/longer-json": raw(head(200, JSON, "content-length: 2") + b"{}" + POISON, closes=False),
}


def dies_when_used_again(connection: Connection) -> None:
    """Answer the first request of a connection, and close on the second."""
    asked = sum(one.connection == connection.number for one in connection.server.seen)
    if asked == 1:
        reply(b"served")(connection)
    else:
        connection.reset()


def answers_before_the_body(connection: Connection) -> None:
    """Read a head, refuse it, and read no more."""
    connection.read_head()
    connection.send(head(413, TEXT, "content-length: 3") + b"no.")
    time.sleep(0.5)
    server = connection.server
    assert isinstance(server, Hasty)
    server.heard = connection.drain()


class Hasty(RawUpstream):
    """Answers before the body; `heard` is how much of that came all the same, once it ended."""

    def __init__(self) -> None:
        super().__init__(greet=answers_before_the_body)
        self.heard = -1


SCRIPTS: dict[str, Script] = {
    "/resets": Connection.reset,
    "/closes": Connection.close,
    **{path: raw(data) for path, (data, _) in DYING.items()},
    **{f"{path}/reset": resets_after(data) for path, (data, _) in DYING.items()},
    **{path: raw(data, closes=True) for path, data in NO_LAST.items()},
    **LONGER,
    "/longer-late": late_poison,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    servers = {
        "mcp": RawUpstream(SCRIPTS),
        "retried": RawUpstream(SCRIPTS),
        "fresh": RawUpstream(SCRIPTS),
        "reused": RawUpstream(otherwise=dies_when_used_again),
        "hasty": Hasty(),
    }
    folder = tmp_path_factory.mktemp("dying")
    limits = {"requestBodyBytes": "16MiB"}
    with started(folder, servers, RETRIED, limits=limits) as running:
        yield running


def asked(world: World, name: str, before: int) -> list[str]:
    """Return what the server *name* was asked since *before* requests."""
    seen = world.servers[name].seen[before:]
    return [f"{one.method} {one.target}" for one in seen]


# -- 1


@pytest.mark.parametrize("path", ["/resets", "/closes"])
@pytest.mark.parametrize(("method", "body"), [("GET", b""), ("POST", CALL)])
def test_row_01_a_reset_before_any_byte_is_a_bad_gateway_and_is_not_sent_twice(
    world: World, path: str, method: str, body: bytes
) -> None:
    before = len(world.servers["fresh"].seen)
    with world.caller("fresh") as alice:
        answer = alice.ask(method, path, body, JSON)
        assert answer.status == 502
        assert b'"reason":"upstream"' in answer.body
        assert alice.ask("GET", "/next").status == 200
    assert asked(world, "fresh", before) == [f"{method} {path}", "GET /next"]


def test_row_01_a_route_has_it_tried_once_more_if_twice_does_what_once_does(world: World) -> None:
    server, before = world.servers["retried"], len(world.servers["retried"].seen)
    with world.caller("retried") as alice:
        assert alice.ask("GET", "/resets").status == 502
        assert alice.ask("POST", "/resets", CALL, JSON).status == 502
    assert asked(world, "retried", before) == ["GET /resets"] * 2 + ["POST /resets"]
    assert len({one.connection for one in server.seen[before:]}) == 3


# -- 2


def test_row_02_a_reset_on_a_reused_connection_is_got_over_on_a_fresh_one(world: World) -> None:
    server, before = world.servers["reused"], len(world.servers["reused"].seen)
    with world.caller("reused") as alice:
        assert alice.ask("GET", "/first").body == b"served"
        assert alice.ask("GET", "/second").body == b"served"
    assert asked(world, "reused", before) == ["GET /first", "GET /second", "GET /second"]
    assert len({one.connection for one in server.seen[before:]}) == 2


@pytest.mark.parametrize(("body", "kind"), [(CALL, JSON), (b"any text", TEXT)])
def test_row_02_a_call_that_may_have_been_heard_is_not_sent_again(
    world: World, body: bytes, kind: str
) -> None:
    before = len(world.servers["reused"].seen)
    with world.caller("reused") as alice:
        assert alice.ask("GET", "/first").body == b"served"
        assert alice.ask("POST", "/second", body, kind).status == 502
        assert alice.ask("POST", "/third", CALL, JSON).body == b"served"
    assert asked(world, "reused", before)[-2:] == ["POST /second", "POST /third"]


# -- 3


@pytest.mark.parametrize("end", ["", "/reset"])
@pytest.mark.parametrize("path", DYING)
def test_row_03_a_reply_whose_server_dies_is_broken_off(world: World, path: str, end: str) -> None:
    with world.caller() as alice, pytest.raises(Broken) as broken:
        alice.ask("GET", path + end)
    assert DYING[path][1].startswith(broken.value.body)


@pytest.mark.parametrize("end", ["", "/reset"])
@pytest.mark.parametrize("path", DYING)
def test_row_03_over_http2_its_stream_is_reset_and_the_others_stay(
    world: World, path: str, end: str
) -> None:
    with world.http2() as alice:
        told = alice.call("GET", path + end)
        assert told.reset is not None
        assert not told.ended
        assert DYING[path][1].startswith(told.body)
        assert alice.call("GET", "/next").body == b"ok"


# -- 4


@pytest.mark.parametrize("path", NO_LAST)
def test_row_04_chunks_without_a_last_one_never_look_whole(world: World, path: str) -> None:
    with world.caller() as alice, pytest.raises(Broken) as broken:
        alice.ask("GET", path)
    assert broken.value.body == b"one"
    assert world.server.until(lambda: world.server.live == 0)
    with world.caller() as alice:
        assert alice.ask("GET", "/next").body == b"ok"


# -- 5


def test_row_05_a_body_that_is_too_short_is_broken_off_and_its_connection_left(
    world: World,
) -> None:
    with world.caller() as alice:
        alice.sock.sendall(twice("/length"))
        with pytest.raises(Broken):
            alice.reply()
        with pytest.raises(Broken):
            alice.head()
    assert world.server.until(lambda: world.server.live == 0)


@pytest.mark.parametrize("path", LONGER)
def test_row_05_what_is_too_long_is_never_the_next_reply(world: World, path: str) -> None:
    with world.caller() as alice:
        alice.sock.sendall(twice(path))
        heard = b""
        while not heard.endswith((b"ok", b"poison")):
            try:
                piece = alice.sock.recv(65_536)
            except OSError:
                break
            if not piece:
                break
            heard += piece
    assert b"poison" not in heard
    assert b"0\r\n\r\n" not in heard or b"right" in heard


def test_row_05_what_comes_while_nobody_asks_closes_the_connection(world: World) -> None:
    with world.caller() as alice:
        assert alice.ask("GET", "/longer-late").body == b"right"
        assert world.server.until(lambda: world.server.live == 0)
        assert alice.ask("GET", "/next").body == b"ok"


def twice(path: str) -> bytes:
    """Two requests in a row, in one write."""
    lines = "HTTP/1.1\r\nhost: a\r\n\r\n"
    return f"GET {path} {lines}GET /next {lines}".encode()


# -- 6


@pytest.mark.parametrize("name", ["mcp", "plain"])
def test_row_06_a_refusal_reaches_a_caller_that_still_sends(world: World, name: str) -> None:
    with world.caller(name) as alice:
        alice.sock.sendall(b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999\r\n\r\n")
        try:
            for _ in range(64):
                alice.sock.sendall(b"x" * 65_536)
        except OSError:
            pass  # it stopped us, which is its right
        assert alice.reply().status == 413
    assert world.server.targets().count("/a") == 0


def test_row_06_a_refusal_reaches_a_stream_that_still_sends(world: World) -> None:
    with world.http2() as alice:
        fields = [("content-length", "99999999")]
        alice.sock.sendall(alice.ask("POST", "/a", b"x" * 60_000, fields, end=False))
        told = alice.told(1)
        assert told.status == 413
        assert alice.call("GET", "/next").body == b"ok"


def test_row_06_a_reply_before_the_body_is_passed_on_and_the_upload_ends(world: World) -> None:
    """The server reads a head and says 413 while 15 MiB are on their way to it."""
    server = world.servers["hasty"]
    assert isinstance(server, Hasty)
    with world.caller("hasty") as alice:
        answer = alice.ask("POST", "/", b"x" * (15 * MIB), TEXT)
        assert (answer.status, answer.body) == (413, b"no.")
        assert server.until(lambda: server.heard >= 0, 5), "its connection is still open"
        assert server.heard < 15 * MIB
        assert alice.ask("POST", "/", b"small", TEXT).status == 413
