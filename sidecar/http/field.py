"""One header line, judged: which field it is, and what that means to the frame.

Judged by a line grammar that is stricter than h11 (RFC 9110 5.5); what a field
means follows from its name, and for a few from its value.
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
MAX_DIGITS: Final = 15  # of a length
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


PLAIN_REQUEST: Final = _as_written(_REQUEST)
PLAIN_REPLY: Final = _as_written(_BOTH)

# A value that needs no trimming.
is_value: Final = re.compile(
    rb"[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?+"
).fullmatch

Pair: TypeAlias = tuple[bytes, bytes]  # lower-case name, value


class Field(NamedTuple):
    """One header field: what it means here, its lower-case name and value, and its wire form."""

    kind: int
    name: bytes
    value: bytes
    wire: bytes
    pair: Pair


new_field: Final = tuple.__new__  # what Field(...) does, without a Python frame on the way


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
    return new_field(Field, (kind, lower, value, b"%b: %b\r\n" % (name, value), (lower, value)))


def judge_line(line: bytes, *, request: bool) -> Field | None:
    """Return the field of one header *line* without its CRLF, or None if h11 must see it.

    Stricter than h11 (RFC 9110 5.5): no control characters but the tab. Lengths, too
    many to be remembered, pass by digits alone.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    name, value = match.groups()
    field = field_of(name, value.rstrip(b" \t"), request=request)
    return None if field.kind == LENGTH and not is_length(value) else field


def is_length(value: bytes) -> bool:
    """Whether *value* is one `Content-Length`, and no absurd one."""
    return value.isdigit() and len(value) <= MAX_DIGITS
