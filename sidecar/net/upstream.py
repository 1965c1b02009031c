"""One connection to an endpoint.

While it is lent, everything it learns wakes the flow that holds the lease. A
connection that says something while nobody asked is closed: those bytes could
only poison the next exchange.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from ..errors import UpstreamError
from ..http.h1 import Bounds, ReplyReader
from ..http.lines import LineTable
from ..upstream.cluster import TlsSpec
from ..upstream.endpoint import Endpoint, Keepalive
from .deadlines import NEVER
from .keepalive import keep_alive
from .outbox import Outbox
from .wake import Wake

if TYPE_CHECKING:
    from .shelf import Shelf


class Upstream(asyncio.Protocol):
    """A connection to *endpoint*: `send` a call, then look at `reply` when woken."""

    shares: Final = False  # it carries one exchange after the other
    carries: Final = False  # those that can be lent carry nothing
    room: Final = 0  # for others beside the one it is lent to

    __slots__ = (
        "_buffer",
        "_held",
        "_on_lost",
        "_outbox",
        "_transport",
        "_turn",
        "deadline",
        "endpoint",
        "expires",
        "fault",
        "opened",
        "reply",
        "served",
        "shelf",
        "tls",
        "wake",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        table: LineTable,
        bounds: Bounds,
        now: float,
        on_lost: Callable[[Upstream], None],
        outbox: Outbox,
    ) -> None:
        self.endpoint = endpoint
        self.reply = ReplyReader(table, bounds)
        self.opened = now
        self.served = 0
        self.deadline = NEVER
        self.expires = NEVER  # when the certificates end that it was opened with
        self.tls: TlsSpec | None = None  # how it was secured
        self.shelf: Shelf  # whose callers it is for
        self.wake: Wake | None = None
        self.fault: UpstreamError | None = None
        self._transport: asyncio.Transport | None = None
        self._held = False
        self._buffer = bounds.buffer
        self._on_lost = on_lost
        self._outbox = outbox
        self._turn = -1  # of the outbox, in which a call was last sent

    # -- what the loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own do not inherit

    def data_received(self, data: bytes) -> None:
        if self.wake is None:
            self.abort()
            return
        try:
            self.reply.feed(data)
        except UpstreamError as fault:
            self.fault = fault
            self.abort()
        else:
            # Back-pressure: what the caller does not take, the server is not read for.
            if self.reply.waiting > self._buffer:
                self.hold()
        self.wake.at_once()

    def eof_received(self) -> bool:
        self._finish()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if exc is not None and self.fault is None and not self.reply.whole:
            # A reset ends no body, not even one that lasts until the connection's end.
            self.fault = UpstreamError(f"the server's connection broke: {exc}", sent=True)
        self._finish()
        self._on_lost(self)

    def _finish(self) -> None:
        if self.fault is None:
            try:
                self.reply.eof()
            except UpstreamError as fault:
                self.fault = fault
        if self.wake is not None:
            if self.fault is not None and self.served > 1 and self.reply.silent:
                self.fault.stale = True
            self.wake()

    def expire(self) -> None:
        """An idle connection has been idle for long enough."""
        if self.wake is None:
            self.abort()

    # -- what the flow asks

    def alive(self) -> bool:
        """Whether bytes can still go both ways."""
        transport = self._transport
        return transport is not None and self.fault is None and not transport.is_closing()

    @property
    def secured_by(self) -> ssl.SSLObject | None:
        """The TLS of the connection, None in plaintext or once it is gone."""
        transport = self._transport
        return None if transport is None else transport.get_extra_info("ssl_object")

    def probe(self, keepalive: Keepalive) -> None:
        """Have the system look whether the server is still there."""
        if self._transport is not None:
            keep_alive(self._transport, keepalive)

    def send(self, method: str, data: bytes, wake: Wake) -> None:
        """Send one whole request, at this turn's end; from now on what comes wakes *wake*.

        Raises UpstreamError if the connection was lost since it was lent.
        """
        transport = self._transport
        if transport is None or self.fault is not None or transport.is_closing():
            raise UpstreamError("the connection was lost before the call was sent", sent=False)
        self.wake = wake
        self.reply.method = method
        self.served += 1
        self._turn = self._outbox.turn
        self._outbox.put(transport, data)

    def take(self) -> bytes:
        """Return the body that has come, and let more come."""
        data = self.reply.take()
        if self._held and self._transport is not None:
            self._held = False
            self._transport.resume_reading()
        return data

    def hold(self) -> None:
        """Let no more come until something is taken."""
        transport = self._transport
        if not self._held and transport is not None and not transport.is_closing():
            self._held = True
            transport.pause_reading()

    def settled(self) -> bool:
        """Whether the exchange is over on both sides and another may follow."""
        transport = self._transport
        return (
            self.reply.reusable()
            and self.fault is None
            and not self._held  # a reply that nobody took: it could hear no other
            and transport is not None
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0
            and self._turn != self._outbox.turn  # the call was answered and is yet to be sent
        )

    def lend(self) -> Upstream:
        """Return what one exchange is lent."""
        # Nothing was asked yet: until `send` sets its wake, whatever comes closes it.
        self.reply.begin("GET")
        return self

    def give_back(self) -> Upstream:
        """End the exchange, whole or not; return what carried it."""
        self.wake = None
        return self

    def leave(self) -> None:
        """Be lent no more."""
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()
