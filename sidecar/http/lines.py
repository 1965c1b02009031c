"""Judged header lines, remembered: the table behind `head`.

The same lines come again and again, so each is judged once and its verdict
kept. What may carry a secret or always differs is never kept. A table is
bounded in bytes and forgets its oldest entries, never everything; each peer
has its own, so that nobody can push another's lines out.
"""

from __future__ import annotations

from typing import Any, Final

from .field import (
    KEPT,
    PLAIN_REPLY,
    PLAIN_REQUEST,
    Field,
    is_length,
    is_value,
    judge_line,
    new_field,
)
from .shapes import LENGTH, Shapes
from .template import Templates

# What a remembered line costs beside its own bytes, roughly: key, field, slots.
_ENTRY_BYTES: Final = 320


class Unseen(Exception):
    """A line that only h11 may judge, or whose verdict is worth keeping."""


class _Fields(dict[bytes, Field]):
    """Remembered fields by their lines; any other line is judged when it is asked for."""

    __slots__ = ("_plain", "_request")

    def __init__(self, *, request: bool) -> None:
        super().__init__()
        self._request = request
        self._plain = PLAIN_REQUEST if request else PLAIN_REPLY

    def __missing__(self, line: bytes) -> Field:
        name, _, value = line.partition(b": ")
        plain = self._plain.get(name)
        if plain is not None and is_value(value):
            lower, kind = plain
            if kind != LENGTH or is_length(value):
                return new_field(Field, (kind, lower, value, line + b"\r\n", (lower, value)))
        field = judge_line(line, request=self._request)
        if field is None or field[1] in KEPT:
            raise Unseen
        return field


class LineTable:
    """What is remembered of one peer's heads: start lines and fields by their bytes.

    Of requests, or of *replies*: the two are not read alike. *shapes* may be shared:
    what they know follows from a head's fields alone.
    """

    __slots__ = ("_capacity", "_used", "fields", "shapes", "starts", "templates")

    def __init__(
        self, capacity: int, shapes: Shapes | None = None, *, replies: bool = False
    ) -> None:
        self._capacity = capacity
        self._used = 0
        self.shapes = Shapes() if shapes is None else shapes
        self.fields = _Fields(request=not replies)
        self.starts: dict[bytes, object] = {}
        self.templates = Templates[Any](capacity)

    def keep_field(self, line: bytes, field: Field) -> None:
        """Remember *field* under its *line* if its name is one that repeats."""
        if field.name in KEPT and line not in self.fields and self._room(len(line)):
            self.fields[line] = field

    def keep_start(self, line: bytes, start: object) -> None:
        """Remember a start line; one with a query may carry a secret and is not kept."""
        if b"?" not in line and line not in self.starts and self._room(len(line)):
            self.starts[line] = start

    def _room(self, size: int) -> bool:
        cost = 3 * size + _ENTRY_BYTES
        if cost > self._capacity:
            return False
        self._used += cost
        while self._used > self._capacity:
            table: _Fields | dict[bytes, object] = (
                self.fields if len(self.fields) >= len(self.starts) else self.starts
            )
            oldest = next(iter(table))
            del table[oldest]
            self._used -= 3 * len(oldest) + _ENTRY_BYTES
        return True


class LineTables:
    """One LineTable a peer, for a bounded number of peers; the oldest is let go."""

    __slots__ = ("_capacity", "_peers", "_replies", "_shapes", "_tables")

    def __init__(self, capacity: int, peers: int, *, replies: bool = False) -> None:
        self._capacity = capacity
        self._peers = peers
        self._replies = replies
        self._shapes = Shapes()
        self._tables: dict[str, LineTable] = {}

    def of(self, peer: str) -> LineTable:
        """Return the table of *peer*, made if there is none."""
        table = self._tables.get(peer)
        if table is None:
            while len(self._tables) >= self._peers:
                del self._tables[next(iter(self._tables))]
            table = LineTable(self._capacity, self._shapes, replies=self._replies)
            self._tables[peer] = table
        return table
