"""The end of the work: what runs is finished, within a limit of time, and nothing begins.

A caller that was told of the end may leave its side open for as long as it likes: clients keep
idle connections that they do not read. It is given a moment to close in order, then let go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final

from .net.caller import Connection

_STEP: Final = 0.05  # seconds between two looks at what still runs
_MOMENT: Final = 10  # looks at a connection that is over, until it is let go


async def drain(live: Collection[Connection], shaking: Callable[[], int], limit: float) -> None:
    """Return once no connection is *live*, and cut off what is so after *limit* seconds.

    *shaking* says how many were accepted and are not let in yet: they are served, too.
    """
    over: dict[Connection, int] = {}
    for look in range(int(limit / _STEP)):
        for down in list(live):  # and who was accepted, and comes in only now
            down.drain()
            if down.over and look - over.setdefault(down, look) >= _MOMENT:
                down.abort()
        if not live and not shaking():
            return
        await asyncio.sleep(_STEP)
    if live:
        for down in list(live):
            down.abort()
        await asyncio.sleep(_STEP)  # what went on there hears of it, and is recorded
