"""Why calls were denied that no rule allowed, worked out in little of the time.

What an explanation costs grows with the rules there are, and whoever is denied
decides how often it is due. So it waits until many times its last cost has passed.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from ..policy.authz import RuleSet
from ..policy.call import Call

_SHARE: Final = 50  # at most one part in as many of the time is spent


class Explainer:
    """Explains denials, as many as there is time for."""

    __slots__ = ("_after",)

    def __init__(self) -> None:
        self._after = -inf

    def why(self, call: Call, rules: RuleSet, now: Callable[[], float]) -> str:
        """Return why *rules* did not allow *call*; empty if it is too soon after the last one.

        *now* tells the time in seconds on one clock.
        """
        began = now()
        if began < self._after:
            return ""
        said = str(rules.explain(call))
        ended = now()
        self._after = ended + _SHARE * (ended - began)
        return said
