"""The chunked coding (RFC 9112 7.1), stricter than h11 and never read differently.

Sizes, extensions and ends must stand exactly as the grammar has them. Extensions are
read, bounded and dropped, for they could only smuggle; trailers are bounded like a
head, judged by its grammar, and given out for what they are.
"""

from __future__ import annotations

import re
from typing import Final

from ..errors import ProtocolError
from .field import Pair, judge_line

# At most 16 digits: a size of 64 bits. Extensions hold no control characters.
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_MAX_LINE: Final = 4096
_MAX_EXTENSIONS: Final = 16_384  # of all chunks of a message together

_IN_SIZE: Final = 0
_IN_DATA: Final = 1
_IN_TRAILER: Final = 2


class ChunkReader:
    """Takes what came off the wire, gives the data; `done` after the last chunk.

    Its trailers may have so many *fields*, and *size* bytes.
    """

    __slots__ = (
        *("_extensions", "_fields", "_left", "_room", "_state", "_tail"),
        *("done", "rest", "trailers"),
    )

    def __init__(self, size: int, fields: int) -> None:
        self.done = False
        self.trailers: list[Pair] = []
        self.rest = b""  # what came behind the message
        self._state = _IN_SIZE
        self._left = 0  # of the chunk's data and its CRLF
        self._tail = b""
        self._room = size  # for trailers
        self._fields = fields
        self._extensions = 0  # bytes of size lines that are no size

    @property
    def awaited(self) -> int:
        """Bytes of data that the chunk which has begun announces and that have not come."""
        return max(0, self._left - 2) if self._state == _IN_DATA else 0

    def feed(self, data: bytes) -> bytes:
        """Return the message's data in *data*. Raises ProtocolError."""
        data = self._tail + data if self._tail else data
        pieces: list[bytes] = []
        at = 0
        while not self.done:
            if self._state == _IN_DATA:
                taken = self._data(data, at, pieces)
            else:
                taken = self._line(data, at)
            if taken < 0:
                break
            at = taken
        self._tail = b"" if self.done else data[at:]
        self.rest = data[at:] if self.done else b""
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _data(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Take chunk data from *at*; return where it ended, -1 if more must come."""
        if self._left > 2:
            piece = data[at : at + self._left - 2]
            if not piece:
                return -1
            pieces.append(piece)
            at += len(piece)
            self._left -= len(piece)
            return at
        if len(data) - at < 2:
            return -1
        if data[at : at + 2] != b"\r\n":
            raise ProtocolError("a chunk is longer than its size")
        self._state = _IN_SIZE
        return at + 2

    def _line(self, data: bytes, at: int) -> int:
        """Take a size or trailer line from *at*; return where it ended, -1 if it has not."""
        end = data.find(b"\r\n", at)
        most = _MAX_LINE if self._state == _IN_SIZE else self._room
        if end < 0 or end - at > most:
            if self._state == _IN_TRAILER and len(data) - at > most:
                raise _too_large()
            if len(data) - at > most or b"\n" in data[at:]:
                raise ProtocolError("a chunk's size line or a trailer does not end")
            return -1
        line = data[at:end]
        if self._state == _IN_SIZE:
            self._size(line)
        elif not line:
            self.done = True
        else:
            self._trailer(line)
        return end + 2

    def _trailer(self, line: bytes) -> None:
        field = judge_line(line, request=True)
        if field is None:
            raise ProtocolError("the trailers are not header fields")
        self._room -= len(line) + 2
        self.trailers.append(field.pair)
        if self._room < 0 or len(self.trailers) > self._fields:
            raise _too_large()

    def _size(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise ProtocolError("a chunk's size is not a number")
        self._extensions += len(line) - len(match[1])
        if self._extensions > _MAX_EXTENSIONS:
            raise ProtocolError("the chunks' extensions are too long")
        size = int(match[1], 16)
        self._state = _IN_DATA if size else _IN_TRAILER
        self._left = size + 2


def _too_large() -> ProtocolError:
    return ProtocolError("the trailers are too many or too large", 431)
