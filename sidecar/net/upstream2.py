"""One HTTP/2 connection to an endpoint, which carries many exchanges, a stream each.

Each stream is lent like a connection of its own. A body that its caller does not
take keeps its stream's window shut, and no other's. What the server says it did
not look at (GOAWAY, REFUSED_STREAM) counts as never sent.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..errors import ProtocolError, UpstreamError
from ..http.h1 import Bounds
from ..http.h2 import (
    CANCEL,
    NO_ERROR,
    PROTOCOL,
    REFUSED,
    Data,
    Event,
    Head,
    Http2,
    Interim,
    Reset,
    Trailers,
)
from ..http.h2_budget import ANSWERED, RESET
from ..http.h2_frames import GoAway
from ..http.h2_reply import StreamReply
from ..http.lines import LineTable
from ..upstream.cluster import TlsSpec
from ..upstream.endpoint import Endpoint, Keepalive
from .deadlines import NEVER
from .framed import Framed
from .keepalive import keep_alive
from .wake import Wake

if TYPE_CHECKING:
    from .shelf import Shelf

_LOST_BEFORE: Final = "the connection was lost before the call was sent"


class UpstreamStream:
    """One exchange on a shared connection: `send` a call, then look at `reply` when woken."""

    __slots__ = ("_carrier", "fault", "number", "reply", "wake")

    def __init__(self, carrier: Upstream2, reply: StreamReply) -> None:
        self._carrier = carrier
        self.reply = reply
        self.number = 0  # until something is sent
        self.wake: Wake | None = None
        self.fault: UpstreamError | None = None

    def send(self, method: str, data: bytes, wake: Wake) -> None:
        """Send one whole request; from now on what comes wakes *wake*.

        Raises UpstreamError if the connection takes no more since it was lent.
        """
        self.wake = wake
        self.reply.method = method
        self.number = self._carrier.ask(self, data)

    def take(self) -> bytes:
        """Return the body that has come, and let more come."""
        data = self.reply.take()
        owed, self.reply.owed = self.reply.owed, 0
        if owed:
            self._carrier.taken(self.number, owed)
        return data

    def hold(self) -> None:
        """Let no more come than its window has room for, until something is taken."""

    def give_back(self) -> Upstream2:
        """End the exchange, whole or not; return what carried it."""
        self.wake = None
        self._carrier.release(self)
        return self._carrier

    def fail(self, fault: UpstreamError) -> None:
        """It comes to nothing, unless it is whole already."""
        if self.fault is None and not self.reply.whole:
            self.fault = fault
        if self.wake is not None:
            self.wake()


class Upstream2(Framed):
    """A connection to *endpoint* that lends streams, so many at a time and *requests* in all."""

    shares: Final = True

    def __init__(
        self,
        endpoint: Endpoint,
        table: LineTable,
        bounds: Bounds,
        now: Callable[[], float],
        on_lost: Callable[[Upstream2], None],
        streams: int,
        requests: int,
    ) -> None:
        super().__init__(asyncio.get_running_loop())
        self.endpoint = endpoint
        self.opened = now()
        self.served = 0
        self.deadline = NEVER
        self.expires = NEVER  # when the certificates end that it was opened with
        self.tls: TlsSpec | None = None  # how it was secured
        self.shelf: Shelf  # whose callers it is for
        self.fault: UpstreamError | None = None
        self._table = table
        self._bounds = bounds
        self._clock = now
        self._on_lost = on_lost
        self._most = streams
        self._left = requests  # that it may carry in its life
        self._lent = 0  # streams that are lent, asked or not
        self._streams: dict[int, UpstreamStream] = {}
        self._leaving = False  # it lends no more
        self.heard = self.opened  # when the server last said something
        self._made = False

    # -- what the loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._made = True
        http2 = Http2(self._clock(), server=False, streams=self._most)
        self._open(transport, http2, self._bounds.buffer)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.gone:
            return
        self.gone = True
        why = f"the server's connection broke: {exc}" if exc else "the server closed"
        fault = self.fault or UpstreamError(f"{why} before its reply was whole", sent=True)
        if self.fault is None and self.served > len(self._streams):
            fault.stale = not any(one.reply.head for one in self._streams.values())
        self._fail_all(fault)
        self._on_lost(self)

    def expire(self) -> None:
        """A connection that carries nothing has done so for long enough."""
        if not self._lent:
            self.leave()

    # -- what the cluster asks

    def alive(self) -> bool:
        """Whether it can lend a stream."""
        return self.settled() and self.room > 0

    def settled(self) -> bool:
        """Whether it may be lent from again."""
        fit = self._made and not (self.gone or self._leaving or self._ended)
        return fit and self.fault is None and not self._transport.is_closing()

    @property
    def room(self) -> int:
        """How many streams it can lend now."""
        return min(min(self._most, self.http2.room) - self._lent, self._left)

    @property
    def carries(self) -> bool:
        """Whether any stream of it is lent."""
        return self._lent > 0

    @property
    def secured_by(self) -> ssl.SSLObject | None:
        """The TLS of the connection, None in plaintext or once it is gone."""
        return None if self.gone else self._transport.get_extra_info("ssl_object")

    def probe(self, keepalive: Keepalive) -> None:
        """Have the system look whether the server is still there."""
        if not self.gone:
            keep_alive(self._transport, keepalive)

    def lend(self) -> UpstreamStream:
        """Return a stream for one exchange."""
        self._lent += 1
        self._left -= 1
        self.deadline = NEVER
        return UpstreamStream(self, StreamReply(self._table, self._bounds))

    def leave(self) -> None:
        """Lend no more, and close once nothing is carried."""
        if self.gone or not self._made:
            return
        self._leaving = True
        if not self._lent and not self._ended:
            self.http2.goaway(NO_ERROR)
            self._flush()
            self._ended = 1
            self._transport.close()

    def ping(self) -> None:
        """Ask the server for a sign of life."""
        self.http2.ping()
        self._flush()

    def silent(self) -> None:
        """The server gives no sign of life: what it carries comes to nothing."""
        self.fault = UpstreamError("the server gives no sign of life", sent=True, status=504)
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        if self._made and not self.gone:
            self._transport.abort()

    # -- what the streams ask

    def ask(self, stream: UpstreamStream, data: bytes) -> int:
        """Send the request *data* and return the number of its stream. Raises UpstreamError."""
        if not self.settled():
            raise UpstreamError(_LOST_BEFORE, sent=False)
        http2 = self.http2
        try:
            number = http2.open()
            http2.ask(number, data, b"https" if self.tls is not None else b"http")
        except ProtocolError as error:
            self._leaving = True  # its numbers are used up, or the server takes fewer by now
            raise UpstreamError(f"{_LOST_BEFORE}: {error}", sent=False) from None
        self._streams[number] = stream
        self.served += 1
        self.flush()
        return number

    def taken(self, number: int, size: int) -> None:
        """Let *size* bytes more come on a stream."""
        self.http2.taken(number, size)
        self.flush()

    def release(self, stream: UpstreamStream) -> None:
        """A stream is lent no more."""
        self._lent -= 1
        known = self._streams.pop(stream.number, None)
        if known is not None and not self.gone:
            if stream.reply.whole and not self.http2.unsent(stream.number):
                self.http2.earn(ANSWERED)
            else:
                self.http2.reset(stream.number, CANCEL)
            self.taken(stream.number, stream.reply.owed)
        if self._leaving:
            self.leave()

    # -- what the server says

    def _act(self, event: Event) -> None:
        if isinstance(event, GoAway):
            self._go_away(event)
            return
        stream = self._streams.get(event.stream)
        if stream is None:
            if isinstance(event, Data):
                self.http2.taken(event.stream, event.size)
            return
        if isinstance(event, Reset):
            self._reset(stream, event.code)
            return
        try:
            _hear(stream.reply, event)
        except ProtocolError as error:
            stream.fail(UpstreamError(f"the server's reply is broken: {error}", sent=True))
            self._drop(stream)
        if stream.wake is not None:
            stream.wake()

    def _drop(self, stream: UpstreamStream) -> None:
        """Break off what is no reply; the others go on (RFC 9113 8.1.1)."""
        del self._streams[stream.number]
        self.http2.charge(RESET)
        self.http2.reset(stream.number, PROTOCOL)
        owed, stream.reply.owed = stream.reply.owed, 0
        self.taken(stream.number, owed)

    def _reset(self, stream: UpstreamStream, code: int) -> None:
        if code == REFUSED and stream.reply.head is None:
            stream.fail(UpstreamError("the server refused the stream unseen", sent=False))
        else:
            stream.fail(UpstreamError(f"the server reset its stream with {code}", sent=True))

    def _go_away(self, event: GoAway) -> None:
        """What is above its last stream was never looked at; the rest goes on."""
        self._leaving = True
        for number, stream in list(self._streams.items()):
            if number > event.last:
                stream.fail(UpstreamError("the server went away before the call", sent=False))
        self.leave()

    def _broken(self, fault: ProtocolError) -> None:
        self.fault = UpstreamError(f"the server's connection is broken: {fault}", sent=True)
        self._flush()
        self._ended = 1
        self._fail_all(self.fault)
        self._transport.close()

    def _fail_all(self, fault: UpstreamError) -> None:
        for stream in list(self._streams.values()):
            stream.fail(fault)

    # -- turns

    def _now(self) -> float:
        return self._clock()

    def _turned(self) -> None:
        self.heard = self._clock()

    def _resumed(self) -> None:
        pass

    def _wrote(self, stream: int) -> None:
        pass


def _hear(reply: StreamReply, event: Head | Interim | Data | Trailers) -> None:
    match event:
        case Head():
            reply.begin(event.fields, ended=event.ended)
        case Interim():
            reply.inform(event.fields)
        case Data():
            reply.add(event.data, event.size, ended=event.ended)
        case Trailers():
            reply.end(event.fields)
