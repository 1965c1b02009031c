"""How a text is compared with what a document says: whole, by its beginning, or at all.

Compiled once and linear in what it is asked about: there are no regular
expressions of an operator's here. A text that is missing (None) never matches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class How(StrEnum):
    """Istio's words for ways of comparing; PRESENT is what an empty match of a header means."""

    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    PRESENT = "present"


@dataclass(frozen=True, slots=True)
class TextMatch:
    """One comparison; with `ignore_case`, letters' case says nothing."""

    how: How
    value: str = ""
    ignore_case: bool = False

    @classmethod
    def pattern(cls, text: str) -> TextMatch:
        """Return what `name`, `prefix*`, `*suffix` or `*` mean."""
        if text == "*":
            return cls(How.PRESENT)
        if text.startswith("*"):
            return cls(How.SUFFIX, text[1:])
        if text.endswith("*"):
            return cls(How.PREFIX, text[:-1])
        return cls(How.EXACT, text)

    def holds(self, text: str | None) -> bool:
        """Whether *text* is as it should be."""
        if text is None:
            return False
        value = self.value
        if self.ignore_case:
            text, value = text.lower(), value.lower()
        match self.how:
            case How.EXACT:
                return text == value
            case How.PREFIX:
                return text.startswith(value)
            case How.SUFFIX:
                return text.endswith(value)
            case How.PRESENT:
                return True


def holds_for_any(matches: Iterable[TextMatch], text: str | None) -> bool:
    """Whether one of *matches* holds for *text*."""
    return any(one.holds(text) for one in matches)
