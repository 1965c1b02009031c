"""A place in the text of a sound JSON value, and cuts made there: what edits are made of.

What is not cut out stays as it was written, numbers and white space included. It takes
what `message.parse` has accepted and nothing laxer; what to cut is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from json import JSONDecoder
from typing import Any, Final

_SPACE: Final = re.compile(r"[ \t\r\n]*")
# The standard library's scanner, because it alone says where a value ends. It is laxer
# than `message.parse`, but reads what that has accepted no differently.
_scan: Final = JSONDecoder().raw_decode


@dataclass(frozen=True, slots=True, order=True)
class Cut:
    """Characters to be replaced."""

    start: int
    end: int
    instead: str = ""


@dataclass(slots=True)
class Cursor:
    """A place in the text of a sound JSON value.

    `members` and `elements` stop before each value; whoever asked must step over it.
    """

    text: str
    at: int = 0

    def skip_space(self) -> None:
        """Go to the next character that is no white space."""
        match = _SPACE.match(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def step(self) -> Any:
        """Return the value here and go behind it."""
        value, self.at = _scan(self.text, self.at)
        return value

    def elements(self, close: str = "]") -> Iterator[None]:
        """Stop before each element of the array here."""
        self.at += 1
        self.skip_space()
        while self.text[self.at] != close:
            yield
            self.skip_space()
            if self.text[self.at] == ",":
                self.at += 1
                self.skip_space()
        self.at += 1

    def members(self) -> Iterator[str]:
        """Yield each key of the object here, and stop before its value."""
        for _ in self.elements("}"):
            key = self.step()
            self.skip_space()
            self.at += 1
            self.skip_space()
            yield key


def splice(body: bytes, text: str, cuts: Sequence[Cut]) -> bytes:
    """Return *body*, whose text is *text*, with *cuts* made, which are in order and apart."""
    if not cuts:
        return body
    parts: list[str] = []
    at = 0
    for cut in cuts:
        parts += (text[at : cut.start], cut.instead)
        at = cut.end
    parts.append(text[at:])
    return "".join(parts).encode()
