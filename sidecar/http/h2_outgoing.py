"""What the streams of one HTTP/2 connection have yet to send, and which is next.

Each has pieces of a body, and may then end, with trailers or without. A frame each in
turn, as long as its window is open: so a long body holds no other up. (RFC 9113 5.2.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from .field import Pair

_AHEAD: Final = 65_536  # bytes written ahead of the transport
_FRAME_HEAD: Final = 9


class Way(Protocol):
    """Where frames go."""

    def room(self, number: int) -> int:
        """Return how much of a body may be sent now on stream *number*."""

    def piece(self, number: int, data: bytes, *, end: bool) -> None:
        """Send a DATA frame."""

    def trail(self, number: int, data: bytes, trailers: Sequence[Pair]) -> None:
        """Send what is left of a body, and the *trailers* that end it."""


class Outgoing:
    """Pieces in, frames' worth out; nothing is copied until it is sent."""

    __slots__ = ("_pieces", "ends", "size", "trailers")

    def __init__(self) -> None:
        self._pieces: deque[memoryview] = deque()
        self.size = 0
        self.ends = False
        self.trailers: Sequence[Pair] = ()

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


class Queue:
    """All streams that have something unsent; `write` sends of it what the windows allow."""

    __slots__ = ("_stalled", "_writing", "_written")

    def __init__(self) -> None:
        self._writing: dict[int, Outgoing] = {}  # streams with something unsent, in turn
        self._stalled: dict[int, Outgoing] = {}  # the same, whose windows are closed
        self._written: set[int] = set()

    @property
    def ready(self) -> bool:
        """Whether a stream has something unsent that its window lets through."""
        return bool(self._writing)

    def put(self, stream: int, data: bytes, *, end: bool, trailers: Sequence[Pair] = ()) -> None:
        """Have *data* sent on *stream*, the last if *end*, with *trailers* behind it."""
        outgoing = self._writing.get(stream) or self._stalled.get(stream)
        if outgoing is None:
            outgoing = self._writing[stream] = Outgoing()
        outgoing.put(data, end=end)
        if trailers:
            outgoing.trailers = trailers

    def unsent(self, stream: int) -> int:
        """Return the bytes that wait on *stream*; its end counts as one."""
        outgoing = self._writing.get(stream) or self._stalled.get(stream)
        return 0 if outgoing is None else outgoing.size + outgoing.ends

    def drop(self, stream: int) -> None:
        """Forget what waits on *stream*."""
        self._writing.pop(stream, None)
        self._stalled.pop(stream, None)

    def opened(self, stream: int) -> None:
        """The window of *stream* has opened, or that of all if it is 0."""
        if not stream:
            self._writing |= self._stalled
            self._stalled.clear()
        elif stream in self._stalled:
            self._writing[stream] = self._stalled.pop(stream)

    def written(self) -> Iterable[int]:
        """Return the streams of whose bodies something was sent since the last call."""
        if not self._written:
            return ()
        written, self._written = self._written, set()
        return written

    def write(self, way: Way, most: int) -> int:
        """Let the streams write, frames of *most* bytes; return how many frames that were."""
        ahead = sent = 0
        writing = self._writing
        while writing and ahead < _AHEAD:
            stream = next(iter(writing))
            outgoing = writing.pop(stream)
            room = min(most, way.room(stream))
            if room <= 0 and outgoing.size:
                self._stalled[stream] = outgoing
                continue
            piece = outgoing.take(room)
            if outgoing.trailers and outgoing.done:
                way.trail(stream, piece, outgoing.trailers)
            else:
                way.piece(stream, piece, end=outgoing.done)
            ahead += len(piece) + _FRAME_HEAD
            sent += 1
            self._written.add(stream)
            if outgoing.size:
                writing[stream] = outgoing  # behind the others
        return sent
