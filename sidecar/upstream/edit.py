"""Header lines that a route sets, adds or removes, on the way there or back.

Lines are whole (`name: value` and CRLF) and stay bytes. What may be edited is
for the documents to say; here it is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """First `remove` (names in lower case), then `set` in their place, then `add`."""

    set: tuple[tuple[bytes, bytes], ...] = ()
    add: tuple[tuple[bytes, bytes], ...] = ()
    remove: frozenset[bytes] = frozenset()

    @property
    def names(self) -> frozenset[bytes]:
        """The fields that come to be what it says, in lower case."""
        return self.remove.union([name.lower() for name, _ in (*self.set, *self.add)])

    def lines(self, lines: Sequence[bytes]) -> list[bytes]:
        """Return *lines* as edited."""
        gone = self.remove.union([name for name, _ in self.set])
        kept = [one for one in lines if one.partition(b":")[0].lower() not in gone]
        return [*kept, *(b"%b: %b\r\n" % pair for pair in (*self.set, *self.add))]


def named(*edits: Edit | None) -> frozenset[bytes]:
    """Return the names of all fields that any of *edits* speaks of, in lower case."""
    return frozenset[bytes]().union(*[edit.names for edit in edits if edit is not None])


def edited(lines: Sequence[bytes], *edits: Edit | None) -> Sequence[bytes]:
    """Return *lines* after each of *edits*, in their order."""
    for edit in edits:
        if edit is not None:
            lines = edit.lines(lines)
    return lines
