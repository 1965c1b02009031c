"""When a caller's connection is over: nothing is served, all is written, and it closes."""

from __future__ import annotations

from support.callers import Callers, request
from support.memory import in_memory, loop

from sidecar.http.h1 import Request
from sidecar.net.caller import Caller
from sidecar.net.downstream import Downstream


@in_memory
async def test_it_is_over_once_it_closes_and_all_was_taken() -> None:
    waits = [True]

    async def serve(_: Request, down: Caller) -> None:
        while waits[0]:
            await down.wake

    caller = Callers(serve).connect()
    down = caller.protocol
    assert isinstance(down, Downstream)
    assert not down.over
    caller.say(request("GET", "/a"))
    await loop().settle()
    down.drain()
    assert not down.over
    caller.stall()
    waits[0] = False
    down.wake()
    await loop().settle()
    assert (caller.end, down.over) == ("closing", False)
    caller.drain()
    assert down.over
