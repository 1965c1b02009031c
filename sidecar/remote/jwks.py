"""Keys of tokens from elsewhere: fetched in the background, kept fresh, and kept.

Every source is fetched anew every 20 minutes, and sooner when a token names a key
that is not there. While it cannot be had the last good keys stay; before the first
ones there are none, and tokens are refused. No call ever waits for a fetch.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from hashlib import sha256
from typing import Final, TypeAlias

from ..config.request_authentication import jwks_uri
from ..config.values import Malformed
from ..errors import MessageError
from ..mcp.message import parse_value
from ..policy.tokens.keys import LONGEST_JWKS, KeyRing, KeySource
from .fetch import FetchError, fetch

REFRESH: Final = 20 * 60.0  # seconds, Istio's
SOONEST: Final = 5.0  # seconds between two fetches that tokens ask for
_FIRST_RETRY: Final = 1.0
_LAST_RETRY: Final = 60.0
_FIRST_WAIT: Final = 5.0  # seconds that a start or a reload waits for keys, at most

Spawn: TypeAlias = Callable[[Coroutine[object, object, None], str], "asyncio.Task[None]"]
Fetch: TypeAlias = Callable[[str, float], Coroutine[object, object, bytes]]


class KeyKeeper:
    """Keeps the rings of a snapshot filled; keys outlive snapshots that name the same source.

    `now` is monotonic seconds, `say` tells a person.
    """

    def __init__(
        self,
        spawn: Spawn,
        now: Callable[[], float],
        say: Callable[[str], None],
        context: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        self._spawn = spawn
        self._now = now
        self._say = say
        self._context = context
        self._sources: dict[KeySource, _Source] = {}

    async def prepare(self, rings: Sequence[KeyRing]) -> None:
        """Try to have keys for those of *rings* whose source is new, for a few seconds."""
        new = [self._source(source) for source in _named(rings) if source not in self._sources]
        if not new:
            return
        tries = [self._spawn(source.refresh(), "keys of tokens") for source in new]
        await asyncio.wait(tries, timeout=_FIRST_WAIT)

    def keep(self, rings: Sequence[KeyRing]) -> None:
        """Fill *rings* from now on, and no others: what nobody names any more is let go."""
        wanted = _named(rings)
        for name in [name for name in self._sources if name not in wanted]:
            self._sources.pop(name).end()
        for name in wanted:
            source = self._sources.get(name) or self._source(name)
            source.fill([ring for ring in rings if ring.source == name])
            source.start(self._spawn)

    def _source(self, name: KeySource) -> _Source:
        get = partial(fetch, most=LONGEST_JWKS, context=self._context)
        source = _Source(name, lambda url, limit: get(url, seconds=limit), self._now, self._say)
        self._sources[name] = source
        return source


class _Source:
    """One place that keys come from, and the rings that hold them."""

    def __init__(
        self, name: KeySource, get: Fetch, now: Callable[[], float], say: Callable[[str], None]
    ) -> None:
        self._name = name
        self._get = get
        self._now = now
        self._say = say
        self._rings: list[KeyRing] = []
        self._first = KeyRing(name)  # what has been fetched, whoever wants it
        self._digest = b""
        self._asked = asyncio.Event()
        self._tried = float("-inf")
        self._failures = 0
        self._task: asyncio.Task[None] | None = None
        self._running = asyncio.Lock()

    def fill(self, rings: Iterable[KeyRing]) -> None:
        """Let *rings* hold what is held here, now and later."""
        self._rings = list(rings)
        for ring in self._rings:
            ring.ask = self._asked.set
            ring.keys = self._first.keys

    def start(self, spawn: Spawn) -> None:
        """Begin to keep the keys fresh, if that has not begun."""
        if self._task is None:
            self._task = spawn(self._run(), "keys of tokens")

    def end(self) -> None:
        """Fetch no more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            await self._wait()
            await self.refresh()

    async def _wait(self) -> None:
        """Wait until it is time: for the next regular fetch, or for one that a token asks for."""
        regular = REFRESH
        if self._failures:
            regular = min(_FIRST_RETRY * 2 ** min(self._failures - 1, 10), _LAST_RETRY)
        due = self._tried + regular
        try:
            async with asyncio.timeout(max(0.0, due - self._now())):
                await self._asked.wait()
        except TimeoutError:
            return
        soonest = min(due, self._tried + SOONEST)
        await asyncio.sleep(max(0.0, soonest - self._now()))

    async def refresh(self) -> None:
        """Fetch the keys now; what fails leaves those that are there."""
        async with self._running:
            self._asked.clear()
            self._tried = self._now()
            try:
                data = await self._fetched()
                if sha256(data).digest() != self._digest:
                    self._take(data)
            except (FetchError, ValueError) as error:
                self._failed(error)
            else:
                if self._failures:
                    self._say(f"the keys of tokens are there again: {self._shown}")
                self._failures = 0

    async def _fetched(self) -> bytes:
        """Return the key set. Raises FetchError or ValueError."""
        if not self._name.discover:
            return await self._get(self._name.uri, self._name.timeout)
        document = await self._get(self._name.uri, self._name.timeout)
        return await self._get(_jwks_uri_in(document), self._name.timeout)

    def _take(self, data: bytes) -> None:
        from ..policy.tokens.jwks import parse_jwks

        # The same bytes stay the same keys, so that verified tokens stay remembered.
        keys = parse_jwks(data)
        self._digest = sha256(data).digest()
        for ring in (self._first, *self._rings):
            ring.keys = keys

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self._failures > 1:
            return  # said once, until it works again
        rest = "the last good ones stay" if self._first.keys else "tokens are refused until then"
        self._say(f"the keys of tokens cannot be fetched from {self._shown}: {error}; {rest}")

    @property
    def _shown(self) -> str:
        return self._name.uri.partition("?")[0]


def _named(rings: Iterable[KeyRing]) -> dict[KeySource, None]:
    return {ring.source: None for ring in rings if ring.source is not None}


def _jwks_uri_in(document: bytes) -> str:
    """Return where a discovery document says the keys are. Raises ValueError."""
    try:
        value = parse_value(document)
    except MessageError as error:
        raise ValueError(f"the issuer's discovery document is no JSON: {error}") from None
    found = value.get("jwks_uri") if isinstance(value, dict) else None
    try:
        return jwks_uri(found if isinstance(found, str) else "")
    except Malformed:
        raise ValueError("the issuer's discovery document names no https `jwks_uri`") from None
