"""A caller's connection: one request after the other, limits of time, and how it ends."""

from __future__ import annotations

import asyncio

import pytest
from support.callers import Callers, request
from support.memory import Pipe, in_memory, loop

from sidecar.errors import CallerGone, DeadlinePassed
from sidecar.http.h1 import Bounds, Request
from sidecar.http.head import ReplyHead
from sidecar.net.downstream import Downstream


class Served:
    """Answers each request with its target; or waits until it is told to."""

    def __init__(self, *, waits: bool = False) -> None:
        self.waits = waits
        self.requests: list[Request] = []
        self.downs: list[Downstream] = []
        self.raised: list[Exception] = []

    async def __call__(self, request: Request, down: Downstream) -> None:
        self.requests.append(request)
        self.downs.append(down)
        try:
            while self.waits:
                await down.wake
        except Exception as fault:
            self.raised.append(fault)
            raise
        target = request.head.start.target if request.head is not None else b"none"
        status = request.fault.status if request.fault is not None else 200
        down.write(b"%d %b\n" % (status, target))

    def go(self) -> None:
        self.waits = False
        self.downs[-1].wake()


def connect(served: Served, *, secure: bool = True, **more: object) -> tuple[Callers, Pipe]:
    callers = Callers(served, **more)  # type: ignore[arg-type]
    return callers, callers.connect(secure=secure)


@in_memory
async def test_requests_are_served_one_after_the_other() -> None:
    served = Served()
    callers, caller = connect(served)
    for target in ("/a", "/b"):
        caller.say(request("GET", target))
        await loop().settle()
    assert caller.heard() == b"200 /a\n200 /b\n"
    assert caller.end == ""
    assert len(callers.live) == len(callers.deadlines) == 1


@in_memory
async def test_requests_sent_ahead_wait_for_their_turn() -> None:
    served = Served(waits=True)
    _, caller = connect(served)
    caller.say(request("GET", "/a") + request("GET", "/b") + request("GET", "/c"))
    await loop().settle()
    assert len(served.requests) == 1
    served.go()
    await loop().settle()
    assert caller.heard() == b"200 /a\n200 /b\n200 /c\n"


@in_memory
async def test_a_caller_that_sends_far_ahead_is_not_read() -> None:
    served = Served(waits=True)
    _, caller = connect(served)
    caller.say(request("GET", "/a"))
    await loop().settle()
    ahead = request("GET", "/b") * 60
    for start in range(0, len(ahead), 500):
        caller.say(ahead[start : start + 500])
    assert not caller.reading
    served.go()
    await loop().settle()
    assert caller.heard().count(b"200 /b\n") == 60


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@in_memory
async def test_a_request_may_come_in_any_pieces(size: int) -> None:
    served = Served()
    _, caller = connect(served)
    data = request("POST", "/a", b"body", "x-y: z") + request("GET", "/b")
    for start in range(0, len(data), size):
        caller.say(data[start : start + size])
        await loop().settle()
    assert [one.body for one in served.requests] == [b"body", b""]


@in_memory
async def test_leave_to_send_the_body_is_given_once() -> None:
    _, caller = connect(Served())
    caller.say(request("POST", "/a", b"", "content-length: 4", "expect: 100-continue"))
    assert caller.heard() == b"HTTP/1.1 100 Continue\r\n\r\n"
    caller.say(b"bo")
    caller.say(b"dy")
    await loop().settle()
    assert caller.heard() == b"200 /a\n"


# -- limits of time


