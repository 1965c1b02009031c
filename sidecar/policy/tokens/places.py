"""Where a call carries tokens, and the call without them and with what they proved.

A place is a header, a parameter of the query or a cookie. Every value that stands
there is found, not the first alone. Names are removed however they are spelled:
in any case, and of headers with `_` for `-`, which some servers read alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias
from urllib.parse import unquote_plus

Fields: TypeAlias = Sequence[tuple[bytes, bytes]]  # (lower-case name, value)

# The characters of a token, from the first of which it counts, as Envoy has it.
_TOKEN: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


class Kind(StrEnum):
    """What kind of place."""

    HEADER = "header"
    PARAM = "query parameter"
    COOKIE = "cookie"


@dataclass(frozen=True, slots=True)
class Place:
    """One place; a header's name is in lower case, its token stands behind `prefix`."""

    kind: Kind
    name: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"{self.kind.value} `{self.name}`"

    def find(self, fields: Fields, query: str) -> list[str]:
        """Return every token that stands here."""
        match self.kind:
            case Kind.HEADER:
                wanted = self.name.encode("ascii")
                values = [value.decode("latin-1") for name, value in fields if name == wanted]
                return [one for value in values if (one := self._behind(value)) is not None]
            case Kind.PARAM:
                return [value for name, value in _params(query) if name == self.name]
        lines = [value for name, value in fields if name == b"cookie"]
        return [value for line in lines for name, value in _cookies(line) if name == self.name]

    def _behind(self, value: str) -> str | None:
        """Return what stands behind the prefix, wherever that is; None without it."""
        if not self.prefix:
            return value
        _, found, rest = value.partition(self.prefix)
        if not found:
            return None
        start = next((at for at, one in enumerate(rest) if one in _TOKEN), len(rest))
        return rest[start:]


BEARER: Final = Place(Kind.HEADER, "authorization", "Bearer ")
ACCESS_TOKEN: Final = Place(Kind.PARAM, "access_token")
USUAL: Final = (BEARER, ACCESS_TOKEN)


@dataclass(frozen=True, slots=True)
class Edit:
    """What becomes of a call's head: `headers` to drop (folded), cookies and parameters to
    take out, and fields to add."""

    headers: frozenset[bytes] = frozenset()
    cookies: frozenset[str] = frozenset()
    params: frozenset[str] = frozenset()
    added: tuple[tuple[bytes, bytes], ...] = ()

    @classmethod
    def of(cls, places: Iterable[Place], dropped: frozenset[bytes], added: Fields = ()) -> Edit:
        """Take what stands at *places* out, drop headers, and add some."""
        names: dict[Kind, set[str]] = {kind: set() for kind in Kind}
        for place in places:
            names[place.kind].add(place.name)
        return cls(
            dropped | {folded(name.encode("ascii")) for name in names[Kind.HEADER]},
            frozenset(names[Kind.COOKIE]),
            frozenset(names[Kind.PARAM]),
            tuple(added),
        )

    def fields(self, fields: Fields) -> list[tuple[bytes, bytes]]:
        """Return *fields* as rules and the server are to see them."""
        kept: list[tuple[bytes, bytes]] = []
        for name, value in fields:
            if folded(name) in self.headers:
                continue
            if self.cookies and name == b"cookie":
                value = self._cookie(value)
                if not value:
                    continue
            kept.append((name, value))
        return [*kept, *self.added]

    def lines(self, lines: Iterable[bytes]) -> list[bytes]:
        """Return header lines, `name: value` and CRLF, likewise."""
        kept: list[bytes] = []
        for line in lines:
            name, _, rest = line.partition(b":")
            if folded(name) in self.headers:
                continue
            if self.cookies and name.lower() == b"cookie":
                value = self._cookie(rest.strip())
                if not value:
                    continue
                line = b"%b: %b\r\n" % (name, value)
            kept.append(line)
        return kept + [b"%b: %b\r\n" % field for field in self.added]

    def query(self, query: str) -> str:
        """Return *query* without the parameters that are taken out; the rest byte for byte."""
        if not self.params or not query:
            return query
        parts = (part for part in query.split("&") if _named(part)[0] not in self.params)
        return "&".join(parts)

    def _cookie(self, value: bytes) -> bytes:
        pairs = value.split(b";")
        kept = [pair for pair in pairs if _cookie(pair)[0] not in self.cookies]
        return value if len(kept) == len(pairs) else b";".join(kept).strip(b"; \t")


def folded(name: bytes) -> bytes:
    """Return a header's *name* as whoever takes `_` for `-` reads it."""
    return name.lower().replace(b"_", b"-")


def _params(query: str) -> list[tuple[str, str]]:
    return [_named(part) for part in query.split("&")] if query else []


def _named(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return unquote_plus(name), unquote_plus(value)


def _cookies(line: bytes) -> list[tuple[str, str]]:
    return [_cookie(pair) for pair in line.split(b";")]


def _cookie(pair: bytes) -> tuple[str, str]:
    name, _, value = pair.decode("latin-1").partition("=")
    return name.strip(), value.strip().removeprefix('"').removesuffix('"')
