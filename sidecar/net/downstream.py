"""One connection of a caller: bytes in, whole requests for the flow, bytes out.

It needs no task: what comes drives the flow of the one request that is served,
and while there is none an idle connection holds nothing. Nothing here decides
anything: it cuts requests, writes replies, keeps the limits of size and time, and
tells the flow when the caller has gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, cast

from ..errors import CallerGone, DeadlinePassed, PermitWithdrawn, ProtocolError
from ..http.field import Pair
from ..http.h1 import (
    CONTINUE,
    LAST_CHUNK,
    Request,
    RequestReader,
    write_chunk,
    write_reply,
)
from ..http.head import ReplyHead
from ..http.trailers import takes_trailers, write_trailers
from ..policy.call import Call, Peer
from .caller import Door, may_still_read
from .deadlines import NEVER
from .wake import Drive

_IDLE: Final = 0
_IN_HEAD: Final = 1
_IN_BODY: Final = 2
_NEW: Final = 3  # it has asked nothing yet
_FIRST: Final = 1.0  # seconds for what a new caller asks, where it is the last, too


class Downstream(asyncio.Protocol):
    """The caller's side of an exchange; `request` is the one to serve, if there is one."""

    speaks_http2: Final = False
    __slots__ = (
        "_ahead",
        "_chunked",
        "_loop",
        "_phase",
        "_reader",
        "_transport",
        "busy",
        "close_after",
        "deadline",
        "door",
        "draining",
        "expires",
        "forwarded_for",
        "gone",
        "half_closed",
        "local_ip",
        "paused",
        "peer",
        "request",
        "streaming",
        "wake",
    )

    def __init__(self, door: Door, loop: asyncio.AbstractEventLoop) -> None:
        self.door = door
        self.wake = Drive(loop, self._served)
        self._loop = loop
        self.deadline = NEVER
        self.request: Request | None = None
        self.peer: Peer
        self.local_ip = ""  # the address that the caller reached us at
        self.forwarded_for = b""  # the lines that tell the server who called, made once
        self.paused = False  # the caller does not take what we write
        self.gone = False
        self.half_closed = False  # the caller sends no more, and may or may not still read
        self.busy = False  # a request is being served
        self.draining = False
        self.close_after = False
        self.expires = NEVER  # when the caller's certificate ends, on the clock of deadlines
        self.streaming: Call | None = None  # the call whose reply is passing, piece by piece
        self._transport: asyncio.Transport
        self._reader: RequestReader
        self._phase = _NEW
        self._ahead = False  # the caller sends ahead, and is not read
        self._chunked = False  # the reply being written is in chunks

    # -- what the loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own do not inherit
        door = self.door
        peer = door.identify(transport, self)
        if peer is None:
            self.gone = True
            self._transport.abort()
            return
        self.peer = peer
        self.local_ip = str((transport.get_extra_info("sockname") or ("",))[0])
        self._transport.set_write_buffer_limits(high=door.bounds.buffer)
        self._reader = RequestReader(door.tables.of(peer.principal), door.bounds)
        door.live.add(self)
        door.deadlines.add(self)
        self.allow(door.times.idle)

    def data_received(self, data: bytes) -> None:
        if self.gone:
            return
        if self.request is None:
            self._look(self._reader.take(data))
            return
        self._reader.feed(data)
        self._hold()

    def eof_received(self) -> bool:
        # Half-closed by the caller: what it asked is still answered, nothing new is read.
        self.close_after = self.half_closed = True
        if not self.busy and self.request is None:
            self.door.outbox.flush()  # the last reply may still wait there
            self._leave()
            return False  # and the transport closes: nobody else would
        self.wake()
        return may_still_read(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        # Where the connection closes, the request is one that was served already.
        if self.request is not None and not self.busy and not self._transport.is_closing():
            self._serve(self.request)
        else:
            self.wake()

    def _leave(self) -> None:
        if self.gone:
            return
        self.gone = True
        self.door.live.discard(self)
        self.door.deadlines.remove(self)
        self.wake.throw(CallerGone("the caller has left"))

    def _look(self, request: Request | None) -> None:
        """Have *request* served; without one, wait for the rest within the limits of time."""
        if request is not None:
            self.request = request
            # Who does not take a reply gets no other: they would pile up here.
            if not self.paused:
                self._serve(request)
            return
        reader = self._reader
        if reader.wants_continue():
            self.write(CONTINUE)
        times = self.door.times
        if reader.in_body:
            self._enter(_IN_BODY, times.body)
        elif reader.began:
            self._enter(_IN_HEAD, times.head)

    def _enter(self, phase: int, limit: float) -> None:
        # The limit counts from the phase's first byte: a trickle does not renew it.
        if phase != self._phase:
            self._phase = phase
            self.allow(limit)

    def allow(self, seconds: float) -> None:
        """Give what goes on *seconds* from now, and never more than the certificate's life."""
        until = self.door.deadlines.now() + seconds
        self.deadline = until if until < self.expires else self.expires

    def withdraw(self, why: str) -> None:
        """End what passes, or the connection if nothing does: it is allowed no more."""
        if self.streaming is not None:
            self.wake.throw(PermitWithdrawn(why))
            return
        self.draining = True
        if not self.busy and self.request is None:
            self._close()

    def expire(self) -> None:
        """A limit of time has passed: of the exchange, of a request half sent, or of idleness."""
        if self._transport.is_closing():
            self._transport.abort()  # it does not even take the end
        elif self.busy:
            ended = self.door.deadlines.now() >= self.expires
            why = "the caller's certificate has expired" if ended else "the exchange took too long"
            self.wake.throw(DeadlinePassed(why))
        elif self.paused:
            self.abort()  # it does not read what it was told
        elif self._reader.began:
            fault = ProtocolError("the request took too long to come", 408)
            self._reader.broken = True
            self._look(Request(None, fault=fault))
        else:
            self._close()

    # -- the flow

    def _serve(self, request: Request) -> None:
        """Have *request* served: of one connection, one exchange after the other."""
        self.deadline = self.expires
        self.busy = True
        if request.head is None or request.head.close:
            self.close_after = True
        self.wake.run(self.door.serve(request, self))

    def _served(self, fault: Exception | None) -> None:
        """The exchange is over, whatever became of it."""
        self.busy = False
        self.streaming = None
        if fault is not None and not isinstance(fault, CallerGone):
            self.door.report("a caller's exchange", fault)
        if fault is not None or self.close_after or self.draining or self.gone:
            self._close()
            return
        self.request = None
        self._phase = _IDLE
        self.allow(self.door.times.idle)
        if self._reader.waiting or self._ahead:
            # Not from here: of many that came at once each would run inside of the one before.
            self._loop.call_soon(self._next)
            self._hold()

    def _hold(self) -> None:
        """Have a caller that sends ahead wait until its turn."""
        if self._reader.waiting > self.door.bounds.head and not self._ahead:
            self._ahead = True
            self._transport.pause_reading()

    def _next(self) -> None:
        """Look at what came meanwhile."""
        # A drain, or the end of a certificate, may have closed it in the turn between.
        if self.request is None and not self.gone and not self._transport.is_closing():
            request = self._reader.next()
            if self._ahead and (request is None or self._reader.waiting <= self.door.bounds.head):
                self._ahead = False
                self._transport.resume_reading()
            self._look(request)

    # -- what the flow asks

    def write(self, data: bytes) -> None:
        """Write to the caller now; look at `paused` before writing much more."""
        self.door.outbox.flush()  # what goes before it may still wait there
        self._transport.write(data)

    @property
    def exchanges(self) -> tuple[Downstream, ...]:
        """What is being served on it: one call after the other."""
        return (self,) if self.busy else ()

    @property
    def over(self) -> bool:
        """Whether nothing is left to do but to wait for the caller's end."""
        transport = self._transport
        return not self.busy and transport.is_closing() and not transport.get_write_buffer_size()

    @property
    def _http10(self) -> bool:
        """Whether the request being served is HTTP/1.0, which knows no chunks."""
        request = self.request
        return request is not None and request.head is not None and request.head.http10

    @property
    def _takes_trailers(self) -> bool:
        head = None if self.request is None else self.request.head
        return head is not None and takes_trailers(head.pairs)

    def interim(self, head: ReplyHead) -> None:
        """Pass on an interim reply."""
        if not self._http10:
            self.write(write_reply(head, -1))

    def reply(self, head: ReplyHead, length: int, body: bytes = b"") -> None:
        """Send a whole reply in one write; *length* -1 leaves `Content-Length` out.

        It goes out at this turn's end, or at once where it is the connection's last.
        """
        self.close_after = close = self.close_after or self.draining
        message = write_reply(head, length, body, close)
        if close:
            self.write(message)
        else:
            self.door.outbox.put(self._transport, message)

    def begin(self, head: ReplyHead, length: int, body: bytes = b"") -> None:
        """Send a reply's head and the first of its body; what is of no known length is chunked."""
        if length >= 0:
            self.reply(head, length, body)
        elif self._http10:
            self.close_after = True  # the end of the connection is the end of the body
            self.reply(head, -1, body)
        else:
            self._chunked = True
            self.close_after = close = self.close_after or self.draining
            self.write(write_reply(head, -1, write_chunk(body), close, chunked=True))

    def send(self, piece: bytes) -> None:
        """Send more of the body; look at `paused` before sending much more."""
        self.write(write_chunk(piece) if self._chunked else piece)

    def end(self, trailers: Sequence[Pair] = ()) -> None:
        """End the body; *trailers* follow it if it is chunked and the caller takes them."""
        if self._chunked:
            self._chunked = False
            last = write_trailers(trailers) if trailers and self._takes_trailers else LAST_CHUNK
            self.write(last)

    def drain(self) -> None:
        """Serve what is being served or has begun to come, and nothing after it.

        What a new caller asks first may be on its way: it was let in, and is heard.
        """
        if self.draining:
            return
        self.draining = True
        if not self.busy and self.request is None:
            if self._phase == _IDLE:
                self._close()
            elif self._phase == _NEW:
                self.allow(_FIRST)

    def abort(self) -> None:
        """Break the connection, so that a reply half sent can't look whole."""
        self.close_after = True
        if not self.gone:
            self._transport.abort()

    def _close(self) -> None:
        if not self.gone:
            self.allow(self.door.times.idle)
            self.door.outbox.flush()
            self._transport.close()
