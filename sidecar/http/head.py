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
from .lines import (
    BAD_HOST,
    CODING,
    CONNECTION,
    ENCODING,
    EXPECT,
    HOST,
    KEPT,
    LENGTH,
    OPTIONS,
    PASS,
    RARE,
    TYPE,
    Field,
    LineTable,
    judge_line,
)

CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2

_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]+)(/[^#]*)?", re.IGNORECASE)
_FORWARDED: Final = (PASS, TYPE, ENCODING)
# Listing one of these as hop-by-hop would change what the message is.
_NEVER_LISTED: Final = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"content-type", b"authorization"}
)


@dataclass(slots=True)
class RequestHead:
    """What a request's head says. `length` is in bytes, or CHUNKED."""

    method: str
    target: bytes
    path: str
    query: str
    host: bytes
    fields: Sequence[Field]
    forward: list[bytes]
    length: int = 0
    content_type: bytes = b""
    content_encoding: bytes = b""
    http10: bool = False
    close: bool = False
    expects: bool = False


@dataclass(slots=True)
class ReplyHead:
    """What a reply's head says. `length` is in bytes, CHUNKED or UNTIL_CLOSE; see `framing`."""

    status: int
    start: bytes
    fields: Sequence[Field]
    forward: list[bytes]
    length: int = UNTIL_CLOSE
    close: bool = False
    content_type: bytes = b""
    content_encoding: bytes = b""


def read_request(head: bytes, table: LineTable, max_fields: int) -> RequestHead:
    """Return the head in *head* (its empty line included) by remembered lines.

    Raises ProtocolError with the status that the caller is told.
    """
    lines = head.split(b"\r\n")
    known = table.fields
    start = table.starts.get(lines[0])
    if type(start) is not RequestLine or len(lines) - 3 > max_fields:
        return _learn_request(head, lines, table, max_fields)
    try:
        fields = [known.get(line) or _request_line(line) for line in lines[1:-2]]
        return _request(start, fields)
    except _Unseen:
        return _learn_request(head, lines, table, max_fields)
    except _Rare:
        return judge_request(head, max_fields)


def read_reply(head: bytes, table: LineTable, max_fields: int) -> ReplyHead:
    """Return the reply head in *head* by remembered lines. Raises ProtocolError."""
    lines = head.split(b"\r\n")
    known = table.fields
    start = table.starts.get(lines[0])
    if type(start) is not StatusLine or len(lines) - 3 > max_fields:
        return _learn_reply(head, lines, table, max_fields)
    try:
        fields = [known.get(line) or _reply_line(line) for line in lines[1:-2]]
        return _reply(start, fields)
    except _Unseen:
        return _learn_reply(head, lines, table, max_fields)
    except _Rare:
        return judge_reply(head, max_fields)


class _Rare(Exception):
    """A field that stands in few heads: the whole head goes to h11."""


class _Unseen(Exception):
    """A line that only h11 may judge, or whose verdict is worth keeping."""


def _request_line(line: bytes) -> Field:
    field = judge_line(line, request=True)
    if field is None or field[1] in KEPT:
        raise _Unseen
    return field


def _reply_line(line: bytes) -> Field:
    field = judge_line(line, request=False)
    if field is None or field[1] in KEPT:
        raise _Unseen
    return field


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
    close = start.http10
    content_type = content_encoding = b""
    forward: list[bytes] = []
    rare: list[Field] = []
    for field in fields:
        kind, _, value, wire, _ = field
        if kind == PASS:
            forward.append(wire)
        elif kind == LENGTH:
            if length >= 0:
                raise ProtocolError("`Content-Length` stands twice")
            length = int(value)
        elif kind == HOST:
            if host is not None:
                raise ProtocolError("`Host` stands twice")
            host = value
        elif kind == TYPE:
            # Said twice, it is whatever the server takes: neither is believed.
            content_type = b"?" if content_type else value
            forward.append(wire)
        elif kind == CONNECTION:
            close = close or value.lower() == b"close"
        elif kind == ENCODING:
            content_encoding += value.lower()
            forward.append(wire)
        elif kind >= RARE:
            rare.append(field)
    head = RequestHead(
        start.method, start.target, start.path, start.query, host or b"", fields, forward
    )
    head.length = max(length, 0)
    head.http10 = start.http10
    head.close = close
    head.content_type = content_type
    head.content_encoding = content_encoding
    if host is None or not start.origin:
        _settle_target(head, start, host)
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


def _settle_target(head: RequestHead, start: RequestLine, host: bytes | None) -> None:
    """Settle what is not the common case: no Host, or a target that is no path."""
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
    line = RequestLine.of(start.method, absolute[2] or b"/")
    head.target, head.path, head.query = line.target, line.path, line.query


def _drop_listed(head: RequestHead | ReplyHead) -> None:
    """Drop what `Connection` lists (RFC 9110 7.6.1)."""
    listed: set[bytes] = set()
    for field in head.fields:
        if field.kind == OPTIONS:
            listed.update(token.strip().lower() for token in field.value.split(b","))
    if listed & _NEVER_LISTED:
        raise ProtocolError("`Connection` lists a field that is not hop-by-hop")
    head.close |= b"close" in listed
    head.forward[:] = [f.wire for f in head.fields if f.kind in _FORWARDED and f.name not in listed]


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