@pytest.mark.parametrize(
    ("data", "limit", "said"),
    [
        (b"", 60, b""),
        (b"GET / HT", 10, b"408 none\n"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf", 30, b"408 none\n"),
    ],
)
@in_memory
async def test_a_caller_has_so_long_to_ask(data: bytes, limit: int, said: bytes) -> None:
    served = Served()
    callers, caller = connect(served)
    if data:
        caller.say(data)
    await loop().settle(limit - 1)
    assert caller.end == ""
    await loop().settle(2)
    assert (caller.end, caller.heard()) == ("closed", said)
    assert len(callers.live) == len(callers.deadlines) == 0


@in_memory
async def test_a_trickle_does_not_renew_the_limit() -> None:
    _, caller = connect(Served())
    for byte in b"GET /aaaaaaaaa":
        caller.say(bytes([byte]))
        await loop().settle(0.9)
    assert caller.end == "closed"


@in_memory
async def test_a_head_and_a_body_have_each_their_own_time() -> None:
    served = Served()
    _, caller = connect(served)
    data = request("POST", "/a", b"body")
    caller.say(data[:9])
    await loop().settle(9)
    caller.say(data[9:-1])
    await loop().settle(28)
    caller.say(data[-1:])
    await loop().settle(40)
    assert caller.heard() == b"200 /a\n"


@in_memory
async def test_an_exchange_has_no_limit_but_the_one_that_is_set() -> None:
    served = Served(waits=True)
    _, caller = connect(served)
    caller.say(request("GET", "/a"))
    await loop().settle(1000)
    assert served.raised == []
    served.downs[0].deadline = loop().clock() + 5
    await loop().settle(6)
    assert [type(fault) for fault in served.raised] == [DeadlinePassed]
    assert caller.end == "closed"


# -- ends


@pytest.mark.parametrize("how", ["hang_up", "reset"])
@in_memory
async def test_who_serves_is_told_when_the_caller_leaves(how: str) -> None:
    served = Served(waits=True)
    callers, caller = connect(served)
    caller.say(request("GET", "/a"))
    await loop().settle()
    getattr(caller, how)()
    await loop().settle()
    assert [type(fault) for fault in served.raised] == [CallerGone]
    assert len(callers.live) == len(callers.deadlines) == 0
    assert callers.faults == []


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("how", ["hang_up", "reset"])
@pytest.mark.parametrize("data", [b"", b"GET /a HTT"])
@in_memory
async def test_a_caller_may_leave_without_a_request(data: bytes, how: str, secure: bool) -> None:
    callers, caller = connect(Served(), secure=secure)
    await loop().settle()
    if data:
        caller.say(data)
    getattr(caller, how)()
    await loop().settle()
    assert caller.end, "our side of the connection is closed too"
    assert len(callers.live) == len(callers.deadlines) == 0
    assert callers.faults == []


@in_memory
async def test_who_is_answered_at_once_is_not_read_further_ahead_than_others() -> None:
    served = Served()
    _, caller = connect(served)
    some = request("GET", "/a") * 20
    said = most = 0
    while said < 50:
        if caller.reading:
            caller.say(some)
            said += 1
        most = max(most, served.downs[0]._reader.waiting)
        await asyncio.sleep(0)
    assert most <= 1024 + len(some)
    for _ in range(5):
        await loop().settle()
    assert caller.heard() == b"200 /a\n" * 1000
    caller.say(request("GET", "/b"))
    assert caller.heard() == b"200 /b\n"


@pytest.mark.parametrize("secure", [True, False])
@in_memory
async def test_who_closes_in_the_turn_of_a_reply_still_gets_it(secure: bool) -> None:
    async def refuses(request: Request, down: Downstream) -> None:
        down.reply(ReplyHead(403, b"HTTP/1.1 403 No\r\n", (), []), 2, b"no")

    caller = Callers(refuses).connect(secure=secure)
    caller.say(request("GET", "/a"))
    caller.hang_up()
    await loop().settle()
    assert (caller.heard()[-2:], caller.end) == (b"no", "closed")


@in_memory
async def test_who_closes_one_half_in_plaintext_is_still_answered() -> None:
    served = Served(waits=True)
    _, caller = connect(served, secure=False)
    caller.say(request("GET", "/a"))
    await loop().settle()
    caller.hang_up()
    await loop().settle()
    assert caller.end == ""
    assert served.downs[0].half_closed
    served.go()
    await loop().settle()
    assert (caller.heard(), caller.end) == (b"200 /a\n", "closed")


@pytest.mark.parametrize(
    "asked",
    [
        request("GET", "/a", b"", "connection: close"),
        b"GET /a HTTP/1.0\r\nhost: a\r\n\r\n",
    ],
)
@in_memory
async def test_a_caller_that_asks_once_is_served_once(asked: bytes) -> None:
    served = Served()
    _, caller = connect(served)
    caller.say(asked + request("GET", "/b"))
    await loop().settle()
    assert (caller.heard(), caller.end) == (b"200 /a\n", "closed")


@in_memory
async def test_after_bytes_that_are_no_request_nothing_is_read() -> None:
    served = Served()
    _, caller = connect(served)
    caller.say(b"NONSENSE\r\n\r\n" + request("GET", "/b"))
    await loop().settle()
    caller.say(request("GET", "/c"))
    await loop().settle()
    assert (caller.heard(), caller.end) == (b"400 none\n", "closed")
    assert len(served.requests) == 1


@in_memory
async def test_who_is_not_let_in_never_has_a_request() -> None:
    served = Served()
    callers, caller = connect(served, peer=None)
    caller.say(request("GET", "/a"))
    await loop().settle()
    assert caller.end == "aborted"
    assert served.requests == []
    assert len(callers.live) == 0


@in_memory
async def test_a_bug_in_what_serves_ends_this_connection_and_no_other() -> None:
    class Broken(Served):
        async def __call__(self, request: Request, down: Downstream) -> None:
            raise ValueError("a bug")

    callers, caller = connect(Broken())
    other = callers.connect()
    caller.say(request("GET", "/a"))
    await loop().settle()
    assert (caller.end, other.end) == ("closed", "")
    assert [str(fault) for fault in callers.faults] == ["a bug"]
    assert len(callers.live) == 1


@in_memory
async def test_who_does_not_take_a_reply_gets_no_other() -> None:
    served = Served(waits=True)
    _, caller = connect(served)
    caller.say(request("GET", "/a") * 3)
    await loop().settle()
    caller.stall()
    served.go()
    await loop().settle()
    assert len(served.requests) == 1
    caller.drain()
    await loop().settle()
    assert len(served.requests) == 3
    assert caller.heard() == b"200 /a\n" * 3


@pytest.mark.parametrize("ahead", [b"", b"GET /b HT", request("GET", "/b")])
@in_memory
async def test_who_takes_nothing_for_too_long_is_cut_off(ahead: bytes) -> None:
    served = Served()
    callers, caller = connect(served)
    caller.say(request("GET", "/a"))
    await loop().settle()
    caller.stall()
    if ahead:
        caller.say(ahead)
    await loop().settle(61)
    assert (caller.end, len(served.requests)) == ("aborted", 1)
    assert len(callers.live) == len(callers.deadlines) == 0


@in_memory
async def test_who_does_not_even_take_the_end_is_cut_off() -> None:
    served = Served(waits=True)
    callers, caller = connect(served)
    caller.say(request("GET", "/a", b"", "connection: close"))
    await loop().settle()
    caller.stall()
    served.go()
    await loop().settle()
    assert caller.end == "closing"
    await loop().settle(61)
    assert caller.end == "aborted"
    assert len(callers.live) == len(callers.deadlines) == 0


@in_memory
async def test_who_takes_the_last_reply_late_is_not_served_again() -> None:
    served = Served(waits=True)
    callers, caller = connect(served)
    caller.say(request("POST", "/a", b"{}", "connection: close"))
    await loop().settle()
    caller.stall()
    served.go()
    await loop().settle()
    assert caller.end == "closing"
    caller.drain()
    await loop().settle()
    assert (len(served.requests), caller.heard()) == (1, b"200 /a\n")
    caller.abort()
    await loop().settle()
    assert len(callers.live) == 0


@in_memory
async def test_what_was_sent_ahead_of_a_drain_is_not_served_where_no_reply_can_go() -> None:
    served = Served()
    callers, caller = connect(served)
    caller.say(request("GET", "/a") * 3)
    [down] = callers.live
    down.drain()
    await loop().settle()
    assert (caller.end, len(served.requests)) == ("closed", 1)


@in_memory
async def test_how_much_may_wait_for_a_reader_is_a_limit_that_is_set() -> None:
    _, caller = connect(Served(), bounds=Bounds(buffer=4321))
    assert caller.high == 4321


@in_memory
async def test_a_reader_that_takes_nothing_is_known_and_wakes_when_it_does() -> None:
    served = Served(waits=True)
    _, caller = connect(served)
    caller.say(request("GET", "/a"))
    await loop().settle()
    down = served.downs[0]
    caller.stall()
    assert down.paused
    served.waits = False
    caller.drain()
    await loop().settle()
    assert not down.paused
    assert caller.heard() == b"200 /a\n"
