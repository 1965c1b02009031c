"""The caller's side of one exchange: what the flow tells it and what it asks of it.

HTTP/1 and HTTP/2 each write a reply their own way; the flow only says what to
send. What all connections of one listener share stands here too.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from ..http.field import Pair
from ..http.h1 import Bounds, Request
from ..http.head import ReplyHead
from ..http.lines import LineTables
from ..policy.call import Call, Peer
from .deadlines import Deadlines
from .outbox import Outbox
from .wake import Flow, Wake

UNKNOWN: Final = -1  # a length that is not known before the end


class Caller(Protocol):
    """Whoever asked, while the one request is served: an HTTP/1 connection, an HTTP/2 stream."""

    door: Door
    peer: Peer
    local_ip: str  # the address that the caller reached us at
    forwarded_for: bytes  # the lines that tell the server who called
    gone: bool
    half_closed: bool  # the caller sends no more, and may or may not still read
    close_after: bool  # what it speaks over serves nothing after this
    streaming: Call | None  # the call whose reply is passing, piece by piece

    @property
    def speaks_http2(self) -> bool:
        """Whether that is what it speaks."""

    @property
    def wake(self) -> Wake:
        """Where the flow waits."""

    @property
    def paused(self) -> bool:
        """Whether the caller does not take what we write."""

    def allow(self, seconds: float) -> None:
        """Give what goes on *seconds* from now, and never more than the certificate's life."""

    def interim(self, head: ReplyHead) -> None:
        """Pass on an interim reply (RFC 9110 15.2), if the caller's protocol knows them."""

    def reply(self, head: ReplyHead, length: int, body: bytes = b"") -> None:
        """Send a whole reply; *length* is announced as its body's, unless it is UNKNOWN."""

    def begin(self, head: ReplyHead, length: int, body: bytes = b"") -> None:
        """Send a reply's head and the first of its body: `send` and `end` follow."""

    def send(self, piece: bytes) -> None:
        """Send more of the body; look at `paused` before sending much more."""

    def end(self, trailers: Sequence[Pair] = ()) -> None:
        """End the body; *trailers* follow it if the caller's protocol has them and it asked."""

    def abort(self) -> None:
        """Break off, so that a reply half sent can't look whole."""

    def withdraw(self, why: str) -> None:
        """End what passes: it is allowed no more."""


class Connection(Protocol):
    """A caller's connection, whatever it speaks."""

    door: Door
    peer: Peer
    forwarded_for: bytes
    expires: float  # when the caller's certificate ends, on the clock of deadlines

    @property
    def exchanges(self) -> Iterable[Caller]:
        """What is being served on it."""

    @property
    def over(self) -> bool:
        """Whether nothing is left to do but to wait for the other side's end."""

    def drain(self) -> None:
        """Serve what is being served, and nothing after it."""

    def withdraw(self, why: str) -> None:
        """End all that passes, and then itself: it is allowed no more."""

    def abort(self) -> None:
        """Close at once."""


def may_still_read(transport: asyncio.BaseTransport) -> bool:
    """Whether a caller that sends no more may be there to be answered.

    Over TLS nobody stops to send who has not left. Of a Unix socket the system knows
    whether its other end is closed; of a TCP connection only once something is sent.
    """
    if transport.get_extra_info("ssl_object") is not None:
        return False
    sock = transport.get_extra_info("socket")
    if sock is None:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), 0)
    return not any(event & select.POLLHUP for _, event in poll.poll(0))


def _nobody(peer: str, why: str) -> None:
    """Tell nobody."""


def _nobody_else(what: str, fault: BaseException) -> None:
    """Tell nobody."""


Serve: TypeAlias = Callable[[Request, Caller], Flow]


@dataclass(frozen=True, slots=True)
class Times:
    """Limits of time on a caller's connection, in seconds."""

    head: float = 10.0
    body: float = 30.0
    idle: float = 60.0


@dataclass(frozen=True, slots=True)
class Door:
    """What all connections of one listener share."""

    inbound: str
    port: int
    bounds: Bounds
    times: Times
    tables: LineTables
    deadlines: Deadlines
    serve: Serve
    spawn: Callable[..., asyncio.Task[None]]
    live: set[Connection]
    identify: Callable[[asyncio.BaseTransport, Connection], Peer | None]
    streams: int = 100  # requests under way at once on one HTTP/2 connection
    http2: bool = True  # offered to callers over TLS
    h2c: bool = False  # taken from callers without TLS who begin with it
    broke: Callable[[str, str], None] = _nobody  # a connection was ended: its peer, and why
    outbox: Outbox = field(default_factory=Outbox)
    report: Callable[[str, BaseException], None] = _nobody_else  # a bug that met no rescue
