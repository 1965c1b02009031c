"""h11 as the judge of whole heads, behind a screen for what h11 takes and a proxy must not.

What comes out is a start line and fields; what they mean for the frame around a
message is `head`'s to say. (RFC 9112, RFC 9110.)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import h11

from ..errors import ProtocolError
from .field import Field, field_of

# h11 takes these; a proxy must not: control characters, a bare CR or LF, obs-fold.
_SCREEN: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|(?<!\r)\n|\r\n[ \t]")
_METHOD: Final = re.compile(rb"[A-Z]{1,32}")
_SHOWN: Final = re.compile(r"bytearray\(b(['\"])(.*)\1\)")  # how h11 shows a line


@dataclass(frozen=True, slots=True)
class RequestLine:
    """`method target` of a request line; `path` and `query` are the target's, as text."""

    method: str
    target: bytes
    path: str
    query: str
    http10: bool = False
    origin: bool = True  # the target is a path, as nearly always (RFC 9112 3.2.1)
    # What others have worked out of it, by what they asked: the line may be remembered.
    known: dict[str, str] = field(default_factory=dict, compare=False, repr=False)
    # How it was written to servers with their `Host`, by path and host.
    written: dict[tuple[str, bytes], bytes] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, method: str, target: bytes, *, http10: bool = False) -> RequestLine:
        """Return the line of *method* and *target*, which h11 has found to be visible ASCII."""
        path, _, query = target.decode("ascii").partition("?")
        origin = target[:1] == b"/" and b"#" not in target
        return cls(method, target, path, query, http10, origin)


@dataclass(frozen=True, slots=True)
class StatusLine:
    """A status line; `wire` is how we write it."""

    status: int
    wire: bytes
    http10: bool = False


def _screen(head: bytes, max_fields: int) -> None:
    fault = _SCREEN.search(head)
    if fault is not None:
        raise ProtocolError(f"byte {fault.start()} of the head must not stand there")
    if head.count(b"\r\n") - 2 > max_fields:
        raise ProtocolError(f"more than {max_fields} header fields", 431)


def request_by_h11(head: bytes, max_fields: int) -> tuple[RequestLine, list[Field]]:
    _screen(head, max_fields)
    judge = h11.Connection(h11.SERVER, max_incomplete_event_size=len(head) + 1)
    try:
        judge.receive_data(head)
        event = judge.next_event()
    except h11.RemoteProtocolError as error:
        raise ProtocolError(_said(error), error.error_status_hint) from None
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


def reply_by_h11(head: bytes, max_fields: int) -> tuple[StatusLine, list[Field]]:
    _screen(head, max_fields)
    judge = h11.Connection(h11.CLIENT, max_incomplete_event_size=len(head) + 1)
    judge.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    judge.send(h11.EndOfMessage())
    try:
        judge.receive_data(head)
        event = judge.next_event()
    except h11.RemoteProtocolError as error:
        raise ProtocolError(_said(error), 502) from None
    if not isinstance(event, h11.Response | h11.InformationalResponse):
        raise ProtocolError("not one whole reply head", 502)
    if event.http_version not in (b"1.1", b"1.0"):
        raise ProtocolError("the reply is not HTTP/1", 502)
    wire = b"HTTP/1.1 %d %b\r\n" % (event.status_code, bytes(event.reason))
    start = StatusLine(event.status_code, wire, event.http_version == b"1.0")
    return start, _fields(head, event.headers.raw_items(), request=False)


def _said(error: h11.RemoteProtocolError) -> str:
    return _SHOWN.sub(r"`\2`", str(error))


def _fields(head: bytes, items: Sequence[tuple[bytes, bytes]], *, request: bool) -> list[Field]:
    if len(items) != head.count(b"\r\n") - 2:
        # h11 drops the second of two equal lengths; two are refused here.
        raise ProtocolError("`Content-Length` stands twice", 400 if request else 502)
    return [field_of(name, value, request=request) for name, value in items]
