"""The one place where a flow can be waiting.

Everything that happens to an exchange (bytes, a deadline, the caller gone, the
upstream lost, a buffer drained) changes state and then wakes; the flow looks
again. So no wake-up is lost and none needs an argument.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator


class Wake:
    """`await wake` until something has changed; `wake()` says that it has."""

    __slots__ = ("_future", "_loop", "fault")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[None] | None = None
        self.fault: Exception | None = None

    def __await__(self) -> Generator[object, None, None]:
        if self.fault is not None:
            raise self.fault
        self._future = future = self._loop.create_future()
        yield from future
        if self.fault is not None:
            raise self.fault

    def __call__(self) -> None:
        future = self._future
        if future is not None:
            self._future = None
            if not future.done():
                future.set_result(None)

    def throw(self, fault: Exception) -> None:
        """Wake the flow with *fault*, now or at its next wait."""
        self.fault = fault
        self()
