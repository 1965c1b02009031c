"""What a program writes to its standard error, as lines fit for a log.

A line is cut where it gets long and what cannot be printed is escaped; of a flood a few
lines a second are left, and how many were not. Told the time, never asks it.
"""

from __future__ import annotations

from typing import Final

_LONGEST: Final = 1_000  # bytes of a line
_BURST: Final = 50.0  # lines
_EACH_SECOND: Final = 10.0


class Stderr:
    """Bytes in, lines out."""

    def __init__(self) -> None:
        self._rest = b""
        self._room = _BURST
        self._at = 0.0
        self.left_out = 0
        self._told = 0

    def feed(self, data: bytes, now: float) -> list[str]:
        """Take *data* at *now* (seconds); return what is to be logged of it."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[: _LONGEST + 1]
        self._room = min(_BURST, self._room + (now - self._at) * _EACH_SECOND)
        self._at = now
        shown: list[str] = []
        for line in lines:
            if not line.strip():
                continue
            if self._room < 1:
                self.left_out += 1
                continue
            self._room -= 1
            if self.left_out > self._told:
                shown.append(f"({self.left_out - self._told} lines left out)")
                self._told = self.left_out
            shown.append(_printable(line))
        return shown


def _printable(line: bytes) -> str:
    text = line.rstrip(b"\r")[:_LONGEST].decode(errors="replace")
    if len(line) > _LONGEST:
        text += " ..."
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
