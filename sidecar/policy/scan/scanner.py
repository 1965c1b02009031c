"""The scan: are there texts in a body that should not pass, and where?

Patterns are literal texts, found whatever their case, width, marks, invisible
characters or white space (`fold`). An automaton names every hit; a first pass
may go before it and only spare it work, so that findings are the same with and
without. What it is told to look through it looks through whole: a fault is
raised, and never taken for "nothing found". It does no I/O.

Why the first pass over a message's bytes is sound: in a JSON text of ASCII
without a backslash each string stands as it is (RFC 8259 section 7: what is
escaped has a backslash, and a control character must be). Folding ASCII changes
case, drops DEL, and joins spaces. So a string that holds a pattern shows the
pattern itself in some case, or a DEL, or two spaces together. Where none of
these nor a backslash is, no pattern is; what is not ASCII is always folded. White
space around the whole text is in no string.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import ahocorasick

from ...mcp.message import leaves
from ..verdict import Finding, RuleRef
from .first_pass import Compile, compile_first_pass
from .fold import BORDER, Fold
from .place import path_of

MAX_PATTERNS: Final = 10_000
MAX_PATTERN: Final = 1_024
MAX_TOTAL: Final = 262_144

# What makes the bytes of a message differ from what its strings fold to.
_DISGUISES: Final = (b"\\", b"\x7f", b"  ")

_decoder: Final = getincrementaldecoder("utf-8")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text to look for: findings name its `id`, and the rule it stands in."""

    id: str
    text: str
    rule: RuleRef | None = None


def literal(text: str, fold: Fold) -> str:
    """Return what is looked for in folded text, for a pattern of *text*.

    White space around it does not count. Raises ValueError if nothing visible
    is left, if it is too long, or if it holds NUL, which no string may.
    """
    folded = fold(text).strip(" ")
    if not folded:
        raise ValueError("nothing visible to look for: write the text that must not pass")
    if BORDER in folded:
        raise ValueError("a pattern cannot hold NUL: no string of a message may")
    if len(folded) > MAX_PATTERN:
        raise ValueError(f"{len(folded)} characters: a pattern has at most {MAX_PATTERN}")
    return folded


class Scanner:
    """The patterns of one inspection, compiled once; asked by one thread.

    Where two patterns fold to the same text, the first one names the finding.
    Raises ValueError for no patterns, for too many, and for one that `literal` refuses.
    """

    __slots__ = (
        "_automaton",
        "_fold",
        "_longest",
        "_may_concern",
        "_may_hold",
        "_may_hold_plain",
    )

    def __init__(
        self,
        patterns: Sequence[Pattern],
        first_pass: Compile = compile_first_pass,
        concerns: Sequence[bytes] = (),
    ) -> None:
        self._fold = Fold()
        literals = _literals(patterns, self._fold)
        self._longest = max(map(len, literals))
        self._automaton = ahocorasick.Automaton()
        for text, pattern in literals.items():
            self._automaton.add_word(text, pattern)
        self._automaton.make_automaton()
        self._may_hold = first_pass([text.encode() for text in literals])
        plain = [text.encode("ascii") for text in literals if text.isascii()]
        self._may_hold_plain = first_pass([*plain, *_DISGUISES])
        self._may_concern = first_pass([*plain, *_DISGUISES, *concerns])

    @property
    def has_first_pass(self) -> bool:
        """Whether this machine spares the automaton most of its work."""
        return self._may_hold_plain is not None

    def is_clean(self, body: bytes) -> bool:
        """Tell whether JSON in *body* certainly holds no pattern, without parsing it, nor in
        its keys any of the words that *concerns* names.

        False where that is not sure; without a first pass it never is. NUL would be
        the mark of an encoding in which some reader sees other characters.
        """
        may_concern = self._may_concern
        return (
            may_concern is not None
            and body.isascii()
            and b"\0" not in body
            and not may_concern(body.strip())
        )

    def message(self, body: bytes, value: object) -> Finding | None:
        """Look through every string of a JSON message, its keys too, each for itself.

        *value* is what a strict parser made of *body*. Raises MessageError if a string
        holds NUL.
        """
        may_hold = self._may_hold_plain
        if may_hold is not None and body.isascii() and not may_hold(body.strip()):
            return None
        folded = self._fold(leaves(value))
        hit = self.first(folded)
        if hit is None:
            return None
        end, pattern = hit
        return finding(pattern, path_of(value, folded.count(BORDER, 0, end)))

    def raw(self, body: bytes) -> Finding | None:
        """Look through bytes that are no JSON, read as UTF-8; what is none is passed over."""
        return self.stream().feed(body)

    def stream(self) -> Stream:
        """Begin to look through content that passes in pieces."""
        return Stream(self, self._fold, self._longest - 1)

    def first(self, folded: str, start: int = 0) -> tuple[int, Pattern] | None:
        """Return the first hit in *folded* text that ends at *start* or later, and its end."""
        if self._may_hold is not None and not self._may_hold(folded.encode()):
            return None
        for end, pattern in self._automaton.iter(folded):
            if end >= start:
                return end, pattern
        return None


class Stream:
    """A scan of content that passes in pieces; it finds what the whole would show.

    It keeps at most one pattern's length of folded text, and the first bytes of
    a character whose end has not come yet.
    """

    __slots__ = ("_decode", "_fold", "_keep", "_scanner", "_tail")

    def __init__(self, scanner: Scanner, fold: Fold, keep: int) -> None:
        self._scanner = scanner
        self._fold = fold
        self._keep = keep
        self._tail = ""
        self._decode = _decoder("ignore").decode

    def feed(self, chunk: bytes) -> Finding | None:
        """Return the first pattern that ends in *chunk*, wherever it began; or None."""
        # Without NUL, text in UTF-16 shows its ASCII characters too.
        text = self._fold(self._decode(chunk).replace(BORDER, ""))
        tail = self._tail
        if tail.endswith(" ") and text.startswith(" "):
            text = text[1:]
        window = tail + text
        hit = self._scanner.first(window, len(tail))
        self._tail = window[-self._keep :] if self._keep else ""
        return None if hit is None else finding(hit[1])


def finding(pattern: Pattern, path: str = "") -> Finding:
    """Return the finding of *pattern*, which says nothing of the text around it."""
    return Finding(pattern.id, path, pattern.text, pattern.rule)


def _literals(patterns: Sequence[Pattern], fold: Fold) -> dict[str, Pattern]:
    if not patterns:
        raise ValueError("no patterns: a scan needs at least one")
    if len(patterns) > MAX_PATTERNS:
        raise ValueError(f"{len(patterns)} patterns: a scan takes at most {MAX_PATTERNS}")
    literals: dict[str, Pattern] = {}
    for pattern in patterns:
        try:
            literals.setdefault(literal(pattern.text, fold), pattern)
        except ValueError as error:
            raise ValueError(f"pattern `{pattern.id}`: {error}") from None
    total = sum(map(len, literals))
    if total > MAX_TOTAL:
        raise ValueError(f"patterns of {total} characters: a scan takes at most {MAX_TOTAL}")
    return literals
