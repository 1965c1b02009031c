"""Which calls belong together: Istio's `consistentHash`, and the hash that keeps them so.

Endpoints are ranked for every key (rendezvous hashing), so that one that leaves
moves only its own calls, and there is no ring whose size could matter. A call
that lacks what is hashed has no key and goes anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from math import log
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from .route import Asked

T = TypeVar("T")

_STEPS: Final = 2.0**53  # what a float tells apart below 1


class By(StrEnum):
    """What a key is made of."""

    HEADER = "header"
    COOKIE = "cookie"
    QUERY = "query"
    SOURCE_IP = "source_ip"
    PRINCIPAL = "principal"


@dataclass(frozen=True, slots=True)
class HashOn:
    """What of a call is hashed: a header, cookie or query parameter by its *name*, or who calls.

    A caller without the cookie is given one if `life` (seconds, 0: the browser's session)
    is there; `path` is the cookie's.
    """

    by: By
    name: str = ""
    life: float | None = None
    path: str = ""

    def key(self, asked: Asked) -> bytes | None:
        """Return what is hashed of the call *asked*, None where it is missing."""
        match self.by:
            case By.HEADER:
                value = asked.header(self.name)
            case By.COOKIE:
                value = cookie(asked.header("cookie"), self.name)
            case By.QUERY:
                value = asked.parameter(self.name)
            case By.SOURCE_IP:
                value = asked.source_ip
            case By.PRINCIPAL:
                value = asked.principal
        return value.encode() if value else None

    def set_cookie(self, value: str) -> bytes:
        """Return the `set-cookie` field's value that gives a caller its cookie."""
        parts = [f"{self.name}={value}"]
        if self.life:
            parts.append(f"Max-Age={self.life:.0f}")
        if self.path:
            parts.append(f"Path={self.path}")
        return "; ".join([*parts, "HttpOnly"]).encode("latin-1")


def cookie(header: str | None, name: str) -> str | None:
    """Return the cookie *name* of a `Cookie` field, None if it is not there (RFC 6265 5.4)."""
    for pair in (header or "").split(";"):
        known, equals, value = pair.strip().partition("=")
        if equals and known == name:
            return value.strip('"')
    return None


def point(key: bytes) -> float:
    """Return where *key* lies from 0 up to 1: the same for the same key, everywhere."""
    return _chance(blake2b(key, digest_size=8).digest())


def nearest(key: bytes, candidates: Sequence[tuple[T, str, float]]) -> T:
    """Return the one of *candidates* (thing, name, weight) that *key* belongs to."""
    return max(candidates, key=lambda one: _score(key, one[1], one[2]))[0]


def _score(key: bytes, name: str, weight: float) -> float:
    own = blake2b(name.encode(), digest_size=16).digest()
    chance = _chance(blake2b(key, digest_size=8, key=own).digest())
    return -weight / log(chance) if chance else 0.0


def _chance(digest: bytes) -> float:
    return (int.from_bytes(digest) >> 11) / _STEPS
