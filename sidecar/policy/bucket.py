"""Token buckets in a bounded table, told the time.

A full bucket says no more than one that was never touched, so only full ones are
forgotten, and no caller gains by it. Where all are in use, the new keys of a limit
share one bucket. Nothing here knows calls or rules.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from math import inf
from typing import Final, TypeAlias

# A limit's id, then what its calls are told apart by.
Key: TypeAlias = tuple[str | bytes | None, ...]
Draw: TypeAlias = "tuple[Limit, Key, int]"  # the last: how many tokens

_ROUNDING: Final = 1e-9  # of a token: what a sum of floats may lack
_STEPS: Final = 32  # buckets that one new key looks at to find full ones
_UNITS: Final = {1: "s", 60: "m", 3600: "h"}


@dataclass(frozen=True, slots=True)
class Rate:
    """Tokens that come, evenly: *count* of them in *seconds*."""

    count: int
    seconds: int

    def __str__(self) -> str:
        return f"{self.count}/{_UNITS.get(self.seconds, f'{self.seconds}s')}"


@dataclass(frozen=True, slots=True, eq=False)
class Limit:
    """One limit as its buckets see it; of two with one *id*, the buckets are the same."""

    id: str
    rate: Rate
    burst: int
    per_second: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "per_second", self.rate.count / self.rate.seconds)


@dataclass(slots=True, eq=False)
class Bucket:
    """What there was *at* a moment: tokens come since, up to the limit's burst."""

    limit: Limit
    tokens: float
    at: float

    @property
    def full_at(self) -> float:
        """When it will be full, if nothing is taken until then."""
        return self.at + (self.limit.burst - self.tokens) / self.limit.per_second

    def wait(self, now: float, count: int) -> float:
        """Return 0 if there are *count* tokens, or the seconds until there will be.

        Infinity if it never holds so many.
        """
        if count > self.limit.burst:
            return inf
        per_second = self.limit.per_second
        missing = count - self.tokens - max(0.0, now - self.at) * per_second
        return missing / per_second if missing > _ROUNDING else 0.0

    def take(self, now: float, count: int) -> None:
        """Take *count* tokens, which `wait` says are there. A clock that goes back stands still."""
        limit, now = self.limit, max(self.at, now)
        self.tokens = min(limit.burst, self.tokens + (now - self.at) * limit.per_second) - count
        self.at = now


class Table:
    """Buckets by key: at most *most*, but for one that the new keys of a limit share.

    `sharing` counts the tokens that were taken from shared buckets.
    """

    __slots__ = ("_buckets", "_due", "_serial", "_shared", "most", "sharing")

    def __init__(self, most: int) -> None:
        self.most = most
        self.sharing = 0
        self._buckets: dict[Key, Bucket] = {}
        self._shared: dict[str, Bucket] = {}
        # INVARIANT: one entry a bucket, and no bucket is full before its entry is due.
        self._due: list[tuple[float, int, Key]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, draws: Sequence[Draw], now: float) -> tuple[int, float] | None:
        """Take the tokens of all *draws*, or none at all; *now* is in seconds.

        None if they were taken; else which of them has to wait longest, and how long.
        """
        worst, longest = -1, 0.0
        for index, (limit, key, count) in enumerate(draws):
            wait = self._drawn(limit, key, now).wait(now, count)
            if wait > longest:
                worst, longest = index, wait
        if worst >= 0:
            return worst, longest
        new = []
        for draw in draws:
            bucket = self._buckets.get(draw[1])
            if bucket is None:
                new.append(draw)
            else:
                bucket.take(now, draw[2])
        # Last, because room is made by forgetting full ones: those above are no longer full.
        for limit, key, count in new:
            self._begin(limit, key, now, count)
        return None

    def keep(self, ids: Container[str]) -> None:
        """Forget the buckets of all limits but those with *ids*."""
        self._buckets = {key: one for key, one in self._buckets.items() if one.limit.id in ids}
        self._shared = {name: one for name, one in self._shared.items() if name in ids}
        self._due = [entry for entry in self._due if entry[2] in self._buckets]
        heapify(self._due)

    def _drawn(self, limit: Limit, key: Key, now: float) -> Bucket:
        """Return what *key* draws from, as far as the number of tokens goes.

        A new key has what the shared bucket has, whichever it is going to get.
        """
        bucket = self._buckets.get(key) or self._shared.get(limit.id)
        return bucket or Bucket(limit, limit.burst, now)

    def _begin(self, limit: Limit, key: Key, now: float, count: int) -> None:
        """Take the first tokens for *key*, from a bucket of its own if there is room for one."""
        self._forget_full(now)
        shared = self._shared.get(limit.id)
        if shared is not None and shared.full_at <= now:
            del self._shared[limit.id]
            shared = None
        if len(self._buckets) >= self.most:
            if shared is None:
                shared = self._shared[limit.id] = Bucket(limit, limit.burst, now)
            shared.take(now, count)
            self.sharing += count
            return
        # Whoever drew from the shared bucket must not find a full one beside it.
        tokens, at = (limit.burst, now) if shared is None else (shared.tokens, shared.at)
        bucket = self._buckets[key] = Bucket(limit, tokens, at)
        bucket.take(now, count)
        self._serial += 1
        heappush(self._due, (bucket.full_at, self._serial, key))

    def _forget_full(self, now: float) -> None:
        """Forget buckets that are full, looking at a few of those that are due.

        Every look is paid for: a bucket is forgotten once, and comes due again only if
        something was taken from it.
        """
        due = self._due
        for _ in range(_STEPS):
            if not due or due[0][0] > now:
                return
            _, serial, key = due[0]
            full_at = self._buckets[key].full_at
            if full_at <= now:
                del self._buckets[key]
                heappop(due)
            else:
                heapreplace(due, (full_at, serial, key))
