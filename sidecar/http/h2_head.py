"""Heads of HTTP/2 messages, made of and into what HTTP/1's validator reads.

What only HTTP/2 forbids is refused here: pseudo-header fields out of place,
upper-case names, connection-specific fields, blanks around a value, a line end
anywhere. Then the head is written down as HTTP/1 would have it and read by the
one validator of both protocols, so neither can mean what the other would not.
(RFC 9113 8.2, 8.3, 10.3.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from ..errors import ProtocolError
from .field import Pair
from .h1 import Bounds
from .head import CHUNKED, UNTIL_CLOSE, ReplyHead, RequestHead
from .lines import LineTable
from .reading import read_reply, read_request, recall_reply, recall_request

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_METHOD: Final = re.compile(rb"[A-Z]{1,32}")
_PATH: Final = re.compile(rb"/[\x21-\x7e]*")
_STATUS: Final = re.compile(rb"[1-9][0-9]{2}")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_SCHEMES: Final = (b"http", b"https")
_OF_REQUESTS: Final = frozenset({b":method", b":scheme", b":authority", b":path"})
_OF_REPLIES: Final = frozenset({b":status"})
_OF_CONNECTIONS: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)

# What most requests have, which needs no second look before HTTP/1's validator has its own.
_PLAIN_METHODS: Final = (b"POST", b"GET", b"DELETE")
_PLAIN_AUTHORITY: Final = re.compile(rb"[\x21-\x7e]+")
_PLAIN_LINES: Final = re.compile(
    rb"(?:(?!(?:connection|proxy-connection|keep-alive|transfer-encoding|upgrade|te|cookie|host)\0)"
    rb"[!#$%&'*+\-.^_`|~0-9a-z]++\0"
    rb"(?:[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?+)?+\r\n)*+"
)
Message = TypeVar("Message", RequestHead, ReplyHead)
_BESIDE: Final = 28  # what the fields of a request count beside the bytes of its HTTP/1 head


def request_head(
    fields: Sequence[Pair], table: LineTable, bounds: Bounds, *, ended: bool
) -> RequestHead:
    """Return the head that a request's *fields* are; *ended*: no body follows.

    Its `length` is CHUNKED where a body follows and nothing says how long it is. Raises
    ProtocolError; its status is 400 where the request is malformed (RFC 9113 8.1.1).
    """
    whole, told = _plain(fields, bounds) or _written(fields, bounds)
    head = _recalled(recall_request(whole, table), bounds) or read_request(
        whole, table, bounds.fields
    )
    if ended and head.length > 0:
        raise ProtocolError("the body is shorter than its `content-length`")
    if not ended and not told:
        head.length = CHUNKED
    return head


def _recalled(known: tuple[Message, int] | None, bounds: Bounds) -> Message | None:
    """Return the head that was recalled, unless it has more fields than it may."""
    return known[0] if known is not None and len(known[0].pairs) <= bounds.fields else None


def _plain(fields: Sequence[Pair], bounds: Bounds) -> tuple[bytes, bool] | None:
    """Return what `_written` does, at once, of fields that most requests have; else None."""
    pseudo = dict(fields[:4])
    if pseudo.keys() != _OF_REQUESTS:
        return None
    method, path, authority = pseudo[b":method"], pseudo[b":path"], pseudo[b":authority"]
    lines = _plain_lines(fields[4:])
    if (
        lines is None
        or method not in _PLAIN_METHODS
        or pseudo[b":scheme"] not in _SCHEMES
        or not _PATH.fullmatch(path)
        or not _PLAIN_AUTHORITY.fullmatch(authority)
    ):
        return None
    head = b"%b %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (method, path, authority, lines)
    if len(head) + _BESIDE > bounds.head:
        return None
    return head, b"\r\ncontent-length: " in head


def _plain_lines(fields: Sequence[Pair]) -> bytes | None:
    """Return *fields* as lines, if each is one that HTTP/2 has nothing to say about."""
    lines = b"".join([b"%b\0%b\r\n" % (name, value) for name, value in fields])
    if not _PLAIN_LINES.fullmatch(lines) or lines.count(b"\n") != len(fields):
        return None  # a field that is more than one line is none at all
    return lines.replace(b"\0", b": ")


def _written(fields: Iterable[Pair], bounds: Bounds) -> tuple[bytes, bool]:
    """Return a request's *fields* as HTTP/1 has them, and whether they tell a length."""
    pseudo, lines = _lines(fields, _OF_REQUESTS, bounds)
    method = pseudo.get(b":method", b"")
    if method == b"CONNECT":
        raise ProtocolError("`CONNECT` is not served here", 405)
    if not _METHOD.fullmatch(method):
        raise ProtocolError("`:method` is not upper-case letters")
    if not _PATH.fullmatch(pseudo.get(b":path", b"")):
        raise ProtocolError("`:path` is not a path")
    if pseudo.get(b":scheme") not in _SCHEMES:
        raise ProtocolError("`:scheme` is neither `http` nor `https`")
    host = _host(pseudo.get(b":authority"), lines)
    told = any(line.startswith(b"content-length:") for line in lines)
    return _joined(b"%b %b HTTP/1.1" % (method, pseudo[b":path"]), [*host, *lines]), told


