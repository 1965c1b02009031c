"""What a CA has issued and refused, as its log on the disk tells it.

Reading holds the whole chain of lines to be sound, or raises LogBroken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .issue_log import lines
from .log import Entry, LogBroken, read_log


@dataclass(frozen=True, slots=True)
class Certificate:
    """One issued certificate; times are seconds since the epoch, and RFC 3339 as logged.

    `after` is the serial of the one that it was renewed from, 0 if it was not.
    """

    id: str
    serial: int
    issued: str
    not_after: float
    expires: str
    after: int = 0


def entries(folder: Path) -> Iterator[Entry]:
    """Yield all entries of the log of the CA in *folder*; LogBroken where it is not sound."""
    yield from read_log(lines(folder))


def certificates(folder: Path, now: float) -> list[Certificate]:
    """Return the certificates that have not ended at *now*, in the order of issue."""
    found = (_certificate(one) for one in entries(folder) if one.event == "issued")
    return [one for one in found if one.not_after > now]


def _certificate(entry: Entry) -> Certificate:
    facts = entry.facts
    try:
        expires = str(facts["not_after"])
        end = datetime.strptime(expires, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        return Certificate(
            str(facts["spiffe_id"]),
            int(str(facts["serial"]), 16),
            entry.time,
            end.timestamp(),
            expires,
            int(str(facts.get("after", "0")), 16),
        )
    except (KeyError, ValueError) as error:
        raise LogBroken(f"entry {entry.number} lacks what was issued: {error}") from None
