"""A caller's HTTP/2 connection in memory: streams beside each other, limits, every way to end."""

from __future__ import annotations

import pytest
from support.callers import Callers
from support.lines2 import BIG, Line, Served
from support.memory import in_memory, loop
from support.speaker import Speaker

from sidecar.errors import CallerGone, DeadlinePassed, PermitWithdrawn
from sidecar.http.h2 import CALM, CANCEL, INTERNAL, NO_ERROR, PROTOCOL, REFUSED
from sidecar.http.h2_frames import write_reset
from sidecar.net.caller import Connection


@in_memory
async def test_a_request_is_served_and_answered() -> None:
    served = Served()
    line = Line(served)
    told = await line.ask("POST", "/a", b"body")
    assert (told.status, told.body, told.ended, told.reset) == (200, b"body", True, None)
    assert told.headers == {"x-said": "yes", "content-length": "4"}
    assert served.requests[0].body == b"body"
    assert not line.down.exchanges
    assert len(line.callers.deadlines) == 1
    assert len(line.callers.tasks) == 0
    assert not line.callers.faults


@in_memory
async def test_streams_are_served_beside_each_other() -> None:
    line = Line(Served())
    never = await line.ask("GET", "/never")
    told = await line.ask("GET", "/a")
    assert told.ended
    assert not never.status
    assert len(line.down.exchanges) == 1


@in_memory
async def test_a_stream_that_is_not_read_holds_no_other_up_and_is_bounded() -> None:
    served = Served()
    line = Line(served, window=1_000)
    line.speaker.takes = False
    await line.ask("GET", "/pump")
    told = await line.ask("GET", "/a")
    assert told.body == b"ok"
    assert served.ended == [None]  # the other waits for its reader
    assert line.down.http2.unsent(1) <= len(BIG)


@in_memory
async def test_a_reader_that_takes_slowly_gets_all_of_it() -> None:
    line = Line(Served(), window=3_000)
    told = await line.ask("GET", "/pump")
    await line.settle()
    assert (len(told.body), told.ended) == (len(BIG) * 5, True)


@in_memory
async def test_a_caller_that_reads_nothing_is_not_read_either() -> None:
    line = Line(Served())
    line.pipe.stall()
    line.pipe.say(line.speaker.ask("GET", "/a"))
    await loop().settle()
    assert not line.pipe.reading
    assert not line.down.exchanges
    line.pipe.drain()
    await line.settle()
    assert line.speaker.replies[1].ended
    assert line.pipe.reading


@in_memory
async def test_much_that_comes_at_once_is_worked_on_in_turns() -> None:
    served = Served()
    line = Line(served)
    await line.settle()
    line.pipe.say(b"".join(line.speaker.ask("GET", f"/{one}") for one in range(90)))
    assert len(served.requests) == 64
    assert not line.pipe.reading
    await line.settle()
    assert all(told.ended for told in line.speaker.replies.values())
    assert len(served.requests) == 90
    assert line.pipe.reading


# -- what is refused, and how


@in_memory
async def test_a_malformed_request_is_answered_and_its_stream_reset() -> None:
    line = Line(Served())
    line.pipe.say(line.speaker.ask("GET", "/a", headers=[("connection", "close")]))
    await loop().settle()
    assert line.pipe.written.endswith(write_reset(1, PROTOCOL))
    await line.settle()
    assert line.speaker.replies[1].status == 400
    assert (await line.ask("GET", "/a")).status == 200


@pytest.mark.parametrize("announced", [True, False])
@in_memory
async def test_a_body_over_its_bound_is_refused_before_it_is_whole(announced: bool) -> None:
    line = Line(Served())
    headers = [("content-length", "5000")] if announced else []
    told = await line.ask("POST", "/a", b"x" * 4_500, headers, end=False)
    assert (told.status, told.ended, told.reset) == (413, True, NO_ERROR)
    assert (await line.ask("GET", "/a")).status == 200


@in_memory
async def test_no_body_where_one_was_announced_is_refused() -> None:
    line = Line(Served())
    assert (await line.ask("POST", "/a", b"", [("content-length", "5")])).status == 400


