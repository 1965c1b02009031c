"""What is wrong with a configuration: one Problem each, collected, never raised.

A Problem says what, where, why and how to mend it; `codes` has a paragraph on
each code and `report` prints them. Nothing here knows YAML or the documents.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from ..errors import SidecarError, Where

MOST_PROBLEMS: Final = 500  # more help nobody, and a hostile file must not fill memory


class Level(StrEnum):
    """An error keeps the configuration from being used; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


class Spot(Protocol):
    """A stretch of a file's line that a problem can point at, such as a YAML node."""

    @property
    def at(self) -> Where: ...

    @property
    def width(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    *message* is lower case and has no full stop; *where* is the first of *width*
    columns that the excerpt underlines, with *label* behind the carets; *why*
    tells the consequence and *help* the literal fix. Empty parts are left out.
    """

    level: Level
    code: str
    message: str
    where: Where
    width: int = 1
    label: str = ""
    why: str = ""
    help: str = ""

    @property
    def is_error(self) -> bool:
        """Whether the configuration must not be used."""
        return self.level is Level.ERROR

    def as_dict(self) -> dict[str, str | int]:
        """Return the problem as JSON-ready plain values."""
        return {
            "level": self.level.value,
            "code": self.code,
            "message": self.message,
            "file": self.where.file,
            "line": self.where.line,
            "column": self.where.column,
            "why": self.why,
            "help": self.help,
        }


class ConfigError(SidecarError):
    """A configuration cannot be used; `problems` tells why, at least one is an error."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(tally(self.problems))


@dataclass(frozen=True, slots=True)
class Place:
    """A spot that is no node: a whole file, or a position the YAML reader names."""

    at: Where
    width: int = 1


class Notes:
    """Collects problems while documents are read; bounded, and counts what it drops."""

    def __init__(self, most: int = MOST_PROBLEMS) -> None:
        self._most = most
        self._problems: list[Problem] = []
        self.errors = 0
        self.dropped = 0

    def error(
        self, code: str, message: str, spot: Spot, *, label: str = "", why: str = "", help: str = ""
    ) -> None:
        """Note an error at *spot*."""
        self.add(
            Problem(Level.ERROR, code, message, spot.at, spot.width, label, _clause(why), help)
        )

    def warning(
        self, code: str, message: str, spot: Spot, *, label: str = "", why: str = "", help: str = ""
    ) -> None:
        """Note a warning at *spot*."""
        self.add(
            Problem(Level.WARNING, code, message, spot.at, spot.width, label, _clause(why), help)
        )

    def add(self, problem: Problem) -> None:
        """Take in a problem that somebody else found."""
        self.errors += problem.is_error
        if len(self._problems) < self._most:
            self._problems.append(problem)
            return
        self.dropped += 1
        if problem.is_error and not any(known.is_error for known in self._problems):
            # INVARIANT: where errors were noted, `problems` holds one.
            self._problems[-1] = problem

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything noted so far, in the order it was found."""
        return tuple(self._problems)


def _clause(sentence: str) -> str:
    """Return a sentence, such as a table's, as problems are worded: lower case, no full stop."""
    lowered = sentence[:1].lower() if sentence[1:2].islower() or sentence[1:2] == " " else ""
    return (lowered + sentence[1:] if lowered else sentence).rstrip(".")


def tally(problems: Iterable[Problem], dropped: int = 0) -> str:
    """Return the closing line, such as `2 errors, 1 warning.`"""
    found = [problem.is_error for problem in problems]
    errors, warnings = found.count(True), found.count(False)
    counts = [_counted(number, word) for number, word in ((errors, "error"), (warnings, "warning"))]
    if dropped:
        counts.append(f"{dropped} more not shown")
    return ", ".join(count for count in counts if count) + "." if any(counts) else "no problems."


def _counted(number: int, word: str) -> str:
    if not number:
        return ""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
