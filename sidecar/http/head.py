"""Heads of HTTP/1 messages: h11 judges, and its verdict on each line is remembered.

Two ways lead to the same head. `judge_request` gives the whole head to our
screen and then to h11. `read_request` puts a head together from lines that
were judged before, and falls back to the first way for whatever it has not
seen or finds out of the ordinary. For every byte string the two agree on
accept, refuse and meaning. (RFC 9112, RFC 9110.)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..errors import ProtocolError
from .judge import RequestLine, StatusLine, reply_by_h11, request_by_h11
from .lines import Field, LineTable, Pair, Unseen
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
    fields: Sequence[Field]
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


@dataclass(slots=True)
class ReplyHead:
    """What a reply's head says. `length` is in bytes, CHUNKED or UNTIL_CLOSE; see `framing`."""

    status: int
    start: bytes
    fields: Sequence[Field]
    forward: Sequence[bytes]
    length: int = UNTIL_CLOSE
    close: bool = False
    content_type: bytes = b""
    content_encoding: bytes = b""


def read_request(head: bytes, table: LineTable, max_fields: int) -> RequestHead:
    """Return the head in *head* (its empty line included) by remembered lines.

    Raises ProtocolError with the status that the caller is told.
    """
    lines = head.split(b"\r\n")
    start = table.starts.get(lines[0])
    if type(start) is not RequestLine or not 0 <= len(lines) - 4 < max_fields:
        return _learn_request(head, lines, table, max_fields)
    try:
        fields = list(map(table.fields.__getitem__, lines[1:-2]))
    except Unseen:
        return _learn_request(head, lines, table, max_fields)
    kinds, _, values, wires, pairs = zip(*fields, strict=True)
    shape = table.shapes.of(kinds)
    at_host, at_length = shape.host, shape.length
    if not shape.ordinary or at_host < 0 or not start.origin:
        try:
            return _request(start, fields)
        except _Rare:
            return judge_request(head, max_fields)
    return RequestHead(
        start,
        values[at_host],
        fields,
        pairs,
        shape.forward(wires),
        shape.mirrors(pairs),
        int(values[at_length]) if at_length >= 0 else 0,
        values[shape.type] if shape.type >= 0 else b"",
        values[shape.encoding].lower() if shape.encoding >= 0 else b"",
        start.http10 or (shape.connection >= 0 and values[shape.connection].lower() == b"close"),
        values[shape.request_id] if shape.request_id >= 0 else b"",
    )


def read_reply(head: bytes, table: LineTable, max_fields: int) -> ReplyHead:
    """Return the reply head in *head* by remembered lines. Raises ProtocolError."""
    lines = head.split(b"\r\n")
    start = table.starts.get(lines[0])
    if type(start) is not StatusLine or not 0 <= len(lines) - 4 < max_fields:
        return _learn_reply(head, lines, table, max_fields)
    try:
        fields = list(map(table.fields.__getitem__, lines[1:-2]))
    except Unseen:
        return _learn_reply(head, lines, table, max_fields)
    kinds, _, values, wires, _ = zip(*fields, strict=True)
    shape = table.shapes.of(kinds)
    if not shape.ordinary:
        try:
            return _reply(start, fields)
        except _Rare:
            return judge_reply(head, max_fields)
    return ReplyHead(
        start.status,
        start.wire,
        fields,
        shape.forward(wires),
        int(values[shape.length]) if shape.length >= 0 else UNTIL_CLOSE,
        start.http10 or (shape.connection >= 0 and values[shape.connection].lower() == b"close"),
        values[shape.type] if shape.type >= 0 else b"",
        values[shape.encoding].lower() if shape.encoding >= 0 else b"",
    )


class _Rare(Exception):
    """A field that stands in few heads: the whole head goes to h11."""


def judge_request(head: bytes, max_fields: int) -> RequestHead:
    """Return the head in *head*, judged by our screen and by h11 as a whole."""
    start, fields = request_by_h11(head, max_fields)
    return _request(start, fields, judged=True)


