"""Which addresses the names of endpoints have: looked up again and again, beside the calls.

While a look-up fails, what was found last stands; a name that was never found has
no addresses. Whoever answers decides where calls go, so only names that a document
gives are asked for, and of each a bounded number of addresses is used.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeAlias

from ..upstream.cluster import ClusterSpec
from .tasks import Tasks

# A host and a port in, addresses as `host:port` out; raises OSError.
LookUp: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]

_PATIENCE: Final = 5.0  # seconds for one look-up


async def look_up(host: str, port: int) -> Sequence[str]:
    """Return the addresses that the system's resolver has for *host*, each with *port*."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [
        f"[{address[0]}]:{port}" if family == socket.AF_INET6 else f"{address[0]}:{port}"
        for family, _, _, _, address in found
    ]


class Names:
    """The addresses of names (`host:port`); *changed* is told of each that has others now."""

    def __init__(self, tasks: Tasks, look_up: LookUp, changed: Callable[[str], None]) -> None:
        self._tasks = tasks
        self._look_up = look_up
        self._changed = changed
        self._known: dict[str, tuple[str, ...]] = {}
        self._most: dict[str, int] = {}
        self._refresh = 0.0
        self._due = 0.0
        self._looking = False

    def of(self, name: str) -> tuple[str, ...]:
        """Return the addresses of *name*, none while it was never found."""
        return self._known.get(name, ())

    def follow(self, specs: Iterable[ClusterSpec]) -> None:
        """Look up the names of *specs* from now on, and forget all others."""
        following = [one for one in specs if any(end.resolve for end in one.endpoints)]
        self._most = _bounds(following)
        self._refresh = min((one.names.refresh for one in following), default=0.0)
        self._known = {name: self._known[name] for name in self._most if name in self._known}

    async def learn(self, specs: Iterable[ClusterSpec]) -> None:
        """Look up what *specs* name and nobody knows yet, before they are put to use."""
        wanted = _bounds(specs)
        self._most = {**wanted, **self._most}
        await self._find([name for name in wanted if name not in self._known])

    def tick(self, now: float) -> None:
        """Begin to look all of them up if it is time."""
        if self._most and now >= self._due and not self._looking:
            self._due = now + self._refresh
            self._looking = True
            self._tasks.spawn(self._find_all(), "names")

    async def _find_all(self) -> None:
        try:
            await self._find(list(self._most))
        finally:
            self._looking = False

    async def _find(self, names: Sequence[str]) -> None:
        await asyncio.gather(*map(self._find_one, names))

    async def _find_one(self, name: str) -> None:
        host, _, port = name.rpartition(":")
        try:
            async with asyncio.timeout(_PATIENCE):
                found = await self._look_up(host, int(port))
        except (OSError, UnicodeError, TimeoutError):
            return  # what was found last stands
        # In an order of their own: resolvers turn theirs with every answer.
        addresses = tuple(sorted(set(found)))[: self._most.get(name, 0)]
        if addresses and addresses != self._known.get(name):
            self._known[name] = addresses
            self._changed(name)


def _bounds(specs: Iterable[ClusterSpec]) -> dict[str, int]:
    return {one.address: spec.names.most for spec in specs for one in spec.endpoints if one.resolve}
