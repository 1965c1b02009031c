"""Heads of HTTP/1 messages: h11 judges them, and what its fields mean is said here.

`judge_request` gives a whole head to our screen and then to h11. `reading` has
quicker ways to the same head; what fields mean for the frame around a message is
in one place for all of them. (RFC 9112, RFC 9110.)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ..errors import ProtocolError
from .field import Field, Pair
from .judge import RequestLine, StatusLine, reply_by_h11, request_by_h11
from .shapes import (
    BAD_HOST,
    CODING,
    CONNECTION,
    ENCODING,
    EXPECT,
    FORWARDED,
    HOST,
    LENGTH,
    MIRROR,
    OPTIONS,
    ORIGIN,
    PASS,
    RARE,
    REQUEST_ID,
    TYPE,
)

CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2

_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]+)(/[^#]*)?", re.IGNORECASE)
# Listing one of these as hop-by-hop would change what the message is.
_NEVER_LISTED: Final = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"content-type", b"authorization"}
)


@dataclass(slots=True)
class RequestHead:
    """What a request's head says. `length` is in bytes, or CHUNKED.

    `pairs` are all fields as (lower-case name, value), `mirrors` those of them that mirror a
    message's body, `forward` the lines that go on to the server. `request_id` is the caller's.
    """

    start: RequestLine
    host: bytes
    pairs: Sequence[Pair]
    forward: Sequence[bytes]
    mirrors: Sequence[Pair] = ()
    length: int = 0
    content_type: bytes = b""
    content_encoding: bytes = b""
    close: bool = False
    request_id: bytes = b""
    expects: bool = False
    origin: bytes = b""

    @property
    def http10(self) -> bool:
        """Whether it is HTTP/1.0, which knows no chunks."""
        return self.start.http10

    def bare(self) -> RequestHead:
        """Return a copy without the fields, for other heads of the same form."""
        return replace(self, pairs=(), forward=(), mirrors=(), request_id=b"")


@dataclass(slots=True)
class ReplyHead:
    """What a reply's head says. `length` is in bytes, CHUNKED or UNTIL_CLOSE; see `framing`."""

    status: int
    start: bytes
    pairs: Sequence[Pair]
    forward: Sequence[bytes]
    length: int = UNTIL_CLOSE
    close: bool = False
    content_type: bytes = b""
    content_encoding: bytes = b""

    def bare(self) -> ReplyHead:
        """Return a copy without the fields, for other heads of the same form."""
        return replace(self, pairs=(), forward=())


class Rare(Exception):
    """A field that stands in few heads: the whole head goes to h11."""


def judge_request(head: bytes, max_fields: int) -> RequestHead:
    """Return the head in *head*, judged by our screen and by h11 as a whole."""
    start, fields = request_by_h11(head, max_fields)
    return request_of(start, fields, judged=True)


def judge_reply(head: bytes, max_fields: int) -> ReplyHead:
    """Return the reply head in *head*, judged by our screen and by h11 as a whole."""
    start, fields = reply_by_h11(head, max_fields)
    return reply_of(start, fields, judged=True)


def framing(head: ReplyHead, method: str) -> int:
    """Return the body's length of the reply *head* to *method* (RFC 9112 6.3)."""
    if method == "HEAD" or head.status < 200 or head.status in (204, 304):
        return 0
    return head.length


# -- the meaning of a head: one place for both ways -------------------------------------


def request_of(start: RequestLine, fields: list[Field], *, judged: bool = False) -> RequestHead:
    """Return what *start* and *fields* mean; raise Rare for what h11 has not *judged* whole."""
    host: bytes | None = None
    length = -1
    pairs = [field.pair for field in fields]
    forward: list[bytes] = []
    mirrors: list[Pair] = []
    rare: list[Field] = []
    head = RequestHead(start, b"", pairs, forward, mirrors, close=start.http10)
    for field in fields:
        kind, _, value, wire, pair = field
        if kind == PASS:
            forward.append(wire)
        elif kind == LENGTH:
            if length >= 0:
                raise ProtocolError("`Content-Length` stands twice")
            length = head.length = int(value)
        elif kind == HOST:
            if host is not None:
                raise ProtocolError("`Host` stands twice")
            host = head.host = value
        elif kind == TYPE:
            # Said twice, it is whatever the server takes: neither is believed.
            head.content_type = b"?" if head.content_type else value
            forward.append(wire)
        elif kind == CONNECTION:
            head.close |= value.lower() == b"close"
        elif kind == ENCODING:
            head.content_encoding += value.lower()
            forward.append(wire)
        elif kind == MIRROR:
            mirrors.append(pair)
            forward.append(wire)
        elif kind == ORIGIN:
            # Said twice, or emptily, it is no origin: nobody is believed to be such a page.
            head.origin = b"?" if head.origin else value or b"?"
            forward.append(wire)
        elif kind == REQUEST_ID:
            head.request_id = head.request_id or value
        elif kind >= RARE:
            rare.append(field)
    if host is None or not start.origin:
        _settle_target(head, host, fields)
    if rare:
        if not judged:
            raise Rare
        _rare(head, rare, has_length=length >= 0)
        _drop_listed(head, fields)
    return head


