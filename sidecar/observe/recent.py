"""The last requests, by their access lines: what `sidecar why` is answered from.

Batches of lines are kept as they were written, oldest out first, within a bound of
bytes. Nothing is looked at until somebody asks.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import orjson

_LONGEST_ID: Final = 128  # characters


class Recent:
    """Holds at most *most* bytes of lines, each of which ends with a line feed."""

    __slots__ = ("_batches", "_bytes", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._batches: deque[bytes] = deque()
        self._bytes = 0

    def keep(self, batch: bytes) -> None:
        """Keep *batch*, and forget the oldest for it."""
        if len(batch) > self._most:
            batch = batch[batch.index(b"\n", len(batch) - self._most - 1) + 1 :]
        if not batch:
            return
        self._batches.append(batch)
        self._bytes += len(batch)
        while self._bytes > self._most:
            self._bytes -= len(self._batches.popleft())

    @property
    def count(self) -> int:
        """How many lines are kept."""
        return sum(batch.count(b"\n") for batch in self._batches)

    def find(self, request_id: str) -> bytes | None:
        """Return the line of *request_id*, ours or else the caller's own; the latest of several."""
        if len(request_id) > _LONGEST_ID:
            return None
        # A quote inside a value is escaped, so no caller's text can look like a field.
        value = orjson.dumps(request_id)
        for field in (b',"request_id":', b',"caller_request_id":'):
            for batch in reversed(self._batches):
                found = batch.rfind(field + value)
                if found >= 0:
                    return batch[batch.rfind(b"\n", 0, found) + 1 : batch.index(b"\n", found)]
        return None