def judge_reply(head: bytes, max_fields: int) -> ReplyHead:
    """Return the reply head in *head*, judged by our screen and by h11 as a whole."""
    start, fields = reply_by_h11(head, max_fields)
    return _reply(start, fields, judged=True)


def framing(head: ReplyHead, method: str) -> int:
    """Return the body's length of the reply *head* to *method* (RFC 9112 6.3)."""
    if method == "HEAD" or head.status < 200 or head.status in (204, 304):
        return 0
    return head.length


# -- learning: h11 has judged the whole head, so each of its lines is good -------------


def _learn_request(
    head: bytes, lines: list[bytes], table: LineTable, max_fields: int
) -> RequestHead:
    start, fields = request_by_h11(head, max_fields)
    request = _request(start, fields, judged=True)
    if not start.http10:
        table.keep_start(lines[0], start)
    _keep(lines, fields, table)
    return request


def _learn_reply(head: bytes, lines: list[bytes], table: LineTable, max_fields: int) -> ReplyHead:
    start, fields = reply_by_h11(head, max_fields)
    reply = _reply(start, fields, judged=True)
    table.keep_start(lines[0], start)
    _keep(lines, fields, table)
    return reply


def _keep(lines: list[bytes], fields: list[Field], table: LineTable) -> None:
    for line, field in zip(lines[1:-2], fields, strict=True):
        if field.kind < RARE:
            table.keep_field(line, field)


# -- the meaning of a head: one place for both ways -------------------------------------


def _request(start: RequestLine, fields: list[Field], *, judged: bool = False) -> RequestHead:
    """Return what *start* and *fields* mean; raise _Rare for what h11 has not *judged* whole."""
    host: bytes | None = None
    length = -1
    pairs = [field.pair for field in fields]
    forward: list[bytes] = []
    mirrors: list[Pair] = []
    rare: list[Field] = []
    head = RequestHead(start, b"", fields, pairs, forward, mirrors, close=start.http10)
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
        _settle_target(head, host)
    if rare:
        if not judged:
            raise _Rare
        _rare(head, rare, has_length=length >= 0)
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
    if any(field.kind == OPTIONS for field in rare):
        _drop_listed(head)


def _expect(head: RequestHead, field: Field) -> None:
    if field.value.lower() != b"100-continue":
        raise ProtocolError("only `Expect: 100-continue` is known", 417)
    head.expects = not head.http10


def _settle_target(head: RequestHead, host: bytes | None) -> None:
    """Settle what is not the common case: no Host, or a target that is no path."""
    start = head.start
    if any(field.kind == BAD_HOST for field in head.fields):
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


def _drop_listed(head: RequestHead | ReplyHead) -> None:
    """Drop what `Connection` lists (RFC 9110 7.6.1)."""
    listed: set[bytes] = set()
    for field in head.fields:
        if field.kind == OPTIONS:
            listed.update(token.strip().lower() for token in field.value.split(b","))
    if listed & _NEVER_LISTED:
        raise ProtocolError("`Connection` lists a field that is not hop-by-hop")
    head.close |= b"close" in listed
    head.forward = [f.wire for f in head.fields if f.kind in FORWARDED and f.name not in listed]


def _reply(start: StatusLine, fields: list[Field], *, judged: bool = False) -> ReplyHead:
    """Return what *start* and *fields* mean; raise _Rare for what h11 has not *judged* whole."""
    length = -1
    forward: list[bytes] = []
    rare: list[Field] = []
    head = ReplyHead(start.status, start.wire, fields, forward, UNTIL_CLOSE, start.http10)
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
            raise _Rare
        _rare_reply(head, rare, has_length=length >= 0, http10=start.http10)
    return head


def _rare_reply(head: ReplyHead, rare: list[Field], *, has_length: bool, http10: bool) -> None:
    for field in rare:
        if field.kind == CODING:
            if has_length or http10:
                raise ProtocolError(
                    "`Transfer-Encoding` beside `Content-Length` or in HTTP/1.0", 502
                )
            head.length = CHUNKED
    if any(field.kind == OPTIONS for field in rare):
        _drop_listed(head)
