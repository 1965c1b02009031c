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

import h11

from ..errors import ProtocolError
from .lines import (
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
    field_of,
    judge_line,
)

CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2

# h11 takes these; a proxy must not: control characters, a bare CR or LF, obs-fold.
_SCREEN: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|(?<!\r)\n|\r\n[ \t]")
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]+)(/[^#]*)?", re.IGNORECASE)
_METHOD: Final = re.compile(rb"[A-Z]{1,32}")
_FORWARDED: Final = (PASS, TYPE, ENCODING)
# Listing one of these as hop-by-hop would change what the message is.
_NEVER_LISTED: Final = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"content-type", b"authorization"}
)


@dataclass(frozen=True, slots=True)
class RequestLine:
    """`method target` of a request line; `path` and `query` are the target's, as text."""

    method: str
    target: bytes
    path: str
    query: str
    http10: bool = False

    @classmethod
    def of(cls, method: str, target: bytes, *, http10: bool = False) -> RequestLine:
        """Return the line of *method* and *target*, which h11 has found to be visible ASCII."""
        path, _, query = target.decode("ascii").partition("?")
        return cls(method, target, path, query, http10)


@dataclass(frozen=True, slots=True)
class StatusLine:
    """A status line; `wire` is how we write it."""

    status: int
    wire: bytes
    http10: bool = False


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
    fields: list[Field] = []
    for line in lines[1:-2]:
        field = known.get(line)
        if field is None:
            field = judge_line(line, request=True)
            if field is None or field.name in KEPT:
                return _learn_request(head, lines, table, max_fields)
        if field.kind >= RARE:
            return judge_request(head, max_fields)
        fields.append(field)
    return _request(start, fields)


def read_reply(head: bytes, table: LineTable, max_fields: int) -> ReplyHead:
    """Return the reply head in *head* by remembered lines. Raises ProtocolError."""
    lines = head.split(b"\r\n")
    known = table.fields
    start = table.starts.get(lines[0])
    if type(start) is not StatusLine or len(lines) - 3 > max_fields:
        return _learn_reply(head, lines, table, max_fields)
    fields: list[Field] = []
    for line in lines[1:-2]:
        field = known.get(line)
        if field is None:
            field = judge_line(line, request=False)
            if field is None or field.name in KEPT:
                return _learn_reply(head, lines, table, max_fields)
        if field.kind >= RARE:
            return judge_reply(head, max_fields)
        fields.append(field)
    return _reply(start, fields)


def judge_request(head: bytes, max_fields: int) -> RequestHead:
    """Return the head in *head*, judged by our screen and by h11 as a whole."""
    start, fields = _h11_request(head, max_fields)
    return _request(start, fields)


def judge_reply(head: bytes, max_fields: int) -> ReplyHead:
    """Return the reply head in *head*, judged by our screen and by h11 as a whole."""
    start, fields = _h11_reply(head, max_fields)
    return _reply(start, fields)


def framing(head: ReplyHead, method: str) -> int:
    """Return the body's length of the reply *head* to *method* (RFC 9112 6.3)."""
    if method == "HEAD" or head.status < 200 or head.status in (204, 304):
        return 0
    return head.length


# -- learning: h11 has judged the whole head, so each of its lines is good -------------


def _learn_request(
    head: bytes, lines: list[bytes], table: LineTable, max_fields: int
) -> RequestHead:
    start, fields = _h11_request(head, max_fields)
    request = _request(start, fields)
    if not start.http10:
        table.keep_start(lines[0], start)
    _keep(lines, fields, table)
    return request


def _learn_reply(head: bytes, lines: list[bytes], table: LineTable, max_fields: int) -> ReplyHead:
    start, fields = _h11_reply(head, max_fields)
    reply = _reply(start, fields)
    table.keep_start(lines[0], start)
    _keep(lines, fields, table)
    return reply


def _keep(lines: list[bytes], fields: list[Field], table: LineTable) -> None:
    for line, field in zip(lines[1:-2], fields, strict=True):
        if field.kind < RARE:
            table.keep_field(line, field)


# -- h11, and what we ask beyond it -----------------------------------------------------


def _screen(head: bytes, max_fields: int) -> None:
    fault = _SCREEN.search(head)
    if fault is not None:
        raise ProtocolError(f"byte {fault.start()} of the head must not stand there")
    if head.count(b"\r\n") - 2 > max_fields:
        raise ProtocolError(f"more than {max_fields} header fields", 431)


def _h11_request(head: bytes, max_fields: int) -> tuple[RequestLine, list[Field]]:
    _screen(head, max_fields)
    judge = h11.Connection(h11.SERVER, max_incomplete_event_size=len(head) + 1)
    try:
        judge.receive_data(head)
        event = judge.next_event()
    except h11.RemoteProtocolError as error:
        raise ProtocolError(str(error), error.error_status_hint) from None
    if type(event) is not h11.Request:
        raise ProtocolError("not one whole request head")
    if event.http_version not in (b"1.1", b"1.0"):
        raise ProtocolError("only HTTP/1.1 and HTTP/1.0 are spoken here", 505)
    if not _METHOD.fullmatch(event.method):
        raise ProtocolError("the method is not upper-case letters")
    if event.method == b"CONNECT":
        raise ProtocolError("`CONNECT` is not served here", 405)
    start = RequestLine.of(
        event.method.decode("ascii"), bytes(event.target), http10=event.http_version == b"1.0"
    )
    return start, _fields(head, event.headers.raw_items(), request=True)


