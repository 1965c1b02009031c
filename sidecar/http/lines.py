"""Judged header lines, remembered: the table behind `head`.

The same lines come again and again, so each is judged once and its verdict
kept. What may carry a secret or always differs is never kept. A table is
bounded in bytes and forgets its oldest entries, never everything; each peer
has its own, so that nobody can push another's lines out.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypeAlias

from .shapes import (
    BAD_HOST,
    CODING,
    CONNECTION,
    DROP,
    ENCODING,
    EXPECT,
    HOST,
    LENGTH,
    MIRROR,
    OPTIONS,
    ORIGIN,
    PASS,
    REQUEST_ID,
    TYPE,
    Shapes,
)

# RFC 9110 7.6.1, and what older peers still send.
_HOP_BY_HOP: Final = frozenset(
    {
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"upgrade",
        b"http2-settings",
        b"accept-encoding",  # a compressed reply could not be read here
    }
)

# What a caller puts where we write could only be a forgery, so it goes no further.
_OF_REQUESTS: Final[dict[bytes, int]] = {
    b"x-forwarded-client-cert": DROP,
    b"x-request-id": REQUEST_ID,
    b"origin": ORIGIN,
    b"mcp-method": MIRROR,
    b"mcp-name": MIRROR,
    b"mcp-protocol-version": MIRROR,
    # What some servers believe in the place of the request line: looked at like a mirror.
    b"x-http-method": MIRROR,
    b"x-http-method-override": MIRROR,
    b"x-method-override": MIRROR,
    b"x-original-url": MIRROR,
    b"x-rewrite-url": MIRROR,
}

# How whoever ends TLS tells a server whose certificate it saw. That is us, and from a
# caller it is a forgery as well (RFC 9440, and what proxies make up).
_OF_CERTIFICATES: Final = (
    b"client-cert",
    b"l5d-client-id",
    b"ssl-client-",
    b"x-amzn-mtls-",
    b"x-client-cert",
    b"x-client-dn",
    b"x-client-verify",
    b"x-forwarded-client-",
    b"x-spiffe-",
    b"x-ssl-",
    b"x-tls-client-",
)

_BOTH: Final[dict[bytes, int]] = {
    **dict.fromkeys(_HOP_BY_HOP, DROP),
    b"connection": OPTIONS,
    b"content-length": LENGTH,
    b"host": HOST,
    b"transfer-encoding": CODING,
    b"expect": EXPECT,
    b"content-type": TYPE,
    b"content-encoding": ENCODING,
}
_REQUEST: Final = {**_BOTH, **_OF_REQUESTS}

# Names whose lines repeat and carry no secret.
KEPT: Final = frozenset(
    {
        b"host",
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"allow",
        b"cache-control",
        b"connection",
        b"content-type",
        b"keep-alive",
        b"mcp-method",
        b"mcp-protocol-version",
        b"origin",
        b"pragma",
        b"sec-fetch-mode",
        b"server",
        b"transfer-encoding",
        b"user-agent",
        b"vary",
        b"x-accel-buffering",
    }
)

_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*+([^\x00-\x08\x0a-\x1f\x7f]*+)")

_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_MAX_DIGITS: Final = 15
_ALONE: Final = (b"close", b"keep-alive")

# Names of lines that are judged each time, as they are mostly written, with what
# `field_of` would find out; every other spelling goes through it.
_AFRESH: Final = (
    b"Content-Length",
    b"Date",
    b"Mcp-Session-Id",
    b"Last-Event-ID",
    b"Mcp-Name",
    b"traceparent",
    b"tracestate",
    b"Authorization",
    b"Cookie",
)


def _as_written(kinds: dict[bytes, int]) -> dict[bytes, tuple[bytes, int]]:
    found: dict[bytes, tuple[bytes, int]] = {}
    for name in _AFRESH:
        for spelling in (name, name.lower()):
            found[spelling] = (name.lower(), kinds.get(name.lower(), PASS))
    return found


_PLAIN_REQUEST: Final = _as_written(_REQUEST)
_PLAIN_REPLY: Final = _as_written(_BOTH)

# A value that needs no trimming.
_VALUE: Final = re.compile(rb"[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?+")

# What a remembered line costs beside its own bytes, roughly: key, field, slots.
_ENTRY_BYTES: Final = 320


Pair: TypeAlias = tuple[bytes, bytes]  # lower-case name, value


class Field(NamedTuple):
    """One header field: what it means here, its lower-case name and value, and its wire form."""

    kind: int
    name: bytes
    value: bytes
    wire: bytes
    pair: Pair


_field: Final = tuple.__new__  # what Field(...) does, without a Python frame on the way


def field_of(name: bytes, value: bytes, *, request: bool) -> Field:
    """Return the field of a *name* and *value* that h11 or the line grammar accepted."""
    lower = name.lower()
    kind = (_REQUEST if request else _BOTH).get(lower, PASS)
    if kind == OPTIONS:
        if value.lower() in _ALONE:
            kind = CONNECTION
    elif kind == HOST:
        # In a reply it means nothing, and passes.
        kind = PASS if not request else HOST if _HOST.fullmatch(value) else BAD_HOST
    elif kind == EXPECT and not request:
        kind = PASS
    elif request and b"_" in lower:
        # An underscore twin (`x_request_id`) is read as the real one by CGI-like servers.
        kind = DROP
    elif request and lower.startswith(b"mcp-param-"):
        kind = MIRROR
    elif request and lower.startswith(_OF_CERTIFICATES):
        kind = DROP
    return _field(Field, (kind, lower, value, b"%b: %b\r\n" % (name, value), (lower, value)))


def judge_line(line: bytes, *, request: bool) -> Field | None:
    """Return the field of one header *line* without its CRLF, or None if h11 must see it.

    Stricter than h11 (RFC 9110 5.5): no control characters but the tab. Lengths, too
    many to be remembered, pass by digits alone.
    """
    name, _, value = line.partition(b": ")
    plain = (_PLAIN_REQUEST if request else _PLAIN_REPLY).get(name)
    if plain is not None and _VALUE.fullmatch(value):
        lower, kind = plain
        if kind == LENGTH and not _is_length(value):
            return None
        return _field(Field, (kind, lower, value, line + b"\r\n", (lower, value)))
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    name, value = match.groups()
    field = field_of(name, value.rstrip(b" \t"), request=request)
    return None if field.kind == LENGTH and not _is_length(value) else field


def _is_length(value: bytes) -> bool:
    return value.isdigit() and len(value) <= _MAX_DIGITS


class Unseen(Exception):
    """A line that only h11 may judge, or whose verdict is worth keeping."""


class _Fields(dict[bytes, Field]):
    """Remembered fields by their lines; any other line is judged when it is asked for."""

    __slots__ = ("_request",)

    def __init__(self, *, request: bool) -> None:
        super().__init__()
        self._request = request

    def __missing__(self, line: bytes) -> Field:
        field = judge_line(line, request=self._request)
        if field is None or field[1] in KEPT:
            raise Unseen
        return field


class LineTable:
    """What is remembered of one peer's heads: start lines and fields by their bytes.

    Of requests, or of *replies*: the two are not read alike. *shapes* may be shared:
    what they know follows from a head's fields alone.
    """

    __slots__ = ("_capacity", "_used", "fields", "shapes", "starts")

    def __init__(
        self, capacity: int, shapes: Shapes | None = None, *, replies: bool = False
    ) -> None:
        self._capacity = capacity
        self._used = 0
        self.shapes = Shapes() if shapes is None else shapes
        self.fields = _Fields(request=not replies)
        self.starts: dict[bytes, object] = {}

    def keep_field(self, line: bytes, field: Field) -> None:
        """Remember *field* under its *line* if its name is one that repeats."""
        if field.name in KEPT and line not in self.fields and self._room(len(line)):
            self.fields[line] = field

    def keep_start(self, line: bytes, start: object) -> None:
        """Remember a start line; one with a query may carry a secret and is not kept."""
        if b"?" not in line and line not in self.starts and self._room(len(line)):
            self.starts[line] = start

    def _room(self, size: int) -> bool:
        cost = 3 * size + _ENTRY_BYTES
        if cost > self._capacity:
            return False
        self._used += cost
        while self._used > self._capacity:
            table: _Fields | dict[bytes, object] = (
                self.fields if len(self.fields) >= len(self.starts) else self.starts
            )
            oldest = next(iter(table))
            del table[oldest]
            self._used -= 3 * len(oldest) + _ENTRY_BYTES
        return True


class LineTables:
    """One LineTable a peer, for a bounded number of peers; the oldest is let go."""

    __slots__ = ("_capacity", "_peers", "_replies", "_shapes", "_tables")

    def __init__(self, capacity: int, peers: int, *, replies: bool = False) -> None:
        self._capacity = capacity
        self._peers = peers
        self._replies = replies
        self._shapes = Shapes()
        self._tables: dict[str, LineTable] = {}

    def of(self, peer: str) -> LineTable:
        """Return the table of *peer*, made if there is none."""
        table = self._tables.get(peer)
        if table is None:
            while len(self._tables) >= self._peers:
                del self._tables[next(iter(self._tables))]
            table = LineTable(self._capacity, self._shapes, replies=self._replies)
            self._tables[peer] = table
        return table
