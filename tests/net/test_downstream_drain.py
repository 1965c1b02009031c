"""A caller's connection in a drain: who is idle goes, who was let in is served once more."""

from __future__ import annotations

import pytest
from support.callers import Callers, request
from support.memory import in_memory, loop

from sidecar.http.h1 import Request
from sidecar.net.downstream import Downstream


class Served:
    """Answers each request with its target, once it may."""

    def __init__(self) -> None:
        self.waits = False
        self.down: Downstream

    async def __call__(self, request: Request, down: Downstream) -> None:
        self.down = down
        while self.waits:
            await down.wake
        assert request.head is not None
        down.write(b"%b\n" % request.head.start.target)


async def drain(callers: Callers) -> None:
    for down in list(callers.live):
        down.drain()
    await loop().settle()


@in_memory
async def test_a_drain_closes_who_is_idle_and_lets_who_is_served_finish() -> None:
    served = Served()
    callers = Callers(served)
    busy, idle = callers.connect(), callers.connect()
    idle.say(request("GET", "/i"))
    await loop().settle()
    served.waits = True
    busy.say(request("GET", "/a"))
    await loop().settle()
    await drain(callers)
    assert (idle.end, busy.end) == ("closed", "")
    busy.say(request("GET", "/b"))
    served.waits = False
    served.down.wake()
    await loop().settle()
    assert (busy.heard(), busy.end) == (b"/a\n", "closed")
    assert callers.live == set()


@pytest.mark.parametrize("begun", [0, 1, 20], ids=["nothing", "a byte", "half a head"])
@in_memory
async def test_who_has_asked_nothing_yet_is_served_once(begun: int) -> None:
    callers = Callers(Served())
    caller = callers.connect()
    data = request("GET", "/a")
    caller.say(data[:begun])
    await loop().settle()
    await drain(callers)
    await drain(callers)
    assert caller.end == ""
    caller.say(data[begun:] + request("GET", "/b"))
    await loop().settle()
    assert (caller.heard(), caller.end) == (b"/a\n", "closed")


@in_memory
async def test_who_asks_nothing_at_all_holds_no_drain_up() -> None:
    callers = Callers(Served())
    caller = callers.connect()
    for _ in range(4):  # a drain that looks again gives no more time
        await drain(callers)
        await loop().settle(0.5)
    assert (caller.end, callers.live) == ("closed", set())
