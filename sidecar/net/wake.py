"""The one place where a flow can be waiting.

Everything that happens to an exchange (bytes, a deadline, the caller gone, the
upstream lost, a buffer drained) changes state and then wakes; the flow looks
again. So no wake-up is lost and none needs an argument. A flow that waits nowhere
else needs no task either: what happens to it can drive it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import TypeAlias

Flow: TypeAlias = Coroutine[object, None, object]


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

    def at_once(self) -> None:
        """Wake the flow from a callback of the loop, where nothing else is under way."""
        self()

    def throw(self, fault: Exception) -> None:
        """Wake the flow with *fault*, now or at its next wait."""
        self.fault = fault
        self()


class Drive(Wake):
    """A wake that drives its flow, which waits here and nowhere else.

    Woken, the flow goes on at the loop's next turn, so that no flow runs inside of another
    one's; `at_once` spares it the turn. *ended* is told of its end, and of the fault that it
    ended with, if it did.
    """

    __slots__ = ("_due", "_ended", "_flow", "_going")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ended: Callable[[Exception | None], None]
    ) -> None:
        super().__init__(loop)
        self._ended = ended
        self._flow: Flow | None = None
        self._going = False
        self._due = False

    def __await__(self) -> Generator[None, None, None]:
        if self.fault is not None:
            raise self.fault
        yield
        if self.fault is not None:
            raise self.fault

    def run(self, flow: Flow) -> None:
        """Drive *flow*, from now on; the one before it has ended."""
        self._flow = flow
        self.at_once()

    def __call__(self) -> None:
        if self._flow is not None and not self._due:
            self._due = True
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._due = False
        self.at_once()

    def at_once(self) -> None:
        flow = self._flow
        if flow is None:
            return
        if self._going:  # what it did itself has changed something: it looks again, later
            self()
            return
        self._going = True
        try:
            flow.send(None)
        except StopIteration:
            fault = None
        except Exception as error:
            fault = error
        else:
            return
        finally:
            self._going = False
        self._flow = None
        self._ended(fault)
