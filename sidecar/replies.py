"""What we write ourselves: the request that goes on to the server, and the refusal that goes back.

The body that was judged is the body that is sent. Who called is told in
`x-forwarded-client-cert`, in Envoy's form and made by us alone. Refusals are
always JSON-RPC errors, so that no client takes them for another era's server.
"""

from __future__ import annotations

from typing import Final

from .config.snapshot import Service
from .http.h1 import Request
from .http.head import ReplyHead
from .http.judge import RequestLine
from .http.trailers import Trailed, passing
from .mcp.edit import error_reply
from .mcp.message import RESPONSE, Id, refused_id
from .net.caller import Caller
from .observe.record import Record
from .policy.call import Call, Peer
from .policy.verdict import Reason, Refusal
from .upstream.edit import edited, named
from .upstream.route import Way

_PHRASES: Final[dict[int, bytes]] = {
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    415: b"Unsupported Media Type",
    417: b"Expectation Failed",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}
_WRITTEN: Final = 4  # ways in which one request line is remembered
_SHORT: Final = 256  # bytes of it with its host: longer ones are written each time
_BODILESS: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS", "TRACE"})


def forwarded(
    request: Request, call: Call, down: Caller, service: Service, request_id: str, way: Way
) -> bytes:
    """Return the whole request for the server, head and body in one piece, as its *way* has it."""
    head = request.head
    assert head is not None
    start = head.start
    lines = head.forward if call.checked is None else call.checked.edit.lines(head.forward)
    host = way.authority or (head.host if service.preserve_host else service.authority)
    path = way.path or call.path
    first = start.written.get((path, host)) if not call.query else None
    parts = [
        _first_lines(start, path, call.query, host) if first is None else first,
        *(edited(lines, *way.request) if way.request else lines),
        down.forwarded_for,
        b"x-request-id: %b\r\n" % request_id.encode("ascii"),
    ]
    body = call.body
    if body or start.method not in _BODILESS:
        parts.append(b"content-length: %d\r\n\r\n" % len(body))
        parts.append(body)
    else:
        parts.append(b"\r\n")
    return b"".join(parts) if not request.trailers else _trailed(b"".join(parts), request, way)


def _first_lines(start: RequestLine, path: str, query: str, host: bytes) -> bytes:
    """Return the request line for the server, and its `Host`; kept where no query is in it."""
    target = path.encode("ascii")
    if query:
        target = b"%b?%b" % (target, query.encode("ascii"))
    elif start.target.endswith(b"?"):
        target += b"?"
    lines = b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (start.method.encode("ascii"), target, host)
    if not query and len(lines) <= _SHORT:
        if len(start.written) >= _WRITTEN:
            start.written.clear()
        start.written[path, host] = lines
    return lines


def _trailed(data: bytes, request: Request, way: Way) -> bytes:
    """Return *data* with the trailers of *request* that may go on.

    None speaks of what the head has said or what the route edits: a server that merges
    trailers into heads, which it may not, can't be told otherwise by them.
    """
    assert request.head is not None
    pairs = request.head.pairs
    said = named(*way.request).union([name for name, _ in pairs])
    trailers = passing(request.trailers, pairs, request=True, besides=said)
    return Trailed.of(data, trailers) if trailers else data


def forwarded_client_cert(own: str, peer: Peer) -> bytes:
    """Return the header line that tells the server who called; nothing for an unknown caller.

    Envoy's `x-forwarded-client-cert` with one element: By (our SPIFFE ID), Hash (SHA-256 of
    the caller's certificate, hex), URI (the caller's SPIFFE ID).
    """
    if peer.identity is None:
        return b""
    by = f"By={own};" if own else ""
    line = f"x-forwarded-client-cert: {by}Hash={peer.sha256};URI={peer.identity}\r\n"
    return line.encode("ascii")


def _asked(call: Call | None) -> Id:
    """Return the id that a refusal of *call* answers to."""
    if call is None:
        return None
    if call.message is None:
        return refused_id(call.body) if call.body else None
    return None if call.message.kind is RESPONSE else call.message.id


def refusal_message(refusal: Refusal, record: Record) -> bytes:
    """Return the JSON-RPC error that tells the caller no, without the rule's body."""
    asked = _asked(record.call)
    data: dict[str, object] = {"reason": refusal.reason.value, "requestId": record.request_id}
    if refusal.rule is not None:
        data["policy"] = refusal.rule.policy
    if refusal.retry_after:
        data["retryAfter"] = refusal.retry_after
    return error_reply(asked, refusal.code, refusal.message, data)


def refusal_reply(refusal: Refusal, record: Record) -> tuple[ReplyHead, bytes]:
    """Return the head and the body of a refusal's reply."""
    status = refusal.status
    start = b"HTTP/1.1 %d %b\r\n" % (status, _PHRASES.get(status, b"Refused"))
    lines = [
        b"content-type: application/json\r\n",
        b"x-request-id: %b\r\n" % record.request_id.encode("ascii"),
    ]
    if refusal.reason is Reason.OVERLOADED:
        lines.append(b"x-envoy-overloaded: true\r\n")
    lines += refusal.headers
    return ReplyHead(status, start, (), lines), refusal_message(refusal, record)
