"""Reloads: one at a time, a whole new configuration or none of it.

A signal that comes during a reload makes another one follow, because what was
read may be older than that signal. What was refused leaves everything as it was
and says why. What taking a plan means is told by whoever makes this.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

from .config.problem import ConfigError
from .errors import StartError
from .net.tasks import Tasks
from .observe.journal import Journal
from .plan import Plan


class Reload:
    """Loads again when asked: *load* in a thread, then *prepare* what it needs from elsewhere,
    then *accept* in the loop, then *ended*.

    *load* and *accept* may raise ConfigError or StartError, and then nothing has changed.
    `last_failed` is the first line of why the last one was refused, empty if it was not.
    """

    def __init__(
        self,
        load: Callable[[], Plan],
        accept: Callable[[Plan], None],
        ended: Callable[[], None],
        render: Callable[[ConfigError], str],
        journal: Journal,
        tasks: Tasks,
        prepare: Callable[[Plan], Awaitable[None]],
    ) -> None:
        self._load = load
        self._accept = accept
        self._ended = ended
        self._render = render
        self._journal = journal
        self._tasks = tasks
        self._prepare = prepare
        self._running = self._again = False
        self.last_failed = ""

    def soon(self) -> None:
        """Begin to reload, or do it again once the one that runs is over."""
        if self._running:
            self._again = True
            return
        self._running = True
        self._tasks.spawn(self._run(), "reload")

    async def _run(self) -> None:
        try:
            plan = await asyncio.get_running_loop().run_in_executor(None, self._load)
            await self._prepare(plan)
            self._accept(plan)
        except ConfigError as error:
            self._refuse(self._render(error))
        except StartError as error:
            hint = f"\n  = help: {error.help}" if error.help else ""
            self._refuse(f"error: {error}{hint}")
        else:
            self.last_failed = ""
            self._journal.event({"event": "reloaded"})
        finally:
            self._running = False
            if self._again:
                self._again = False
                self.soon()
            else:
                self._ended()

    def _refuse(self, why: str) -> None:
        self.last_failed = why.partition("\n")[0]
        self._journal.event({"event": "reload_refused", "why": self.last_failed})
        print(f"{why}\nThe running configuration stays in force.", file=sys.stderr, flush=True)
