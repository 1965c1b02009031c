"""Trailers: the fields behind a body, which of them may go on, and who takes them.

They are judged by the grammar of heads and bounded like heads; then they stay what
they are, for none is ever read as a header field or merged with one. What has to be
known before the body, what belongs to one connection and what only we may say goes
no further. (RFC 9110 6.5, RFC 9112 7.1.2, RFC 9113 8.1.)
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Final

from .field import Pair, field_of
from .shapes import PASS

# RFC 9110 6.5.1 by class; framing, `host` and the hop are for the kind of field to say.
_NEVER: Final = frozenset(
    {
        # routing
        *(b"alt-svc", b"forwarded", b"max-forwards", b"via", b"x-real-ip"),
        # authentication
        *(b"authentication-info", b"authorization", b"cookie", b"set-cookie", b"set-cookie2"),
        b"www-authenticate",
        # modifiers of a request
        *(b"accept", b"cache-control", b"pragma", b"range", b"referer"),
        # control of a reply
        *(b"age", b"allow", b"date", b"expires", b"location", b"refresh", b"retry-after"),
        *(b"vary", b"warning"),
        b"x-request-id",  # ours to set, in both directions
    }
)
_NEVER_BEGINNING: Final = (
    *(b"accept-", b"access-control-", b"if-", b"mcp-", b"proxy-", b"sec-"),
    *(b"x-envoy-", b"x-forwarded-"),
    b"content-",  # format
)
# Made of the body while it passes, to be compared behind it (RFC 9530 2, 6.5).
_DIGEST: Final = b"content-digest"


class Trailed(bytes):
    """A request that we wrote for HTTP/1, with *trailers* that may go on.

    Its body has a length there, and nothing can stand behind it: only HTTP/2 has a way to
    say them.
    """

    trailers: Sequence[Pair] = ()

    @classmethod
    def of(cls, request: bytes, trailers: Sequence[Pair]) -> Trailed:
        """Return *request* with *trailers*."""
        trailed = cls(request)
        trailed.trailers = trailers
        return trailed


def passing(
    trailers: Iterable[Pair],
    head: Iterable[Pair],
    *,
    request: bool,
    besides: Container[bytes] = (),
) -> list[Pair]:
    """Return those of judged *trailers* that may go on.

    *head* are the fields of their message's head, whose `Connection` may list some of them;
    names *besides* are kept back too.
    """
    listed = {
        option.strip().lower()
        for name, value in head
        if name == b"connection"
        for option in value.split(b",")
    }
    return [
        (name, value)
        for name, value in trailers
        if name not in listed and name not in besides and _may_pass(name, request=request)
    ]


def _may_pass(name: bytes, *, request: bool) -> bool:
    """Whether a field of that lower-case *name* may stand behind a body."""
    if request and b"_" in name:
        return False  # as in a head: it is read as its twin by CGI-like servers
    real = name.replace(b"_", b"-")
    if real in _NEVER or (real.startswith(_NEVER_BEGINNING) and real != _DIGEST):
        return False
    return field_of(real, b"", request=True).kind == PASS


def takes_trailers(head: Iterable[Pair]) -> bool:
    """Whether who sent a request with the fields *head* takes trailers (RFC 9110 10.1.4)."""
    return any(
        name == b"te" and b"trailers" in [one.strip() for one in value.lower().split(b",")]
        for name, value in head
    )


def write_trailers(trailers: Sequence[Pair]) -> bytes:
    """Return the end of a chunked body: the last chunk and *trailers* (RFC 9112 7.1)."""
    lines = [b"%b: %b\r\n" % field for field in trailers]
    return b"0\r\n%b\r\n" % b"".join(lines)
