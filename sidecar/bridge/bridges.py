"""All bridges of a sidecar, by the address that stands for them: opened, looked after, ended.

They outlive a reload that keeps them: sessions go on with the program they have, and new
ones get what is written now.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from ..config.stdio import StdioSpec
from ..net.tasks import Tasks
from ..observe.family import Family, counter, gauge
from .bridge import Bridge, Counts
from .child import Nursery
from .guard import Guard

_STEP: Final = 0.02  # seconds between two looks at what ends
_GRACE: Final = 1.0  # for the last of it to be seen, once all has been killed
_ENDING: Final = "the sidecar ends"


class Bridges:
    """The bridges; *environment* is this process' own, *say* tells a person."""

    def __init__(
        self,
        tasks: Tasks,
        now: Callable[[], float],
        environment: Mapping[str, str],
        say: Callable[[str], None],
        session_id: Callable[[], str],
    ) -> None:
        self._tasks, self._now, self._say = tasks, now, say
        self._guard = Guard(tasks, say)
        self._environment = environment
        self._session_id = session_id
        self._bridges: dict[str, Bridge] = {}
        self._leaving: list[Bridge] = []

    def keep(self, specs: Mapping[str, StdioSpec]) -> None:
        """Have exactly the bridges of *specs*, by address."""
        for address in [one for one in self._bridges if one not in specs]:
            leaving = self._bridges.pop(address)
            leaving.stop("its listener is no more")
            self._leaving.append(leaving)
        for address, spec in specs.items():
            known = self._bridges.get(address)
            if known is None or known.spec != spec:
                self._complain(spec)
            if known is not None:
                known.spec = spec
                continue
            nursery = Nursery(self._guard, self._environment, self._now, self._sayer(address))
            self._bridges[address] = Bridge(spec, nursery, self._tasks, self._session_id)
        if self._bridges:
            self._guard.start()

    def connect(self, address: str) -> socket.socket:
        """Return a connection to the bridge at *address*. Raises ConnectionRefusedError."""
        bridge = self._bridges.get(address)
        if bridge is None:
            raise ConnectionRefusedError(f"`{address}` is no more")
        return bridge.connect()

    def look(self, now: float) -> None:
        """Do what is due at *now* (seconds, monotonic)."""
        for bridge in (*self._bridges.values(), *self._leaving):
            bridge.look(now)
        self._leaving = [bridge for bridge in self._leaving if bridge.children]

    async def stop(self) -> None:
        """End all programs, and wait until they have ended."""
        bridges = [*self._bridges.values(), *self._leaving]
        for bridge in bridges:
            bridge.stop(_ENDING)
        longest = max((bridge.spec.end_timeout for bridge in bridges), default=0.0)
        until = self._now() + longest + _GRACE
        while any(bridge.children for bridge in bridges) and self._now() < until:
            self.look(self._now())
            await asyncio.sleep(_STEP)
        self._guard.stop()

    def metrics(self) -> Iterator[Family]:
        """Yield what Prometheus is told; nothing where there is no bridge."""
        if self._bridges:
            yield from bridge_metrics(self._bridges)

    def _sayer(self, address: str) -> Callable[[str], None]:
        return lambda text: self._say(f"{address}: {text}")

    def _complain(self, spec: StdioSpec) -> None:
        """Say at once what every caller would meet; it may still be mended while we run."""
        program = spec.command[0]
        if shutil.which(program, path=spec.environment(self._environment).get("PATH")) is None:
            self._say(f"there is no program `{program}` that can be started")


def bridge_metrics(bridges: Mapping[str, Bridge]) -> Iterator[Family]:
    """Yield what is counted of *bridges*, by the address that stands for each."""
    for name, what, now in _GAUGES:
        family = gauge(f"sidecar_stdio_{name}", what, "server")
        for address, bridge in bridges.items():
            family.add(now(bridge), address)
        yield family
    for name, what, count in _COUNTERS:
        family = counter(f"sidecar_stdio_{name}", what, "server")
        for address, bridge in bridges.items():
            family.add(count(bridge.counts), address)
        yield family


_GAUGES: Final[tuple[tuple[str, str, Callable[[Bridge], int]], ...]] = (
    ("programs", "Programs that run as servers.", lambda bridge: bridge.children),
    ("sessions", "Sessions with programs.", lambda bridge: bridge.sessions),
)
_COUNTERS: Final[tuple[tuple[str, str, Callable[[Counts], int]], ...]] = (
    ("started", "Programs started.", lambda counts: counts.started),
    ("ended", "Programs that ended.", lambda counts: counts.ended),
    (
        "start_failures",
        "Programs that ended before they said a word, or never said one.",
        lambda counts: counts.failed,
    ),
    ("refused", "Callers for whom no program could be started.", lambda counts: counts.refused),
    (
        "lines_left_out",
        "Lines of programs that were no message, or nobody's.",
        lambda counts: counts.left_out,
    ),
)