def _rare(head: RequestHead, rare: list[Field], *, has_length: bool) -> None:
    """Act on the fields that few requests have."""
    for field in rare:
        if field.kind == CODING:
            if has_length or head.http10:
                raise ProtocolError("`Transfer-Encoding` beside `Content-Length` or in HTTP/1.0")
            head.length = CHUNKED
        elif field.kind == EXPECT:
            _expect(head, field)
        elif field.kind == BAD_HOST:
            raise ProtocolError("`Host` is not one host")


def _expect(head: RequestHead, field: Field) -> None:
    if field.value.lower() != b"100-continue":
        raise ProtocolError("only `Expect: 100-continue` is known", 417)
    head.expects = not head.http10


def _settle_target(head: RequestHead, host: bytes | None, fields: list[Field]) -> None:
    """Settle what is not the common case: no Host, or a target that is no path."""
    start = head.start
    if any(field.kind == BAD_HOST for field in fields):
        raise ProtocolError("`Host` is not one host")
    if host is None:
        if not start.http10:
            raise ProtocolError("`Host` is missing")
        head.host = host = b"localhost"
    if start.origin:
        return
    if b"#" in start.target:
        raise ProtocolError("the target has a fragment")
    absolute = _ABSOLUTE.fullmatch(start.target)
    if absolute is None or absolute[1].lower() != host.lower():
        raise ProtocolError("the target is neither a path nor an URL of this `Host`")
    head.start = RequestLine.of(start.method, absolute[2] or b"/", http10=start.http10)


def _drop_listed(head: RequestHead | ReplyHead, fields: list[Field]) -> None:
    """Drop what `Connection` lists (RFC 9110 7.6.1), if it lists anything."""
    listed: set[bytes] = set()
    for field in fields:
        if field.kind == OPTIONS:
            listed.update(token.strip().lower() for token in field.value.split(b","))
    if not listed:
        return
    if listed & _NEVER_LISTED:
        raise ProtocolError("`Connection` lists a field that is not hop-by-hop")
    head.close |= b"close" in listed
    head.forward = [f.wire for f in fields if f.kind in FORWARDED and f.name not in listed]


def reply_of(start: StatusLine, fields: list[Field], *, judged: bool = False) -> ReplyHead:
    """Return what *start* and *fields* mean; raise Rare for what h11 has not *judged* whole."""
    length = -1
    forward: list[bytes] = []
    rare: list[Field] = []
    pairs = [field.pair for field in fields]
    head = ReplyHead(start.status, start.wire, pairs, forward, UNTIL_CLOSE, start.http10)
    for field in fields:
        kind, _, value, wire, _ = field
        if kind == PASS:
            forward.append(wire)
        elif kind == TYPE:
            head.content_type = b"?" if head.content_type else value
            forward.append(wire)
        elif kind == LENGTH:
            if length >= 0:
                raise ProtocolError("`Content-Length` stands twice", 502)
            length = head.length = int(value)
        elif kind == CONNECTION:
            head.close |= value.lower() == b"close"
        elif kind == ENCODING:
            head.content_encoding += value.lower()
            forward.append(wire)
        elif kind >= RARE:
            rare.append(field)
    if rare:
        if not judged:
            raise Rare
        _rare_reply(head, rare, has_length=length >= 0, http10=start.http10)
        _drop_listed(head, fields)
    return head


def _rare_reply(head: ReplyHead, rare: list[Field], *, has_length: bool, http10: bool) -> None:
    for field in rare:
        if field.kind == CODING:
            if has_length or http10:
                raise ProtocolError(
                    "`Transfer-Encoding` beside `Content-Length` or in HTTP/1.0", 502
                )
            head.length = CHUNKED
