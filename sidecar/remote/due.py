"""When something is to be done again, on a clock that somebody may set.

The time of day is all that two machines and two runs agree on, but it may be set back:
what was due within seconds must not be put off for hours by that.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Due:
    """A moment to come, in seconds since the epoch; at once unless it was put off."""

    at: float = 0.0
    told: float = float("-inf")  # what the clock said when the moment was chosen

    def put_off(self, now: float, seconds: float) -> None:
        """Let it be due *seconds* after *now*."""
        self.at, self.told = now + seconds, now

    def is_past(self, now: float) -> bool:
        """Whether it is due; it is, too, once the clock has been set back behind the choice."""
        return now >= self.at or now < self.told
