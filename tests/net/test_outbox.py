"""The outbox: whole messages wait for the end of a turn, in order, and no longer."""

from __future__ import annotations

import asyncio

import pytest
from support.callers import Callers, request
from support.clusters import OK, Net
from support.memory import Pipe, in_memory, loop

from sidecar.http.h1 import Request
from sidecar.http.head import ReplyHead
from sidecar.net.caller import Caller
from sidecar.net.outbox import Outbox


def pipes(count: int) -> list[Pipe]:
    return [Pipe(asyncio.Protocol()) for _ in range(count)]


@in_memory
async def test_what_is_put_goes_out_at_the_end_of_the_turn_in_its_order() -> None:
    outbox, (one, other) = Outbox(), pipes(2)
    outbox.put(one, b"a")
    outbox.put(other, b"b")
    outbox.put(one, b"c")
    assert (one.heard(), other.heard()) == (b"", b"")
    await asyncio.sleep(0)
    assert (one.heard(), other.heard()) == (b"ac", b"b")


@in_memory
async def test_whoever_must_write_after_it_sends_it_off_before() -> None:
    outbox, (one,) = Outbox(), pipes(1)
    outbox.put(one, b"a")
    outbox.flush()
    assert one.heard() == b"a"
    await loop().settle()
    assert one.heard() == b""
    assert outbox.turn == 1, "a turn in which nothing goes out is none"


@in_memory
async def test_what_was_put_for_a_connection_that_closes_is_dropped() -> None:
    outbox, (one, other) = Outbox(), pipes(2)
    outbox.put(one, b"a")
    outbox.put(other, b"b")
    one.abort()
    await loop().settle()
    assert (one.heard(), other.heard()) == (b"", b"b")


@in_memory
async def test_a_fault_of_one_connection_does_not_keep_the_others_waiting() -> None:
    class Broken(Pipe):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            raise ValueError("broken")

    outbox, (one, other) = Outbox(), pipes(2)
    broken = Broken(asyncio.Protocol())
    for pipe in (one, broken, other):
        outbox.put(pipe, b"a")
    with pytest.raises(ValueError, match="broken"):
        outbox.flush()
    assert (one.heard(), other.heard()) == (b"a", b"")
    await loop().settle()
    assert (one.heard(), other.heard()) == (b"", b"a")


@in_memory
async def test_an_answer_before_the_question_gives_no_connection_back() -> None:
    net = Net()
    lease = await net.lent()
    assert lease.upstream is not None
    lease.upstream.send("GET", b"GET / HTTP/1.1\r\n\r\n", lease.wake)
    pipe = loop().pipes["a:80"][0]
    pipe.say(OK)
    lease.end(loop().clock())
    await loop().settle()
    assert pipe.end == "aborted", "the call would be answered to whoever is lent it next"
    assert pipe.heard() == b""


async def answer(request: Request, down: Caller) -> None:
    """Answer each request with its target, as a stream if it is asked for."""
    target = request.head.start.target if request.head is not None else b"none"
    head = ReplyHead(200, b"HTTP/1.1 200 OK\r\n", (), ())
    if target == b"/stream":
        down.begin(head, -1, target)
        down.end()
    else:
        down.reply(head, len(target), target)


@pytest.mark.parametrize(
    ("then", "ends"),
    [(b"NONSENSE\r\n\r\n", b"none"), (request("GET", "/stream"), b"0\r\n\r\n")],
)
@in_memory
async def test_replies_of_one_turn_stay_in_their_order(then: bytes, ends: bytes) -> None:
    caller = Callers(answer).connect()
    caller.say(request("GET", "/first"))
    caller.say(then)
    await loop().settle()
    heard = caller.heard()
    assert heard.index(b"/first") < heard.index(ends)
    assert heard.endswith(ends)


@in_memory
async def test_a_reply_goes_out_before_its_connection_closes() -> None:
    callers = Callers(answer)
    caller = callers.connect()
    caller.say(request("GET", "/first"))
    for down in list(callers.live):
        down.drain()
    assert caller.heard().endswith(b"/first")
    await loop().settle()
    assert caller.end == "closed"
