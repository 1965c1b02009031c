"""Tasks: the only place that starts one.

A task is held until it ends, and one that fails is reported, never lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Final

_PAUSE: Final = 1.0  # seconds before what failed is begun anew


class Tasks:
    """The tasks of this process that outlive the call that started them."""

    def __init__(self, report: Callable[[str, BaseException], None]) -> None:
        self._live: set[asyncio.Task[None]] = set()
        self._ending = False
        self._report = report

    def __len__(self) -> int:
        return len(self._live)

    def spawn(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """Run *work* beside everything else; *name* is what a report calls it."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._live.add(task)
        task.add_done_callback(self._ended)
        return task

    def keep(self, make: Callable[[], Coroutine[object, object, None]], name: str) -> None:
        """Run what *make* returns, and anew after a fault: what it does must go on being done."""

        def begin_again(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception() is not None and not self._ending:
                asyncio.get_running_loop().call_later(_PAUSE, self._keep_on, make, name)

        self.spawn(make(), name).add_done_callback(begin_again)

    def _keep_on(self, make: Callable[[], Coroutine[object, object, None]], name: str) -> None:
        if not self._ending:
            self.keep(make, name)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._live.discard(task)
        if task.cancelled():
            return
        fault = task.exception()
        if fault is not None:
            self._report(task.get_name(), fault)

    async def end(self) -> None:
        """Cancel what still runs and wait until it has ended."""
        self._ending = True
        live = [task for task in self._live if task is not asyncio.current_task()]
        for task in live:
            task.cancel()
        await asyncio.gather(*live, return_exceptions=True)
