"""The end: who works is waited for, who is over is let go, and nobody is waited for for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from support.memory import in_memory, loop

from sidecar.drain import drain
from sidecar.net.caller import Connection


class Caller:
    """As much of a caller's connection as a drain looks at."""

    def __init__(self, live: set[Connection], *, over: bool = False) -> None:
        self.over = over
        self.drained = 0
        self.aborted = False
        self._live = live
        live.add(cast(Connection, self))

    def drain(self) -> None:
        self.drained += 1

    def abort(self) -> None:
        self.aborted = True
        self.leave()

    def leave(self) -> None:
        self._live.discard(cast(Connection, self))


def begin(
    live: set[Connection], shaking: Callable[[], int] = lambda: 0, limit: float = 10.0
) -> asyncio.Task[None]:
    return loop().create_task(drain(live, shaking, limit))


async def after(seconds: float) -> None:
    """Let so much time go by, in small steps."""
    for _ in range(round(seconds / 0.01)):
        await loop().settle(0.01)


@in_memory
async def test_with_nobody_there_it_is_over_at_once() -> None:
    ending = begin(set())
    await loop().settle()
    assert ending.done()


@in_memory
async def test_who_works_is_waited_for() -> None:
    live: set[Connection] = set()
    busy = Caller(live)
    ending = begin(live)
    await after(5.0)
    assert busy.drained > 0
    assert (busy.aborted, ending.done()) == (False, False)
    busy.leave()
    await after(0.1)
    assert ending.done()


@in_memory
async def test_who_is_over_and_leaves_its_side_open_is_let_go_after_a_moment() -> None:
    live: set[Connection] = set()
    idle, busy = Caller(live, over=True), Caller(live)
    ending = begin(live)
    await after(0.4)
    assert not idle.aborted
    await after(0.4)
    assert (idle.aborted, busy.aborted) == (True, False)
    busy.over = True  # its moment begins only now
    await after(0.4)
    assert not busy.aborted
    await after(0.4)
    assert busy.aborted
    assert ending.done()


@in_memory
async def test_who_comes_in_meanwhile_is_drained_too() -> None:
    live: set[Connection] = set()
    shaking = [1]
    ending = begin(live, lambda: shaking[0])
    await after(1.0)
    assert not ending.done()
    late = Caller(live)
    shaking[0] = 0
    await after(0.2)
    assert (late.drained > 0, ending.done()) == (True, False)
    late.leave()
    await after(0.1)
    assert ending.done()


@in_memory
async def test_what_does_not_end_is_cut_off_at_the_limit() -> None:
    live: set[Connection] = set()
    busy = Caller(live)
    ending = begin(live, limit=2.0)
    await after(1.8)
    assert not busy.aborted
    await after(0.5)
    assert busy.aborted
    assert ending.done()
