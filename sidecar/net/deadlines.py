"""Deadlines: one sweep over what has one, instead of a timer per request.

Whoever has a deadline sets its own attribute, which costs nothing; twice a
second the sweep asks who is late. So a limit is met within half a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

NEVER: Final = float("inf")
_PERIOD: Final = 0.5


class Timed(Protocol):
    """Something with a deadline (on the loop's clock), told when it has passed."""

    deadline: float

    def expire(self) -> None:
        """Act on the deadline; it may set a new one."""


class Deadlines:
    """All that have a deadline, swept twice a second."""

    def __init__(self, loop: asyncio.AbstractEventLoop, now: Callable[[], float]) -> None:
        self._loop = loop
        self.now = now  # the clock of all deadlines, in seconds
        self._timed: set[Timed] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._timed)

    def add(self, timed: Timed) -> None:
        """Watch *timed* until it is removed."""
        self._timed.add(timed)

    def remove(self, timed: Timed) -> None:
        """Watch *timed* no longer."""
        self._timed.discard(timed)

    def start(self) -> None:
        """Begin to sweep."""
        self._timer = self._loop.call_later(_PERIOD, self._sweep)

    def stop(self) -> None:
        """Sweep no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _sweep(self) -> None:
        self.start()  # first: a bug in one must not stop the clock for all
        now = self.now()
        late = [timed for timed in self._timed if timed.deadline <= now]
        for timed in late:
            timed.deadline = NEVER
            timed.expire()
