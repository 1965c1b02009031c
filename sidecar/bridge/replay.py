"""What was sent on a session's streams, kept for whoever comes back: the last events, bounded.

An event's id names its stream and its place, so that one which is long forgotten still
tells where it belonged. Nothing here knows who reads.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Final

_ID: Final = re.compile(rb"([0-9]{1,15})-([0-9]{1,15})")
_OVERHEAD: Final = 100  # bytes that an event takes beside its data


@dataclass(frozen=True, slots=True)
class Kept:
    """One event: the stream it is of, its place among all of the session, and its data."""

    stream: int
    place: int
    data: bytes

    @property
    def id(self) -> bytes:
        """What `Last-Event-ID` repeats."""
        return b"%d-%d" % (self.stream, self.place)


class Replay:
    """The last events of a session's streams, in at most *most* bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._events: deque[Kept] = deque()
        self._size = 0
        self._place = 0

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return self._size

    def add(self, stream: int, data: bytes) -> Kept:
        """Keep *data* as the next event of *stream*, and forget what there is no room for."""
        self._place += 1
        kept = Kept(stream, self._place, data)
        self._events.append(kept)
        self._size += len(data) + _OVERHEAD
        while self._size > self._most and self._events:
            self._size -= len(self._events.popleft().data) + _OVERHEAD
        return kept

    def after(self, stream: int, place: int) -> list[Kept]:
        """Return what is still known of *stream* behind *place*."""
        return [one for one in self._events if one.stream == stream and one.place > place]


def read_id(text: bytes) -> tuple[int, int] | None:
    """Return the stream and the place that an event's id names, None if it is none of ours."""
    match = _ID.fullmatch(text)
    return None if match is None else (int(match[1]), int(match[2]))
