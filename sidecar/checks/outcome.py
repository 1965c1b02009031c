"""What one check found: a tick, a cross with its remedy, or nothing to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Whatever may be looked at, by the name that it has in the answer.
NAMES: Final = (
    "configuration",
    "token",
    "identity",
    "expiry",
    "revoked",
    "CA",
    "clock skew",
    "bundle age",
    "clock",
    "access log",
    "port",
    "server",
    "last metre",
    "ready",
    "certificate",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """*name* is what was looked at; `ok` is None where there was nothing to look at."""

    name: str
    ok: bool | None
    said: str
    remedy: str = ""


def good(name: str, said: str) -> Outcome:
    """Return a tick."""
    return Outcome(name, True, said)


def bad(name: str, said: str, remedy: str) -> Outcome:
    """Return a cross, which never comes without its *remedy*."""
    return Outcome(name, False, said, remedy)


def skipped(name: str, why: str) -> Outcome:
    """Return that there was nothing to look at."""
    return Outcome(name, None, why)
