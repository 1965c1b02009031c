"""Checks of the clock: certificates and tokens are only as good as the time they are held to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from .identity import span
from .outcome import Outcome, bad, good, skipped

_SLACK: Final = 5.0  # seconds by which files of another machine may be ahead
_MAX_SKEW: Final = 60.0  # not-before is a minute back, so more is felt


def not_behind(now: float, files: Iterable[Path]) -> Outcome:
    """Say whether *now* is behind the last time that any of *files* was written."""
    seen: dict[float, Path] = {}
    for path in files:
        try:
            seen[path.stat().st_mtime] = path
        except OSError:
            continue
    if not seen:
        return skipped("clock", "nothing was written yet that would tell an earlier time")
    last = max(seen)
    if now < last - _SLACK:
        return bad(
            "clock",
            f"it is {span(last - now)} behind {seen[last]}, which was written earlier",
            "set the clock: `timedatectl set-ntp true`",
        )
    return good("clock", "not behind the last time seen")


def skew(now: float, theirs: float | None) -> Outcome:
    """Say whether *now* is near the time of the CA, None if it told none."""
    if theirs is None:
        return skipped("clock skew", "no CA on the network tells another time")
    ahead = now - theirs
    if abs(ahead) > _MAX_SKEW:
        word = "ahead of" if ahead > 0 else "behind"
        return bad(
            "clock skew",
            f"{span(abs(ahead))} {word} the CA",
            "set the clocks of both machines: `timedatectl set-ntp true`",
        )
    return good("clock skew", f"{abs(ahead):.1f} s from the CA's")
