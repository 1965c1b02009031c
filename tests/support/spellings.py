"""JSON written in every way there is, sound or not, and readers that are laxer than ours.

    body = draw(written({"method": "tools/call"}))
    for read in READERS: read(body)

A value is given as plain data; a spelling of it may bear keys twice, keys that look
like others, escapes, odd blanks, and rubbish around it. A reader is what some server
may use: it returns what it takes the bytes for, or None.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import strategies as st

Reader = Callable[[bytes], Any]

BLANKS = ["", "", "", " ", "\n", "\t ", "\r\n"]
ODD_BLANKS = ["\f", "\v", "\u00a0", "\ufeff", "/**/", "\0"]
TWINS: dict[str, list[str]] = {
    "name": ["Name", "NAME", "n\u0061me", "\uff4eame", "name ", "na_me", "name\0", "name\0x"],
    "method": ["Method", "METHOD", "method\0", "me-thod", "\u217fethod"],
    "params": ["Params", "param\u017f", "PARAM\u017f", "params\0"],
    "arguments": ["Arguments", "argument\u017f", "_arguments"],
    "path": ["Path", "PATH", "path\0"],
    "id": ["Id", "\u0131d", "ID"],
}


@dataclass
class Writer:
    """Writes values, choosing by *chance*; unless *sound*, keys may stand twice or beside twins.

    *decoys* are other values of keys, which a twin or a second key may bear.
    """

    chance: Random
    decoys: dict[str, list[Any]]
    sound: bool

    def bytes(self, value: Any) -> bytes:
        """Return the bytes of *value*; unless they are to be sound, with others around it."""
        pick, text = self.chance.choice, self.value(value)
        if self.sound:
            return (pick(BLANKS) + text + pick(BLANKS)).encode()
        encoding = pick(["utf-8"] * 9 + ["utf-16", "utf-16-le", "utf-8-sig", "latin-1"])
        before, behind = pick([("", "")] * 9 + [("", "{}"), ("", "\0"), ("[", "]")])
        return (before + text + behind).encode(encoding, "replace")

    def value(self, value: Any) -> str:
        if isinstance(value, dict):
            return self.object(value)
        if isinstance(value, list):
            return "[" + ",".join(map(self.value, value)) + "]"
        if isinstance(value, str):
            return self.string(value)
        if type(value) is int:
            tenth = f"{value}0E-1" if value else "0E-1"  # no number begins with two noughts
            forms = [f"{value}", f"{value}.0", f"{value}e0", tenth]
            return self.chance.choice(forms)
        return json.dumps(value)

    def object(self, value: dict[str, Any]) -> str:
        pairs = list(value.items())
        for key in () if self.sound else value:
            if key in self.decoys and self.chance.random() < 0.2:
                again = self.chance.choice([key, *TWINS.get(key, [])])
                pairs.append((again, self.chance.choice(self.decoys[key])))
        self.chance.shuffle(pairs)
        blank = self.blank
        members = (
            f"{blank()}{self.string(key)}{blank()}:{blank()}{self.value(inner)}{blank()}"
            for key, inner in pairs
        )
        return "{" + ",".join(members) + "}"

    def blank(self) -> str:
        odd = not self.sound and self.chance.random() < 0.01
        return self.chance.choice(ODD_BLANKS if odd else BLANKS)

    def string(self, text: str) -> str:
        return '"' + "".join(map(self.character, text)) + '"'

    def character(self, one: str) -> str:
        how, code = self.chance.random(), ord(one)
        if how < 0.1 and code < 0x10000:
            return f"\\u{code:04x}" if how < 0.05 else f"\\u{code:04X}"
        if how < 0.2 and one == "/":
            return "\\/"
        if how < 0.102 and not self.sound and code < 0x100:
            return f"\\x{code:02x}"
        return json.dumps(one, ensure_ascii=code < 0x20)[1:-1]


def written(
    value: Any, decoys: dict[str, list[Any]], *, sound: bool = False
) -> st.SearchStrategy[bytes]:
    """Spellings of *value*: strict JSON that says just that if *sound*."""
    return st.integers(0, 2**64).map(lambda seed: Writer(Random(seed), decoys, sound).bytes(value))


def _pairs(keep: Callable[[dict[str, Any], str, Any], None]) -> Callable[[Iterable[Any]], Any]:
    def hook(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            keep(found, key, value)
        return found

    return hook


def _last(found: dict[str, Any], key: str, value: Any) -> None:
    found[key] = value


def _first(found: dict[str, Any], key: str, value: Any) -> None:
    found.setdefault(key, value)


def _caseless(found: dict[str, Any], key: str, value: Any) -> None:
    """As Go's encoding/json: case does not count, nor do the long s and the Kelvin sign."""
    found[key.casefold()] = value


def _aliased(found: dict[str, Any], key: str, value: Any) -> None:
    """As readers that take `snake_case` and `kebab-case` for one word."""
    found[key.replace("_", "").replace("-", "").strip().lower()] = value


def _cut_at_nul(found: dict[str, Any], key: str, value: Any) -> None:
    """As readers in C."""
    found[key.partition("\0")[0]] = value


def _reader(
    keep: Callable[[dict[str, Any], str, Any], None], encoding: str | None, *, more: bool
) -> Reader:
    """A reader of one encoding (None: it guesses); with *more*, of the first value alone."""

    decoder = json.JSONDecoder(object_pairs_hook=_pairs(keep), strict=False)

    def read(body: bytes) -> Any:
        try:
            guessed = encoding or json.detect_encoding(body)
            text = body.decode(guessed, "surrogatepass" if "utf" in guessed else "strict")
            text = text.lstrip("\ufeff \t\r\n\f\v\u00a0\0")
            value, end = decoder.raw_decode(text)
            return value if more or not text[end:].strip() else None
        except (ValueError, RecursionError):
            return None

    return read


READERS: tuple[Reader, ...] = tuple(
    _reader(keep, encoding, more=more)
    for keep in (_last, _first, _caseless, _aliased, _cut_at_nul)
    for encoding in (None, "utf-8-sig", "latin-1")
    for more in (False, True)
)