def reply_head(fields: Sequence[Pair], table: LineTable, bounds: Bounds) -> ReplyHead:
    """Return the head that a reply's *fields* are. Raises ProtocolError."""
    whole = _plain_reply(fields, bounds) or _written_reply(fields, bounds)
    head = _recalled(recall_reply(whole, table), bounds) or read_reply(whole, table, bounds.fields)
    if head.length == UNTIL_CLOSE:
        head.length = CHUNKED  # the stream's end is seen, not guessed from the connection's
    return head


def _plain_reply(fields: Sequence[Pair], bounds: Bounds) -> bytes | None:
    """Return what `_written_reply` does, at once, of fields that most replies have; else None."""
    if not fields or fields[0][0] != b":status" or not _STATUS.fullmatch(fields[0][1]):
        return None
    lines = _plain_lines(fields[1:])
    if lines is None:
        return None
    head = b"HTTP/1.1 %b \r\n%b\r\n" % (fields[0][1], lines)
    return None if len(head) > bounds.head else head  # which is more than the fields count


def _written_reply(fields: Iterable[Pair], bounds: Bounds) -> bytes:
    """Return a reply's *fields* as HTTP/1 has them. Raises ProtocolError."""
    pseudo, lines = _lines(fields, _OF_REPLIES, bounds)
    status = pseudo.get(b":status", b"")
    if not _STATUS.fullmatch(status):
        raise ProtocolError("`:status` is not a status", 502)
    return _joined(b"HTTP/1.1 %b " % status, lines)


def judge_trailers(fields: Sequence[Pair], bounds: Bounds) -> list[Pair]:
    """Return *fields*, which may end a message. Raises ProtocolError."""
    _, lines = _lines(fields, frozenset(), bounds)
    if len(fields) > bounds.fields:
        raise ProtocolError(f"more than {bounds.fields} trailer fields", 431)
    if any(_CONTROL.search(line) for line in lines):
        raise ProtocolError("a trailer field has a control character")
    return [(bytes(name), bytes(value)) for name, value in fields]


def _lines(
    fields: Iterable[Pair], known: frozenset[bytes], bounds: Bounds
) -> tuple[dict[bytes, bytes], list[bytes]]:
    """Return the pseudo-header fields of *fields*, and the others as HTTP/1 writes them."""
    pseudo: dict[bytes, bytes] = {}
    lines: list[bytes] = []
    cookies: list[bytes] = []
    size = 0
    for name, value in fields:
        size += len(name) + len(value) + 4
        if name[:1] == b":":
            if name not in known or name in pseudo or lines or cookies:
                raise ProtocolError("a pseudo-header field is unknown, doubled or out of place")
            pseudo[name] = value
            continue
        if not _NAME.fullmatch(name) or value != value.strip(b" \t"):
            raise ProtocolError("a field's name or value is not well-formed")
        if name in _OF_CONNECTIONS or (name == b"te" and value != b"trailers"):
            raise ProtocolError("a connection-specific field stands in HTTP/2")
        if name == b"cookie":
            cookies.append(value)  # crumbs of what is one field elsewhere (RFC 9113 8.2.3)
        else:
            lines.append(b"%b: %b" % (name, value))
    if cookies:
        lines.append(b"cookie: " + b"; ".join(cookies))
    if size > bounds.head:
        raise ProtocolError(f"the head is over {bounds.head} bytes", 431)
    return pseudo, lines


def _host(authority: bytes | None, lines: list[bytes]) -> list[bytes]:
    """Return the line of the host; taken out of *lines* if it stands there as well."""
    hosts = [line for line in lines if line.startswith(b"host:")]
    if authority is None:
        return []  # the validator asks for exactly one
    for line in hosts:
        if line[6:].lower() != authority.lower():
            raise ProtocolError("`host` is not what `:authority` says")
    if len(hosts) > 1:
        raise ProtocolError("`host` stands twice")
    if hosts:
        lines.remove(hosts[0])
    return [b"host: " + authority]


def _joined(start: bytes, lines: Sequence[bytes]) -> bytes:
    """Return the head of *start* and *lines*, none of which may hold an end of line."""
    head = b"\r\n".join([start, *lines, b"", b""])
    ends = len(lines) + 2
    if head.count(b"\r") != ends or head.count(b"\n") != ends:
        raise ProtocolError("a field has an end of line in it")
    return head


# -- writing


def reply_fields(head: ReplyHead, length: int) -> list[Pair]:
    """Return *head* as HTTP/2 has it; *length* of the body, -1 leaves it out."""
    fields: list[Pair] = [(b":status", b"%d" % head.status)]
    fields += map(_field, head.forward)
    if length >= 0:
        fields.append((b"content-length", b"%d" % length))
    return fields


def request_fields(request: bytes, scheme: bytes) -> tuple[list[Pair], bytes]:
    """Return the fields and the body of a *request* that we wrote for HTTP/1."""
    head, _, body = request.partition(b"\r\n\r\n")
    start, *lines = head.split(b"\r\n")
    method, target, _ = start.split(b" ")
    fields: list[Pair] = [(b":method", method), (b":scheme", scheme)]
    fields += [(b":authority", lines[0].partition(b": ")[2]), (b":path", target)]
    fields += [_field(line + b"\r\n") for line in lines[1:]]
    return fields, body


def _field(line: bytes) -> Pair:
    name, _, value = line.partition(b": ")
    return name.lower(), value[:-2]
