"""Text to the form that patterns are matched in, so that writing it oddly hides nothing.

Each code point becomes what is left of it after compatibility decomposition
(NFKD), case folding, and the removal of marks and of what nobody sees; then
each run of white space becomes one space. Code points are folded one by one:
the pieces of a text fold to the pieces of the folded text, wherever it is cut,
and no input costs more than a table look-up for each of its characters. A
string-wide normalisation is quadratic in a run of combining marks.
"""

from __future__ import annotations

from typing import Final
from unicodedata import category, normalize

# NUL stays what it is: it marks the border between two leaves of a message.
BORDER: Final = "\0"

# Only U+FDFA, U+FDFB and a few squared words say more at once; they stay as they are, so
# that folded text is never more than some times longer than its bytes.
_MAX_EXPANSION: Final = 6

# From here on nothing is written with letters: nothing folds, but for the tags and selectors.
_LETTERS_END: Final = 0x30000
_TAGS: Final = range(0xE0000, 0xE1000)

# Marks (Mn, Me), formats, controls and surrogates: not seen, so not read.
_UNSEEN_CATEGORIES: Final = frozenset({"Mn", "Me", "Cf", "Cc", "Cs"})

# Unicode's Default_Ignorable_Code_Point as far as its category does not say so, and the
# two replacement characters.
_UNSEEN: Final = frozenset(
    [0x115F, 0x1160, 0x2065, 0x3164, 0xFFA0, *range(0xFFF0, 0xFFF9), 0xFFFC, 0xFFFD, *_TAGS]
)
_BLANKS: Final = frozenset({0x2800})  # a braille cell without dots


# Few kinds of other characters in a text that is mostly ASCII are replaced one kind after the
# other, which is several times faster than a look-up for each character.
_FEW_KINDS: Final = 16
_FEW_OF_ALL: Final = 4


class Fold:
    """Folds text: `fold(text)`. Keeps what it has worked out, at most some 200 000 entries."""

    __slots__ = ("_table",)

    def __init__(self) -> None:
        self._table = _Table()

    def __call__(self, text: str) -> str:
        """Return *text* folded; NUL stays, and so does a single space at either end."""
        if text.isascii():
            folded = text.encode("ascii").translate(_ASCII, _ASCII_UNSEEN).decode("ascii")
        else:
            folded = self._fold_some(text)
        if "  " in folded:
            # All white space is spaces by now; the dots keep those at the ends.
            folded = " ".join(f".{folded}.".split())[1:-1]
        return folded

    def _fold_some(self, text: str) -> str:
        """Fold a text that is not all ASCII; in UTF-8 its ASCII can be folded as bytes."""
        data = text.encode("utf-8", "surrogatepass").translate(_ASCII, _ASCII_UNSEEN)
        others = data.translate(None, _ALL_ASCII)
        if len(others) * _FEW_OF_ALL > len(data):
            return text.translate(self._table)
        kinds = set(others.decode("utf-8", "surrogatepass"))
        changing = [kind for kind in kinds if self._table[ord(kind)] != kind]
        if len(changing) > _FEW_KINDS:
            return text.translate(self._table)
        # In any order: what a character folds to folds to itself.
        folded = data.decode("utf-8", "surrogatepass")
        for kind in changing:
            folded = folded.replace(kind, self._table[ord(kind)])
        return folded


class _Table(dict[int, str]):
    """Code point -> its fold, worked out when it is first met."""

    __slots__ = ()

    def __missing__(self, point: int) -> str:
        if point >= _LETTERS_END:
            # Not kept: a text of all the planes would otherwise fill the memory.
            return "" if point in _TAGS else chr(point)
        folded = self[point] = fold_point(point)
        return folded


def fold_point(point: int) -> str:
    """Return the fold of one code point: mostly one character, or none."""
    char = chr(point)
    folded = normalize("NFKD", char).casefold()
    if len(folded) > _MAX_EXPANSION:
        folded = char
    return "".join(map(_seen, folded))


def _seen(char: str) -> str:
    if char == BORDER:
        return char
    if char.isspace() or ord(char) in _BLANKS:
        return " "
    if ord(char) in _UNSEEN or category(char) in _UNSEEN_CATEGORIES:
        return ""
    return char


# The same for ASCII, as `bytes.translate` takes it, which is ten times as fast; the bytes of
# other characters stay, so that it serves for UTF-8 too.
_ASCII: Final = bytes(
    ord(fold_point(point) or chr(point)) if point < 128 else point for point in range(256)
)
_ASCII_UNSEEN: Final = bytes(point for point in range(128) if not fold_point(point))
_ALL_ASCII: Final = bytes(range(128))