@in_memory
async def test_leave_to_send_the_body_is_given() -> None:
    line = Line(Served())
    told = await line.ask("POST", "/a", b"", [("expect", "100-continue")], end=False)
    assert told.interim == [100]
    line.speaker.h2.send_data(1, b"body", end_stream=True)
    line.pipe.say(line.speaker.out())
    await line.settle()
    assert told.body == b"body"


@in_memory
async def test_trailers_end_a_body_and_bad_ones_refuse_it() -> None:
    served = Served()
    line = Line(served)
    for fields, status in ([("x-sum", "1")], 200), ([("x-sum", "\x01")], 400):
        line.pipe.say(line.speaker.ask("POST", "/a", b"body", end=False))
        stream = max(line.speaker.replies)
        line.pipe.say(line.speaker.trail(stream, fields))
        await line.settle()
        assert line.speaker.replies[stream].status == status
    assert list(served.requests[0].trailers) == [(b"x-sum", b"1")]


@in_memory
async def test_streams_that_are_too_many_are_refused_and_the_others_go_on() -> None:
    served = Served()
    served.waits = True
    line = Line(served, streams=3)
    line.pipe.say(b"".join(line.speaker.ask("POST", "/a", b"body") for _ in range(6)))
    await line.settle()
    assert line.speaker.settings[3] == 3
    told = [line.speaker.replies[number] for number in (1, 3, 5, 7, 9, 11)]
    assert [one.reset for one in told] == [None, None, None, REFUSED, REFUSED, REFUSED]
    served.waits = False
    for down in served.down:
        down.wake()  # type: ignore[attr-defined]
    await line.settle()
    assert [one.body for one in told[:3]] == [b"body"] * 3
    assert (await line.ask("GET", "/a")).status == 200
    assert len(served.requests) == 4
    assert line.speaker.goaway is None


@in_memory
async def test_a_flood_of_streams_that_are_too_many_is_left() -> None:
    line = Line(Served(), streams=3)
    for _ in range(500):
        line.pipe.say(line.speaker.ask("GET", "/never"))
    await line.settle()
    assert line.speaker.goaway is not None
    assert line.speaker.goaway[1] == CALM


@in_memory
async def test_a_flood_is_told_to_calm_down_and_left() -> None:
    line = Line(Served())
    await line.ask("GET", "/never")
    line.pipe.say(b"\0\0\0\x04\0\0\0\0\0" * 2_000)
    await line.settle()
    assert line.speaker.goaway == (1, CALM)
    await line.settle(2)
    assert line.pipe.end
    assert not line.callers.live
    assert not len(line.callers.tasks)


# -- faults


@in_memory
async def test_a_reply_broken_off_is_reset_and_never_ended() -> None:
    line = Line(Served())
    told = await line.ask("GET", "/short")
    assert (told.ended, told.reset) == (False, INTERNAL)
    assert (await line.ask("GET", "/a")).status == 200


@in_memory
async def test_a_flow_that_says_nothing_resets_its_stream() -> None:
    line = Line(Served())
    assert (await line.ask("GET", "/nothing")).reset == INTERNAL


@in_memory
async def test_a_reset_tells_the_flow_that_its_caller_left() -> None:
    served = Served()
    line = Line(served)
    await line.ask("GET", "/never")
    line.speaker.h2.reset_stream(1, CANCEL)
    line.pipe.say(line.speaker.out())
    await line.settle()
    assert type(served.ended[0]) is CallerGone
    assert not line.down.exchanges
    assert not line.pipe.end


@in_memory
async def test_a_connection_that_breaks_tells_every_flow() -> None:
    served = Served()
    line = Line(served)
    for _ in range(3):
        await line.ask("GET", "/never")
    line.pipe.reset()
    await line.settle()
    assert [type(one) for one in served.ended] == [CallerGone] * 3
    assert not line.callers.live
    assert not len(line.callers.deadlines)


# -- limits of time


@in_memory
async def test_a_connection_has_so_long_for_its_preface() -> None:
    callers = Callers(Served())
    pipe = callers.connect2()
    pipe.say(b"PRI * HT")
    await loop().settle(10)
    await loop().settle(1)
    await loop().settle(1)
    assert pipe.end


