"""Bodies over HTTP/2, and what ends them: trailers do, and a wrong length never does."""

from __future__ import annotations

import pytest
from support.lines2 import Line, Served
from support.memory import in_memory, loop
from support.shared import REQUEST, Shared, fault

from sidecar.http.h2 import CALM, CANCEL, PROTOCOL
from sidecar.http.h2_frames import write_reset
from sidecar.http.trailers import Trailed

# -- a caller's

LENGTHS = [["5"], ["3"], ["0"], ["x"], ["+4"], ["4", "4"], ["4", "5"], [""]]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("trailers", [True, False])
@in_memory
async def test_a_body_that_is_not_as_long_as_announced_is_its_streams_fault_alone(
    lengths: list[str], trailers: bool
) -> None:
    served = Served()
    line = Line(served)
    never = await line.ask("GET", "/never")
    said = line.speaker.ask(
        "POST", "/a", b"1234", [("content-length", one) for one in lengths], end=not trailers
    )
    line.pipe.say(said + (line.speaker.trail(3, [("x", "1")]) if trailers else b""))
    await loop().settle()
    assert write_reset(3, PROTOCOL) in line.pipe.written
    await line.settle()
    assert line.speaker.replies[3].status == 400
    assert served.requests[1].fault is not None
    assert line.speaker.goaway is None
    assert (await line.ask("POST", "/a", b"1234", [("content-length", "4")])).status == 200
    assert never.reset is None


@in_memory
async def test_a_body_longer_than_announced_is_refused_before_its_end() -> None:
    line = Line(Served())
    told = await line.ask("POST", "/a", b"12345", [("content-length", "4")], end=False)
    assert (told.status, told.ended) == (400, True)


@in_memory
async def test_a_flood_of_wrong_lengths_is_told_to_calm_down() -> None:
    line = Line(Served())
    for _ in range(200):
        if line.speaker.goaway is not None:
            break
        await line.ask("POST", "/a", b"1234", [("content-length", "5")])
    assert line.speaker.goaway is not None
    assert line.speaker.goaway[1] == CALM


@pytest.mark.parametrize("window", [None, 2])
@in_memory
async def test_trailers_end_a_reply_once_its_body_is_taken(window: int | None) -> None:
    line = Line(Served(), window=window)
    told = await line.ask("GET", "/trailers")
    await line.settle()
    assert (told.body, told.trailers, told.ended) == (b"a body", [("x-sum", "1")], True)
    assert not line.down.exchanges


@in_memory
async def test_trailers_of_a_reply_that_nobody_wants_go_nowhere() -> None:
    line = Line(Served(), window=2)
    line.speaker.takes = False
    told = await line.ask("GET", "/trailers")
    line.speaker.h2.reset_stream(1, CANCEL)
    line.pipe.say(line.speaker.out())
    await line.settle()
    assert (told.trailers, line.down.exchanges) == (None, [])
    assert (await line.ask("GET", "/a")).status == 200


# -- a server's


@in_memory
async def test_trailers_go_and_come_behind_the_body() -> None:
    shared = Shared()
    lease = await shared.sent(Trailed.of(REQUEST, [(b"x-sum", b"1")]))
    asked = shared.server.asked[1]
    assert (asked.body, asked.trailers, asked.whole) == (b"body", [("x-sum", "1")], True)
    said = shared.server.reply(1, b"reply", end=False)
    await shared.say(said + shared.server.trail(1, [("grpc-status", "0")]))
    assert lease.upstream is not None
    reply = lease.upstream.reply
    assert (reply.whole, list(reply.trailers)) == (True, [(b"grpc-status", b"0")])


@in_memory
async def test_trailers_may_follow_a_request_without_a_body() -> None:
    shared = Shared()
    await shared.sent(Trailed.of(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", [(b"x-sum", b"1")]), "GET")
    asked = shared.server.asked[1]
    assert (asked.body, asked.trailers, asked.whole) == (b"", [("x-sum", "1")], True)


@pytest.mark.parametrize("length", ["3", "5", "x"])
@in_memory
async def test_a_reply_that_is_not_as_long_as_it_says_ends_alone(length: str) -> None:
    shared = Shared()
    first, second = await shared.sent(), await shared.sent()
    fields = [("content-length", length)]
    shared.pipe.say(shared.server.reply(1, b"four", headers=fields, length=False))
    await loop().settle()
    assert fault(first).sent
    assert write_reset(1, PROTOCOL) in shared.pipe.written
    first.end(0)
    await shared.say(shared.server.reply(3, b"four"))
    assert second.upstream is not None
    assert (second.upstream.reply.whole, second.upstream.take()) == (True, b"four")
    second.end(0)
    assert shared.net.cluster.connections == 1


@in_memory
async def test_a_server_whose_replies_are_all_broken_is_left() -> None:
    shared = Shared()
    for _ in range(150):
        lease = await shared.sent()
        number = max(shared.server.asked)
        fields = [("content-length", "5")]
        await shared.say(shared.server.reply(number, b"four", headers=fields, length=False))
        assert fault(lease).sent
        lease.end(0)
        if shared.pipe.end:
            break
    assert shared.pipe.end
