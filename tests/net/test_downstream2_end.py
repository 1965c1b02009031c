"""How a caller's HTTP/2 connection ends: its last word is heard, whatever still comes."""

from __future__ import annotations

import pytest
from support.lines2 import Line, Served
from support.memory import in_memory, loop

from sidecar.http.h2 import NO_ERROR, PROTOCOL
from sidecar.http.h2_frames import write_goaway

GOODBYE = write_goaway(0, NO_ERROR)


@in_memory
async def test_a_fault_is_the_end_of_the_connection_at_once() -> None:
    line = Line(Served())
    await line.ask("GET", "/never")
    line.pipe.say(b"\0\0\x08\x06\0\0\0\0\x03" + bytes(8))
    await line.settle()
    assert line.speaker.goaway == (1, PROTOCOL)
    assert line.pipe.end == "closed"
    assert not line.callers.live


@pytest.mark.parametrize("says", [b"\0\0\x08\x06\0\0\0\0\x03" + bytes(8), GOODBYE])
@in_memory
async def test_without_tls_the_end_is_said_and_what_still_comes_is_dropped(says: bytes) -> None:
    line = Line(Served(), secure=False)
    await line.ask("GET", "/a")
    line.pipe.say(says)
    line.pipe.say(b"x" * 1_000)
    await line.settle()
    assert (line.pipe.said_end, line.pipe.end, line.pipe.reading) == (True, "", True)
    await line.settle(2)
    assert line.pipe.end == "closed"
    assert not line.callers.live


@in_memory
async def test_without_tls_a_caller_that_ends_too_is_waited_for_no_longer() -> None:
    line = Line(Served(), secure=False)
    await line.settle()
    line.down.drain()
    assert line.pipe.said_end
    line.pipe.hang_up()
    await line.settle()
    assert line.pipe.end == "closed"
    assert line.speaker.goaway == (0, NO_ERROR)


@pytest.mark.parametrize("secure", [True, False])
@in_memory
async def test_a_caller_that_takes_nothing_has_a_while_to_hear_the_end(secure: bool) -> None:
    line = Line(Served(), secure=secure)
    await line.settle()
    line.pipe.stall()
    line.down.drain()
    await loop().settle()
    assert (line.pipe.said_end, line.pipe.end) == (False, "")
    line.pipe.drain()
    await line.settle(2)
    assert line.speaker.goaway == (0, NO_ERROR)
    assert line.pipe.end == "closed"


@in_memory
async def test_without_tls_a_caller_that_sends_no_more_is_answered_what_it_asked_whole() -> None:
    served = Served()
    served.waits = True
    line = Line(served, secure=False)
    whole = await line.ask("POST", "/a", b"body")
    await line.ask("POST", "/a", b"bo", end=False)
    line.pipe.hang_up()
    assert [stream.number for stream in line.down.exchanges] == [1]
    served.waits = False
    served.down[0].wake()  # type: ignore[attr-defined]
    await line.settle()
    assert (whole.body, whole.ended, line.pipe.said_end) == (b"body", True, True)


@in_memory
async def test_nothing_is_written_to_a_caller_that_has_gone_while_it_was_served() -> None:
    faults: list[object] = []
    loop().set_exception_handler(lambda _, fault: faults.append(fault))
    line = Line(Served(), secure=False)
    await line.ask("GET", "/never")
    line.down.drain()
    line.down.http2.ping()  # said, and not yet sent
    line.pipe.reset()
    await line.settle()
    assert not line.down.exchanges
    assert not faults
    assert not len(line.callers.deadlines)


@in_memory
async def test_without_tls_a_caller_that_leaves_within_a_request_is_let_go() -> None:
    line = Line(Served(), secure=False)
    await line.ask("POST", "/a", b"bo", end=False)
    line.pipe.hang_up()
    await line.settle()
    assert line.pipe.end == "closed"
    assert not line.callers.live
    assert not len(line.callers.deadlines)


@pytest.mark.parametrize("path", ["/big", "/pump"])
@in_memory
async def test_without_tls_what_waits_for_a_window_is_lost_once_nobody_can_open_it(
    path: str,
) -> None:
    served = Served()
    line = Line(served, window=1000, secure=False)
    line.speaker.takes = False
    told = await line.ask("GET", path)
    assert (len(told.body), told.ended) == (1000, False)
    assert len(line.down.exchanges) == 1
    line.pipe.hang_up()
    await line.settle()
    assert not line.down.exchanges
    assert (line.pipe.said_end or line.pipe.end, line.callers.faults) == (True, [])


@in_memory
async def test_without_tls_what_fits_the_window_is_answered_to_who_sends_no_more() -> None:
    served = Served()
    served.waits = True
    line = Line(served, window=1000, secure=False)
    line.speaker.takes = False
    small, large = await line.ask("GET", "/a"), await line.ask("GET", "/big")
    line.pipe.hang_up()
    served.waits = False
    for down in served.down:
        down.wake()  # type: ignore[attr-defined]
    await line.settle()
    assert (small.body, small.ended) == (b"ok", True)
    assert (len(large.body), large.ended) == (1000, False)
    assert not line.down.exchanges


@pytest.mark.parametrize("secure", [True, False])
@in_memory
async def test_it_is_over_once_all_is_said_and_taken(secure: bool) -> None:
    served = Served()
    served.waits = True
    line = Line(served, secure=secure)
    await line.ask("GET", "/a")
    line.down.drain()
    assert not line.down.over
    served.waits = False
    line.pipe.stall()
    served.down[0].wake()  # type: ignore[attr-defined]
    await line.settle()
    assert not line.down.over
    line.pipe.drain()
    await loop().settle()
    assert line.down.over
