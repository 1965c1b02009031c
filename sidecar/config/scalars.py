"""What a plain YAML scalar means: the core schema of YAML 1.2, and its traps.

YAML 1.1 reads `no`, `22:22` and `010` as false, 1342 and 8; YAML 1.2 reads text
and 10. What the two read differently and an operator may have meant either way
is refused here instead of chosen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from typing import Final, TypeAlias

Value: TypeAlias = str | int | float | bool | None

MOST_DIGITS: Final = 18  # what fits 64 bits; longer ones are no number a document needs

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE: Final = frozenset({"true", "True", "TRUE"})
_FALSE: Final = frozenset({"false", "False", "FALSE"})
_OLD_TRUE: Final = frozenset({"yes", "Yes", "YES", "on", "On", "ON"})
_OLD_FALSE: Final = frozenset({"no", "No", "NO", "off", "Off", "OFF"})
_INT: Final = re.compile(r"[-+]?[0-9]+")
_OCTAL: Final = re.compile(r"0o[0-7]+")
_HEX: Final = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_MAYBE_NUMBER: Final = frozenset("0123456789+-.")
_WORDS: Final = frozenset("~nNtTfFyYoO")


@dataclass(frozen=True, slots=True)
class Trap:
    """A scalar that is refused: its problem's code, message and help."""

    code: str
    message: str
    help: str


def resolve(text: str) -> Value | Trap:
    """Return what the plain scalar *text* means, or the trap it is."""
    if not text:
        return None
    if text[0] in _MAYBE_NUMBER:
        return _number(text)
    if text[0] in _WORDS:
        return _word(text)
    return text


def _word(text: str) -> Value | Trap:
    if text in _NULLS:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if text in _OLD_TRUE or text in _OLD_FALSE:
        meant = "true" if text in _OLD_TRUE else "false"
        return Trap(
            "SC0105",
            f"`{text}` is a boolean to some YAML readers and text to others",
            f'write `{meant}` if you mean the boolean, `"{text}"` if you mean the word',
        )
    return text


def _number(text: str) -> Value | Trap:
    if _INT.fullmatch(text):
        return _integer(text)
    if _HEX.fullmatch(text) or _OCTAL.fullmatch(text):
        return int(text, 0) if len(text) <= MOST_DIGITS else _too_long(text)
    if _FLOAT.fullmatch(text):
        short = len(text) <= MOST_DIGITS and isfinite(float(text))
        return float(text) if short else _too_long(text)
    return text


def _integer(text: str) -> int | Trap:
    digits = text.lstrip("+-")
    if len(digits) > MOST_DIGITS:
        return _too_long(text)
    if digits[0] == "0" and len(digits) > 1:
        plain = digits.lstrip("0") or "0"
        return Trap(
            "SC0106",
            f"`{text}` is octal to some YAML readers and decimal to others",
            f'write `{plain}` for the number, `"{text}"` for the text',
        )
    return int(text)


def _too_long(text: str) -> Trap:
    return Trap(
        "SC0106",
        "a number this long or large is not read",
        "put it in quotes if it is text",
    )