def _h11_reply(head: bytes, max_fields: int) -> tuple[StatusLine, list[Field]]:
    _screen(head, max_fields)
    judge = h11.Connection(h11.CLIENT, max_incomplete_event_size=len(head) + 1)
    judge.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    judge.send(h11.EndOfMessage())
    try:
        judge.receive_data(head)
        event = judge.next_event()
    except h11.RemoteProtocolError as error:
        raise ProtocolError(str(error), 502) from None
    if not isinstance(event, h11.Response | h11.InformationalResponse):
        raise ProtocolError("not one whole reply head", 502)
    if event.http_version not in (b"1.1", b"1.0"):
        raise ProtocolError("the reply is not HTTP/1", 502)
    wire = b"HTTP/1.1 %d %b\r\n" % (event.status_code, bytes(event.reason))
    start = StatusLine(event.status_code, wire, event.http_version == b"1.0")
    return start, _fields(head, event.headers.raw_items(), request=False)


def _fields(head: bytes, items: Sequence[tuple[bytes, bytes]], *, request: bool) -> list[Field]:
    if len(items) != head.count(b"\r\n") - 2:
        # h11 drops the second of two equal lengths; two are refused here.
        raise ProtocolError("`Content-Length` stands twice", 400 if request else 502)
    return [field_of(name, value, request=request) for name, value in items]


# -- the meaning of a head: one place for both ways -------------------------------------


def _request(start: RequestLine, fields: list[Field]) -> RequestHead:
    host: bytes | None = None
    length: int | None = None
    forward: list[bytes] = []
    head = RequestHead(
        start.method, start.target, start.path, start.query, b"", fields, forward
    )
    head.http10 = head.close = start.http10
    coded = listed = False
    for field in fields:
        kind = field.kind
        if kind == PASS:
            forward.append(field.wire)
        elif kind == LENGTH:
            if length is not None:
                raise ProtocolError("`Content-Length` stands twice")
            length = int(field.value)
        elif kind == HOST:
            if host is not None:
                raise ProtocolError("`Host` stands twice")
            host = field.value
        elif kind == TYPE:
            # Said twice, it is whatever the server takes: neither is believed.
            head.content_type = b"?" if head.content_type else field.value
            forward.append(field.wire)
        elif kind == CONNECTION:
            head.close |= field.value.lower() == b"close"
        elif kind == ENCODING:
            head.content_encoding += field.value.lower()
            forward.append(field.wire)
        elif kind == CODING:
            coded = True
        elif kind == EXPECT:
            _expect(head, field)
        elif kind == OPTIONS:
            listed = True
    _start_line(head, start, host)
    if coded:
        if length is not None or start.http10:
            raise ProtocolError("`Transfer-Encoding` beside `Content-Length` or in HTTP/1.0")
        length = CHUNKED
    head.length = length or 0
    if listed:
        forward[:] = _unlisted(head, fields)
    return head


def _expect(head: RequestHead, field: Field) -> None:
    if field.value.lower() != b"100-continue":
        raise ProtocolError("only `Expect: 100-continue` is known", 417)
    head.expects = not head.http10


def _start_line(head: RequestHead, start: RequestLine, host: bytes | None) -> None:
    target = start.target
    if host is None and start.http10:
        host = b"localhost"
    if host is None or not _HOST.fullmatch(host):
        raise ProtocolError("`Host` is not one host")
    if target[:1] != b"/":
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None or absolute[1].lower() != host.lower():
            raise ProtocolError("the target is neither a path nor an URL of this `Host`")
        target = absolute[2] or b"/"
        line = RequestLine.of(start.method, target)
        head.target, head.path, head.query = target, line.path, line.query
    if b"#" in target:
        raise ProtocolError("the target has a fragment")
    head.host = host


def _unlisted(head: RequestHead | ReplyHead, fields: list[Field]) -> list[bytes]:
    """Drop what `Connection` lists (RFC 9110 7.6.1)."""
    listed: set[bytes] = set()
    for field in fields:
        if field.kind == OPTIONS:
            listed.update(token.strip().lower() for token in field.value.split(b","))
    if listed & _NEVER_LISTED:
        raise ProtocolError("`Connection` lists a field that is not hop-by-hop")
    head.close |= b"close" in listed
    return [f.wire for f in fields if f.kind in _FORWARDED and f.name not in listed]


def _reply(start: StatusLine, fields: list[Field]) -> ReplyHead:
    length: int | None = None
    forward: list[bytes] = []
    head = ReplyHead(start.status, start.wire, fields, forward, UNTIL_CLOSE, start.http10)
    coded = listed = False
    for field in fields:
        kind = field.kind
        if kind == PASS:
            forward.append(field.wire)
        elif kind == TYPE:
            head.content_type = b"?" if head.content_type else field.value
            forward.append(field.wire)
        elif kind == LENGTH:
            if length is not None:
                raise ProtocolError("`Content-Length` stands twice", 502)
            length = int(field.value)
        elif kind == CONNECTION:
            head.close |= field.value.lower() == b"close"
        elif kind == CODING:
            coded = True
        elif kind == OPTIONS:
            listed = True
        elif kind == ENCODING:
            head.content_encoding += field.value.lower()
            forward.append(field.wire)
    if coded:
        if length is not None or start.http10:
            raise ProtocolError("`Transfer-Encoding` beside `Content-Length` or in HTTP/1.0", 502)
        length = CHUNKED
    if length is not None:
        head.length = length
    if listed:
        forward[:] = _unlisted(head, fields)
    return head
