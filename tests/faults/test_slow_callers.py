"""Rows 12 to 16: callers that send slowly, read slowly, or read no more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from support.raw_caller import Caller
from support.raw_upstream import Connection, RawUpstream, chunk, head
from support.speaker import Caller2

from .world import MIB, TEXT, World, started

BODY = 100 * MIB
EVENT = b'data: {"jsonrpc":"2.0","method":"notifications/x","params":{"a":"%b"}}\n\n' % (
    b"x" * 4000
)
EVENTS = head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
STREAM = 4 * MIB  # of events at most: far more than the kernel holds for a Unix socket


def big(connection: Connection) -> None:
    connection.send(head(200, TEXT, f"content-length: {BODY}"))
    connection.stream(BODY)


def many_events(connection: Connection) -> None:
    connection.send(EVENTS)
    for _ in range(STREAM // len(EVENT)):
        if not connection.open:
            return
        connection.send(chunk(EVENT))
        connection.server.sent += len(EVENT)
    connection.is_left()


LIMITS = {
    "requestHeadTimeout": "600ms",
    "requestBodyTimeout": "600ms",
    "streamIdleTimeout": "3s",
    "callTimeout": "5s",
    "idleTimeout": "3s",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    scripts = {"/big": big, "/events": many_events}
    folder = tmp_path_factory.mktemp("slow")
    servers = {
        "mcp": RawUpstream(scripts),
        "events": RawUpstream(scripts, unix=folder / "events.sock"),
    }
    with started(folder, servers, limits=LIMITS) as running:
        for _ in range(3):  # what is loaded at the first call is no growth
            with running.caller() as alice, running.http2() as other:
                assert alice.ask("GET", "/").body == other.call("GET", "/").body == b"ok"
        yield running


def trickle(caller: Caller | Caller2, data: bytes) -> float:
    """Send *data* a byte at a time until the other side has had enough; return the seconds."""
    begun = time.monotonic()
    caller.sock.settimeout(0.05)
    try:
        for at in range(len(data)):
            caller.sock.sendall(data[at : at + 1])
            try:
                said = caller.sock.recv(65_536)
            except TimeoutError:
                continue
            caller.sock.settimeout(10)
            if isinstance(caller, Caller):
                caller.heard(said)
            else:
                caller.hear(said)
            break
    except OSError:
        pass
    return time.monotonic() - begun


def settle(server: RawUpstream) -> int:
    """Wait until *server* can send no more; return how many bytes it has sent."""
    before = -1
    while before != server.sent:
        before = server.sent
        time.sleep(0.3)
    return before


# -- 12

HEAD = b"GET /slow HTTP/1.1\r\nhost: a\r\n" + b"x-padding: yes\r\n" * 30


@pytest.mark.parametrize("name", ["mcp", "plain"])
def test_row_12_a_head_that_trickles_in_is_a_timeout(world: World, name: str) -> None:
    with world.caller(name) as alice, world.caller() as honest:
        seconds = trickle(alice, HEAD)
        assert seconds < 5
        answer = alice.reply()
        assert answer.status == 408
        assert b'"reason":"invalid"' in answer.body
        assert alice.ends()
        assert honest.ask("GET", "/").body == b"ok"
    assert "/slow" not in world.server.targets()


@pytest.mark.parametrize("opening", ["preface", "head"])
def test_row_12_over_http2_it_is_the_end_of_the_connection(world: World, opening: str) -> None:
    with world.http2() as alice:
        data = alice.ask("GET", "/slow", headers=[(f"x-{n}", "padding") for n in range(60)])
        if opening == "preface":
            data = b"\0\0\0"  # a frame whose rest does not come
        assert trickle(alice, data) < 8
        while alice.more():
            pass
        assert alice.goaway is not None or opening == "preface"
    assert "/slow" not in world.server.targets()


# -- 13


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"content-length: 500", b"x" * 500),
        (b"transfer-encoding: chunked", b"1\r\nx\r\n" * 100),
    ],
)
def test_row_13_a_body_that_trickles_in_is_a_timeout(
    world: World, framing: bytes, body: bytes
) -> None:
    with world.caller() as alice, world.caller() as honest:
        alice.sock.sendall(b"POST /slow HTTP/1.1\r\nhost: a\r\n%b\r\n\r\n" % framing)
        assert trickle(alice, body) < 5
        assert alice.reply().status == 408
        assert alice.ends()
        assert honest.ask("GET", "/").body == b"ok"
    assert "/slow" not in world.server.targets()


def test_row_13_over_http2_only_its_stream_ends(world: World) -> None:
    with world.http2() as alice:
        slow = alice.open(fields("POST", "/slow"), end=False)
        alice.sock.sendall(alice.out())
        told = alice.told(slow)
        assert told.status == 408
        assert alice.call("GET", "/").body == b"ok"
    assert "/slow" not in world.server.targets()


def fields(method: str, path: str) -> list[tuple[str, str]]:
    return [(":method", method), (":scheme", "https"), (":authority", "a"), (":path", path)]


# -- 14


def test_row_14_a_big_reply_waits_for_its_readers_and_memory_stays(world: World) -> None:
    """Eight readers that read nothing, of 100 MB each; then one of them reads it all."""
    before, world.server.sent = world.memory(), 0
    with ExitStack() as stack:
        readers = [stack.enter_context(world.caller(receive_buffer=65_536)) for _ in range(8)]
        for reader in readers:
            reader.send("GET", "/big")
        sent = settle(world.server)
        growth = (world.memory() - before) / len(readers)
        assert sent < len(readers) * BODY // 4, "what nobody reads is fetched"
        assert growth < MIB, f"{growth / 1024:.0f} KiB a reader"
        assert readers[0].head().status == 200
        assert readers[0].count(BODY) == 0
        assert world.memory() - before < 8 * MIB


# -- 15


def test_row_15_streams_that_nobody_reads_are_bounded_and_then_dropped(world: World) -> None:
    """Sixty callers read no more; all others are served, and then the sixty go."""
    server, count = world.servers["events"], 60
    with ExitStack() as stack:
        readers = [
            stack.enter_context(world.caller("events", receive_buffer=4096, segment=1400))
            for _ in range(count)
        ]
        before, server.sent = world.memory(), 0
        for reader in readers:
            reader.send("GET", "/events")
        assert server.until(lambda: server.live == count)
        with world.caller("events") as honest:
            assert honest.ask("GET", "/").body == b"ok"
        sent = settle(server)
        growth = (world.memory() - before) / count
        assert sent < count * STREAM // 2, "what nobody reads is fetched"
        assert growth < 3 * MIB // 4, f"{growth / 1024:.0f} KiB a stream"
        assert server.until(lambda: server.live <= 1, 15), "they are there for ever"


# -- 16


def test_row_16_a_window_that_stays_shut_holds_one_buffer_and_not_the_others(
    world: World,
) -> None:
    before, world.server.sent = world.memory(), 0
    with world.http2(window=0) as alice, world.caller() as honest:
        for _ in range(20):
            alice.sock.sendall(alice.ask("GET", "/big"))
        sent = settle(world.server)
        assert sent < 20 * BODY // 4
        assert (world.memory() - before) / 20 < MIB
        assert honest.ask("GET", "/").body == b"ok"
        told = alice.told(1)
        assert told.status == 200
        assert not told.ended, "it can't have been whole"
        assert told.reset is not None or alice.goaway is not None
    assert world.server.until(lambda: world.server.live <= 1)