@in_memory
async def test_a_header_block_has_so_long_to_end() -> None:
    line = Line(Served())
    await line.ask("GET", "/never")
    line.pipe.say(b"\0\0\x01\x01\0\0\0\0\x03" + b"\x82")
    await line.settle(5)
    line.pipe.say(b"\0\0\x01\x09\0\0\0\0\x03" + b"\x87")
    await line.settle(6)
    assert line.speaker.goaway is not None


@in_memory
async def test_a_body_has_so_long_to_come() -> None:
    line = Line(Served())
    told = await line.ask("POST", "/a", b"half", end=False)
    await line.settle(31)
    assert (told.status, told.reset) == (408, NO_ERROR)
    assert not line.pipe.end


@in_memory
async def test_a_call_has_as_long_as_its_flow_allows() -> None:
    served = Served()
    line = Line(served)
    told = await line.ask("GET", "/never")
    served.down[0].allow(5)
    await line.settle(6)
    assert type(served.ended[0]) is DeadlinePassed
    assert told.reset == INTERNAL


@in_memory
async def test_a_reply_that_nobody_takes_is_dropped_in_time() -> None:
    line = Line(Served(), window=0)
    told = await line.ask("GET", "/big")
    assert told.status == 200
    await line.settle(61)
    assert told.reset == CANCEL
    assert not line.down.exchanges


@in_memory
async def test_an_idle_connection_is_told_goodbye() -> None:
    line = Line(Served())
    await line.ask("GET", "/a")
    await line.settle(61)
    assert line.speaker.goaway == (1, NO_ERROR)
    await line.settle(2)
    assert line.pipe.end == "closed"


@in_memory
async def test_a_connection_lives_no_longer_than_its_certificate() -> None:
    served = Served()
    callers = Callers(served)

    def identify(transport: object, down: Connection) -> object:
        down.expires = loop().clock() + 20
        return callers.peer

    callers.identify = identify  # type: ignore[assignment, method-assign]
    line = Line(served)
    line.pipe = callers.connect2()
    line.speaker = Speaker()
    line.pipe.say(line.speaker.out())
    await line.ask("GET", "/never")
    await line.settle(21)
    assert "certificate" in str(served.ended[0])
    assert line.speaker.goaway is not None
    assert line.pipe.end == "closed"


# -- the end


@in_memory
async def test_a_drain_says_goaway_and_lets_streams_finish() -> None:
    served = Served()
    line = Line(served)
    served.waits = True
    told = await line.ask("GET", "/a")
    line.down.drain()
    await line.settle()
    assert line.speaker.goaway == (1, NO_ERROR)
    served.waits = False
    served.down[0].wake()  # type: ignore[attr-defined]
    await line.settle()
    assert (told.status, told.ended) == (200, True)
    assert line.pipe.end == "closed"


@in_memory
async def test_what_comes_after_goaway_is_refused_as_never_seen() -> None:
    served = Served()
    line = Line(served)
    await line.ask("GET", "/never")
    line.down.drain()
    line.pipe.say(line.speaker.ask("GET", "/late"))
    await line.settle()
    assert line.speaker.replies[3].reset == REFUSED
    assert len(served.requests) == 1


@in_memory
async def test_a_drain_of_an_idle_connection_closes_it() -> None:
    line = Line(Served())
    await line.settle()
    line.down.drain()
    await line.settle()
    assert line.pipe.end == "closed"
    assert line.speaker.goaway is not None


@in_memory
async def test_a_stream_whose_permit_is_withdrawn_ends_and_its_neighbours_do_not() -> None:
    served = Served()
    line = Line(served)
    told = await line.ask("GET", "/stream")
    await line.ask("GET", "/never")
    for one in line.down.exchanges:
        one.withdraw("no more")
    await line.settle()
    assert [type(one) for one in served.ended] == [PermitWithdrawn]
    assert (told.body, told.reset) == (b"first", INTERNAL)
    assert len(line.down.exchanges) == 1


@in_memory
async def test_a_caller_that_is_not_identified_is_not_served() -> None:
    callers = Callers(Served(), peer=None)
    pipe = callers.connect2()
    await loop().settle()
    assert pipe.end == "aborted"
    assert not callers.live
