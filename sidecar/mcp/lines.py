"""Messages on a pipe: one a line, whatever pieces the bytes come in (the stdio transport).

A line is given out whole or, once it is longer than its bound, not at all. What a line
says is not looked at.
"""

from __future__ import annotations

from typing import Final

from ..errors import MessageError

TOO_LONG: Final = -32006
_BREAKS: Final = bytes.maketrans(b"\r\n", b"  ")


class LineSplitter:
    """A process's bytes in, its lines out; *most* bytes are the longest line."""

    __slots__ = ("_most", "_parts", "_size")

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def waiting(self) -> int:
        """Bytes of a line that is not whole."""
        return self._size

    def feed(self, data: bytes) -> list[bytes]:
        """Take *data*; return the lines that are whole now, without their ends; none is empty.

        Raises MessageError where a line is too long; nothing can be fed after that.
        """
        if b"\n" not in data:
            self._keep(data)
            return []
        first, *others, rest = data.split(b"\n")
        self._keep(first)
        lines = [b"".join(self._parts), *others]
        self._parts, self._size = [], 0
        self._keep(rest)
        if max(map(len, lines)) > self._most:
            raise self._fault()
        return [line for line in (one.rstrip(b"\r") for one in lines) if line.strip()]

    def _keep(self, data: bytes) -> None:
        if data:
            self._parts.append(data)
            self._size += len(data)
        if self._size > self._most:
            raise self._fault()

    def _fault(self) -> MessageError:
        return MessageError(f"a line is longer than {self._most} bytes", TOO_LONG)


def as_line(body: bytes) -> bytes:
    """Return *body*, a JSON text, as one line with its end.

    In sound JSON a line can break only where white space may stand: in a string it
    is written as an escape (RFC 8259, section 7).
    """
    return body.translate(_BREAKS) + b"\n"
