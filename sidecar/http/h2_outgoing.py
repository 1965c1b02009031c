"""What one HTTP/2 stream has yet to send: pieces of a body, and whether it then ends."""

from __future__ import annotations

from collections import deque


class Outgoing:
    """Pieces in, frames' worth out; nothing is copied until it is sent."""

    __slots__ = ("_pieces", "ends", "size")

    def __init__(self) -> None:
        self._pieces: deque[memoryview] = deque()
        self.size = 0
        self.ends = False

    @property
    def done(self) -> bool:
        """Whether everything was taken and nothing will follow."""
        return self.ends and not self.size

    def put(self, data: bytes, *, end: bool) -> None:
        """Append *data*, the last if *end*."""
        if data:
            self._pieces.append(memoryview(data))
            self.size += len(data)
        self.ends = end

    def take(self, most: int) -> bytes:
        """Return at most *most* bytes of what waits."""
        taken: list[memoryview] = []
        while most > 0 and self._pieces:
            piece = self._pieces.popleft()
            if len(piece) > most:
                self._pieces.appendleft(piece[most:])
                piece = piece[:most]
            taken.append(piece)
            most -= len(piece)
            self.size -= len(piece)
        return bytes(taken[0]) if len(taken) == 1 else b"".join(taken)
