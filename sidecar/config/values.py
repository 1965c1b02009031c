"""The forms of single values: text, booleans, numbers, durations, sizes, words.

Each reads one scalar strictly. A number where text is wanted is an error with
the quotes to write, not a conversion: what was written is what is meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from .nodes import Node, ScalarNode
from .problem import Notes
from .schema import Form, Unread, choose, quoted, wrong_form

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

LONGEST_TEXT: Final = 2048

# Go's durations, which Istio's are: nanoseconds of each unit.
_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART: Final = re.compile(r"([0-9]{1,12})(?:\.([0-9]{0,9}))?(ns|us|µs|ms|s|m|h)")
_MS: Final = 1_000_000
_LONGEST_DURATION: Final = 64
_SIZES: Final = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE: Final = re.compile(r"([0-9]{1,15})(|B|KiB|MiB|GiB)")


class Malformed(Exception):
    """Text is not what it should be: what a `Read` form's function raises."""

    def __init__(self, message: str, help: str = "", code: str = "SC0211", why: str = "") -> None:
        super().__init__(message)
        self.message, self.help, self.code, self.why = message, help, code, why


@dataclass(frozen=True, slots=True)
class Text(Form[str]):
    """Text that is not empty, or may be."""

    empty: bool = False
    longest: int = LONGEST_TEXT

    @property
    def name(self) -> str:
        return "text"

    def read(self, node: Node, path: str, notes: Notes) -> str:
        if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
            raise wrong_form(node, "text", path, notes, fix=_in_quotes(node))
        if not node.value and not self.empty:
            notes.error("SC0401", f"{path} is empty", node, help="write a value, or remove it")
            raise Unread
        if len(node.value) > self.longest:
            notes.error(
                "SC0210", f"{path} has {len(node.value)} characters, at most {self.longest}", node
            )
            raise Unread
        return node.value


def _in_quotes(node: Node) -> str:
    if isinstance(node, ScalarNode) and node.value is not None:
        return f"put it in quotes: `{quoted(node.text)}`"
    return ""


@dataclass(frozen=True, slots=True)
class Read(Form[T]):
    """Text that *of* turns into a T; it raises Malformed where it cannot."""

    title: str
    of: Callable[[str], T]
    longest: int = LONGEST_TEXT

    @property
    def name(self) -> str:
        return self.title

    def read(self, node: Node, path: str, notes: Notes) -> T:
        text = Text(empty=True, longest=self.longest).read(node, path, notes)
        try:
            return self.of(text)
        except Malformed as bad:
            shown = f"{path}: {bad.message}"
            notes.error(bad.code, shown, node, why=bad.why, help=bad.help)
            raise Unread from None


@dataclass(frozen=True, slots=True)
class Flag(Form[bool]):
    """true or false."""

    @property
    def name(self) -> str:
        return "boolean"

    def read(self, node: Node, path: str, notes: Notes) -> bool:
        if isinstance(node, ScalarNode) and isinstance(node.value, bool):
            return node.value
        raise wrong_form(node, "true or false", path, notes)


@dataclass(frozen=True, slots=True)
class Whole(Form[int]):
    """A whole number between two bounds, both allowed."""

    low: int = 0
    high: int = 2**31 - 1

    @property
    def name(self) -> str:
        return "number"

    def read(self, node: Node, path: str, notes: Notes) -> int:
        value = node.value if isinstance(node, ScalarNode) else None
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_form(node, "a whole number", path, notes)
        if not self.low <= value <= self.high:
            notes.error(
                "SC0206",
                f"{path} is {value}",
                node,
                help=f"write a number from {self.low} to {self.high}",
            )
            raise Unread
        return value


@dataclass(frozen=True, slots=True)
class Number(Form[float]):
    """A number between two bounds, both allowed, with or without a fraction."""

    low: float
    high: float

    @property
    def name(self) -> str:
        return "number"

    def read(self, node: Node, path: str, notes: Notes) -> float:
        value = node.value if isinstance(node, ScalarNode) else None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong_form(node, "a number", path, notes)
        if not self.low <= value <= self.high:
            bounds = f"{self.low:g} to {self.high:g}"
            notes.error("SC0206", f"{path} is {value}", node, help=f"write a number from {bounds}")
            raise Unread
        return float(value)


@dataclass(frozen=True, slots=True)
class Duration(Form[float]):
    """A time such as `30s` or `1m30s`, in whole milliseconds; seconds come out."""

    zero: bool = False

    @property
    def name(self) -> str:
        return "duration"

    def read(self, node: Node, path: str, notes: Notes) -> float:
        fix = ""
        if isinstance(node, ScalarNode) and isinstance(node.value, int | float):
            fix = f"write the unit: `{node.text}s`"
        if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
            raise wrong_form(node, "a duration such as `30s`", path, notes, fix=fix)
        nanoseconds = _nanoseconds(node.value)
        complaint = self._complaint(nanoseconds)
        if nanoseconds is None or complaint:
            notes.error(
                "SC0207",
                f"{path}: `{node.value}` is {complaint}",
                node,
                help="write a number and a unit: `500ms`, `30s`, `5m`, `1h`, `1m30s`",
            )
            raise Unread
        return nanoseconds / 1e9

    def _complaint(self, nanoseconds: int | None) -> str:
        if nanoseconds is None:
            return "not a duration"
        if nanoseconds % _MS:
            return "not in whole milliseconds"
        if nanoseconds < _MS and not (self.zero and nanoseconds == 0):
            return "shorter than a millisecond"
        return ""


def _nanoseconds(text: str) -> int | None:
    total, at = 0, 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None or len(text) > _LONGEST_DURATION:
            return None
        whole, fraction, unit = part.groups()
        # In integers: a fraction of nine digits must not be lost to a float.
        scaled = int(whole) * 10**9 + int((fraction or "").ljust(9, "0") or "0")
        exact, rest = divmod(scaled * _UNITS[unit], 10**9)
        total += exact + (1 if rest else 0)
        at = part.end()
    return total if text else None


@dataclass(frozen=True, slots=True)
class Size(Form[int]):
    """A number of bytes, at least 1: `65536` or `64KiB`."""

    @property
    def name(self) -> str:
        return "size"

    def read(self, node: Node, path: str, notes: Notes) -> int:
        if not isinstance(node, ScalarNode) or isinstance(node.value, bool | float):
            raise wrong_form(node, "a size such as `64KiB`", path, notes)
        if node.broken:
            raise Unread
        match = _SIZE.fullmatch(node.text)
        number = int(match[1]) * _SIZES[match[2]] if match else 0
        if not number:
            notes.error(
                "SC0208",
                f"{path}: `{node.text}` is not a size",
                node,
                help="write bytes, or a number with `KiB`, `MiB` or `GiB`: `64KiB`",
            )
            raise Unread
        return number


@dataclass(frozen=True, slots=True)
class Word(Form[E]):
    """One of the words of an enumeration, in its spelling.

    *refused* holds words that are known and cannot be honoured, each with why.
    """

    words: type[E]
    refused: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        return " or ".join(f"`{word.value}`" for word in self.words)

    def read(self, node: Node, path: str, notes: Notes) -> E:
        text = Text().read(node, path, notes)
        why = dict(self.refused).get(text)
        if why is not None:
            others = ", ".join(f"`{word.value}`" for word in self.words)
            notes.error(
                "SC0304",
                f"`{text}` for {path} cannot be honoured yet",
                node,
                why=why,
                help=f"write one of {others}",
            )
            raise Unread
        return choose(node, text, path, {word.value: word for word in self.words}, notes)
