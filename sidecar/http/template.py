"""Heads as they came before: what is the same byte for byte means the same.

A client writes most of its heads alike, but for a few values: an id, a trace, a
length. A template is such a head with holes where those values stand. A head that
fits has only its values judged, by the rule that `field` has for them; any other
head is read line by line. A template holds no value of a field that may carry a
secret: those are holes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Generic, NamedTuple, Protocol, Self, TypeAlias, TypeVar

from .field import KEPT, MAX_DIGITS, Field, Pair, is_value
from .shapes import DROP, FORWARDED, LENGTH, MIRROR, PASS, REQUEST_ID

_MOST: Final = 4  # templates of one peer
_MISSES: Final = 8  # heads that fit none, for one that becomes a template
_SHARE: Final = 5  # of a table's capacity, in bytes: the largest head that becomes one
_FIELD_BYTES: Final = 256  # what a field weighs beside its own bytes, roughly
_HOLES: Final = frozenset({PASS, DROP, LENGTH, MIRROR, REQUEST_ID})
_NOWHERE: Final = -1


class _Bare(Protocol):
    def bare(self) -> Self:
        """Return a copy without anything that the next head has of its own."""


Head = TypeVar("Head", bound=_Bare)
# Where the head ends, its fields, and the lines of it that go on.
Filled: TypeAlias = tuple[int, list[Pair], list[bytes]]


class _Hole(NamedTuple):
    """The value of one field: the bytes up to it, how many, and what it is for."""

    before: bytes
    size: int
    name: bytes
    line: int  # from the line's beginning to the value
    pair: int  # which field it is
    wire: int  # which of the lines that go on, or nowhere
    length: bool


class Template(Generic[Head]):
    """A head like *head*, which the *lines* with their *fields* are."""

    __slots__ = (
        *("_holes", "_pairs", "_tail", "_tail_size", "_wires"),
        *("head", "length", "mirrors", "request_id", "same_mirrors"),
    )

    def __init__(self, head: Head, lines: Sequence[bytes], fields: Sequence[Field]) -> None:
        self.head = head.bare()
        kinds = [field.kind for field in fields]
        # Which fields they are; a length or an id that is nowhere is -1.
        self.mirrors = [at for at, kind in enumerate(kinds) if kind == MIRROR]
        self.length = kinds.index(LENGTH) if LENGTH in kinds else _NOWHERE
        self.request_id = kinds.index(REQUEST_ID) if REQUEST_ID in kinds else _NOWHERE
        self._pairs: list[Pair] = []
        self._wires: list[bytes] = []
        holes: list[_Hole] = []
        before = lines[0] + b"\r\n"
        for line, (kind, name, value, wire, pair) in zip(lines[1:-2], fields, strict=True):
            at = _NOWHERE
            if kind in FORWARDED:
                at = len(self._wires)
                self._wires.append(wire)
            if name in KEPT:
                before += line + b"\r\n"
            else:
                size = len(line) - len(value)
                before += line[:size]
                own = (name, size, len(self._pairs), at, kind == LENGTH)
                holes.append(_Hole(before, len(before), *own))
                before = b"\r\n"
                pair = (name, b"")
                if at != _NOWHERE:
                    self._wires[at] = b""
            self._pairs.append(pair)
        self._holes = tuple(holes)
        self._tail = before + b"\r\n"
        self._tail_size = len(self._tail)
        # What mirrors a message, where it is the same in all heads of this form.
        varying = {hole.pair for hole in holes}.intersection(self.mirrors)
        self.same_mirrors = None if varying else tuple(self._pairs[at] for at in self.mirrors)

    def fill(self, data: bytes) -> Filled | None:
        """Return what the head that *data* begins with says, None if it does not fit."""
        at = 0
        pairs, wires = self._pairs.copy(), self._wires.copy()
        for before, size, name, line, pair, wire, length in self._holes:
            if not data.startswith(before, at):
                return None
            start = at + size
            at = data.find(b"\r\n", start)
            value = data[start:at]
            if length:
                if not (value.isdigit() and len(value) <= MAX_DIGITS):
                    return None
            # Most are letters and digits, at times with dashes: quicker told than by the rule.
            elif not (value.isalnum() or value.replace(b"-", b"").isalnum() or is_value(value)):
                return None
            elif wire >= 0:
                wires[wire] = data[start - line : at + 2]
            pairs[pair] = (name, value)
        if at < 0 or not data.startswith(self._tail, at):
            return None
        return at + self._tail_size, pairs, wires


class Templates(Generic[Head]):
    """The last few templates of one peer's heads."""

    __slots__ = ("_largest", "_misses", "known")

    def __init__(self, capacity: int) -> None:
        self._largest = capacity // _SHARE
        self._misses = 0
        self.known: list[Template[Head]] = []

    def missed(self, head: Head, lines: Sequence[bytes], fields: Sequence[Field]) -> None:
        """A head fitted none, and was read line by line: of some, a template is made."""
        self._misses += 1
        if self._misses % _MISSES != 1:
            return
        # Of short fields it is their number that weighs.
        weight = sum(map(len, lines)) + _FIELD_BYTES * len(fields)
        if weight <= self._largest and _is_plain(lines, fields):
            self.known = [Template(head, lines, fields), *self.known[: _MOST - 1]]


def _is_plain(lines: Sequence[bytes], fields: Sequence[Field]) -> bool:
    """Whether nothing in a head but values of known bounds would be left to judge."""
    if b"?" in lines[0]:  # a query may carry a secret
        return False
    return all(
        field.name in KEPT
        or (field.kind in _HOLES and line.endswith(b": " + field.value) and field.value)
        for line, field in zip(lines[1:-2], fields, strict=True)
    )
