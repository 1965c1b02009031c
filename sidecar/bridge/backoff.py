"""How long a caller waits for a program that ended before it said a word: longer each time.

Kept by caller, so that nobody's failures keep others waiting; told the time.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

_FIRST: Final = 0.5  # seconds
_LONGEST: Final = 30.0
_MOST_CALLERS: Final = 1_024


class Backoff:
    """Failures to start, by caller."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def failed(self, caller: str, now: float) -> None:
        """A program of *caller* ended before it said a word."""
        times = self._failed.pop(caller, (0, 0.0))[0] + 1
        wait = min(_LONGEST, _FIRST * 2.0 ** min(times - 1, 16))
        self._failed[caller] = times, now + wait
        if len(self._failed) > _MOST_CALLERS:
            self._failed.popitem(last=False)

    def spoke(self, caller: str) -> None:
        """A program of *caller* works."""
        self._failed.pop(caller, None)

    def wait(self, caller: str, now: float) -> float:
        """Return the seconds until *caller* may have another one started."""
        return max(0.0, self._failed.get(caller, (0, now))[1] - now)
