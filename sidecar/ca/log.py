"""The issue log: one JSON line an event, each holding the hash of the line before.

A line that was changed, dropped from the middle or put in breaks the chain, and
`read_log` says where. It cannot notice lines cut off at the end: who needs that
keeps the last hash elsewhere. Pure: `store` reads and writes the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ..errors import SidecarError

MAX_LINE: Final = 64 * 1024  # bytes; an entry has about 400
_BEGINNING: Final = "0" * 64


class LogBroken(SidecarError):
    """The issue log is not what was written; `line` counts from 1, 0 if it is not known."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Entry:
    """One event: its number from 1, when (RFC 3339), its kind, and what is told of it."""

    number: int
    time: str
    event: str
    facts: Mapping[str, Any]


def line_after(last: bytes, event: str, facts: Mapping[str, object], now: float) -> bytes:
    """Return the line, newline included, that follows the line *last* (empty: the first)."""
    number = _parse(last).number + 1 if last else 1
    entry = {"n": number, "time": rfc3339(now), "event": event, **facts, "prev": _digest(last)}
    line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
    if len(line) > MAX_LINE:
        raise ValueError("an entry of the issue log is too long")
    return line


def read_log(lines: Iterable[bytes]) -> Iterator[Entry]:
    """Yield the entries of *lines*; LogBroken at the first that does not follow."""
    last = b""
    for place, raw in enumerate(lines, start=1):
        line = raw.removesuffix(b"\n")
        try:
            entry = _parse(line)
        except LogBroken as error:
            raise LogBroken(str(error), place) from None
        if entry.number != place or _previous(line) != _digest(last):
            raise LogBroken(f"line {place} of the issue log does not follow the one before", place)
        yield entry
        last = line


def rfc3339(now: float) -> str:
    """Write seconds since the epoch as `2026-11-20T13:03:00Z`."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(now))
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest() if line else _BEGINNING


def _previous(line: bytes) -> str:
    return str(json.loads(line)["prev"])


def _parse(line: bytes) -> Entry:
    try:
        facts = json.loads(line)
        facts.pop("prev")
        return Entry(int(facts.pop("n")), str(facts.pop("time")), str(facts.pop("event")), facts)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise LogBroken("a line of the issue log cannot be read") from None
