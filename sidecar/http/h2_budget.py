"""What a peer may make us do for nothing: one budget of glitches per HTTP/2 connection.

Frames that ask for nothing (control, empty, tiny and unknown ones, those to
streams that are closed) and resets before an answer each cost; answers that were
sent, and time, give back. It is told the time, in seconds.
"""

from __future__ import annotations

from typing import Final

MOST: Final = 400.0
RESET: Final = 4.0  # beside its frame: work was begun that nobody wants
ANSWERED: Final = 8.0
SENT: Final = 1.0  # a DATA frame of ours, which may draw a WINDOW_UPDATE or two
_A_SECOND: Final = 10.0


class Budget:
    """Glitches that are left."""

    __slots__ = ("_at", "_left")

    def __init__(self, now: float) -> None:
        self._left = MOST
        self._at = now

    def spend(self, cost: float, now: float) -> bool:
        """Pay *cost*; False once nothing is left."""
        back = (now - self._at) * _A_SECOND
        self._at = now
        self._left = min(MOST, self._left + back) - cost
        return self._left >= 0

    def earn(self, gain: float) -> None:
        """Get *gain* back for something useful."""
        self._left = min(MOST, self._left + gain)
