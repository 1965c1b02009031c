"""The issue log: one JSON line an event, each holding the hash of the line before.

A line that was changed, dropped from the middle or put in breaks the chain, and
`read_log` says where. It may begin in the middle only where a later line says that
what was before has been dropped. It cannot notice lines cut off at the end: who needs
that keeps the last hash elsewhere. Pure: `issue_log` reads and writes the files.
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
PRUNED: Final = "pruned"  # the event that tells of entries that were dropped
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
    number = parse(last).number + 1 if last else 1
    entry = {"n": number, "time": rfc3339(now), "event": event, **facts, "prev": digest(last)}
    line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
    if len(line) > MAX_LINE:
        raise ValueError("an entry of the issue log is too long")
    return line


def read_log(lines: Iterable[bytes]) -> Iterator[Entry]:
    """Yield the entries of *lines*; LogBroken at the first that does not follow."""
    place, before = 1, _BEGINNING
    dropped: tuple[int, str] | None = None
    for raw in lines:
        line = raw.removesuffix(b"\n")
        try:
            entry, previous = parse(line), _previous(line)
        except LogBroken as error:
            raise LogBroken(str(error), place) from None
        if place == 1 and entry.number > 1:
            place, before = entry.number, previous
            dropped = (place - 1, previous)
        if entry.number != place or previous != before:
            raise LogBroken(f"line {place} of the issue log does not follow the one before", place)
        if entry.event == PRUNED and _through(entry) == dropped:
            dropped = None
        yield entry
        place, before = place + 1, digest(line)
    if dropped is not None:
        raise LogBroken(
            f"the issue log begins with line {dropped[0] + 1}, and no line tells why", 1
        )


def parse(line: bytes) -> Entry:
    """Return the entry that *line* is; LogBroken if it is none."""
    try:
        facts = json.loads(line)
        facts.pop("prev")
        return Entry(int(facts.pop("n")), str(facts.pop("time")), str(facts.pop("event")), facts)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise LogBroken("a line of the issue log cannot be read") from None


def digest(line: bytes) -> str:
    """Return the hash by which the next line names *line*, which has no newline."""
    return hashlib.sha256(line).hexdigest() if line else _BEGINNING


def rfc3339(now: float) -> str:
    """Write seconds since the epoch as `2026-11-20T13:03:00Z`."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(now))
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _through(entry: Entry) -> tuple[object, object]:
    return entry.facts.get("through"), entry.facts.get("sha256")


def _previous(line: bytes) -> str:
    return str(json.loads(line)["prev"])
