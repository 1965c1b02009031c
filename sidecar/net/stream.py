"""One HTTP/2 stream of a caller: the caller's side of one exchange.

It gathers the request's body within its bounds of size and time, has the whole
request served, which what happens to it then drives, and writes the reply into the
stream. A reply that can't be finished is reset, never ended as if it were whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from ..errors import CallerGone, DeadlinePassed, PermitWithdrawn, ProtocolError
from ..http.field import Pair
from ..http.h1 import Request
from ..http.h2 import CANCEL, INTERNAL, NO_ERROR, PROTOCOL, REFUSED, Http2
from ..http.h2_budget import ANSWERED, RESET
from ..http.h2_head import reply_fields
from ..http.head import ReplyHead, RequestHead
from ..policy.call import Call, Peer
from .caller import Door
from .deadlines import NEVER
from .wake import Drive


class Carrier(Protocol):
    """The connection that carries streams, as they see it."""

    door: Door
    peer: Peer
    local_ip: str
    forwarded_for: bytes
    expires: float
    http2: Http2
    paused: bool

    def flush(self) -> None:
        """Send soon what was written."""

    def begin(self, stream: Stream) -> None:
        """Have the stream served, unless it is reset before others had their turn."""

    def forget(self, stream: Stream) -> None:
        """The stream is over."""


class Stream:
    """One request and its reply on a connection that carries many."""

    speaks_http2: Final = True

    __slots__ = (
        "_carrier",
        "_ended",
        "_head",
        "_left",
        "_malformed",
        "_parts",
        "_request",
        "_size",
        "asked",
        "busy",
        "close_after",
        "deadline",
        "door",
        "forwarded_for",
        "gone",
        "half_closed",
        "local_ip",
        "number",
        "peer",
        "streaming",
        "wake",
        "whole",
    )

    def __init__(self, carrier: Carrier, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self._carrier = carrier
        self.number = number
        self.door = carrier.door
        self.peer = carrier.peer
        self.local_ip = carrier.local_ip
        self.forwarded_for = carrier.forwarded_for
        self.wake = Drive(loop, self._served)
        self.deadline = NEVER
        self.streaming: Call | None = None
        self.gone = False
        self.half_closed = False  # to end a request is no sign of leaving here
        self.close_after = False
        self.asked = False  # the request was handed over to be served
        self.busy = False  # and is being served
        self.whole = False  # the caller has ended its side
        self._head: RequestHead | None = None
        self._parts: list[bytes] = []
        self._request: Request | None = None
        self._size = 0
        self._left = -1  # bytes of the reply's body that must still come, if that is known
        self._ended = False  # the reply's end is written
        self._malformed = False

    # -- the request

    def open(self, head: RequestHead, *, ended: bool) -> None:
        """The head has come; *ended*: it is the whole request."""
        self._head = head
        self.whole = ended
        if ended:
            self._ask(Request(head))
            return
        if head.length > self.door.bounds.body:
            self._too_large()
            return
        if head.expects:
            self._carrier.http2.head(self.number, [(b":status", b"100")])
        self.allow(self.door.times.body)

    def take(self, data: bytes, *, ended: bool) -> None:
        """Take a piece of the body."""
        self.whole = ended
        if self.asked or self._head is None:
            return
        self._size += len(data)
        if self._size > self.door.bounds.body:
            self._too_large()
            return
        if self._size > self._head.length >= 0:
            self._wrong_length()
            return
        self._parts.append(data)
        if ended:
            self.finish()

    def finish(self, trailers: Sequence[Pair] = ()) -> None:
        """The body is whole; *trailers* stood behind it."""
        self.whole = True
        if self._head is None or self.asked:
            return
        body, self._parts = b"".join(self._parts), []
        if self._head.length not in (-1, len(body)):
            self._wrong_length()
        else:
            self._ask(Request(self._head, body, trailers=trailers))

    def _wrong_length(self) -> None:
        self.refuse(ProtocolError("the body is not as long as its `content-length`"))

    def _too_large(self) -> None:
        self.refuse(ProtocolError(f"the body is over {self.door.bounds.body} bytes", 413))

    def refuse(self, fault: ProtocolError) -> None:
        """What came is no request: *fault* says why."""
        self._malformed = fault.status == 400
        self._parts = []
        if not self.asked:
            self._ask(Request(self._head, fault=fault))

    def _ask(self, request: Request) -> None:
        self.asked = True
        self._request = request
        self.deadline = self._carrier.expires
        self._carrier.begin(self)

    def serve(self) -> None:
        """Have the request served."""
        request, self._request = self._request, None
        if request is not None and not self.gone:
            self.busy = True
            self.wake.run(self.door.serve(request, self))

    def _served(self, fault: Exception | None) -> None:
        """The exchange is over, whatever became of it."""
        self.busy = False
        self.streaming = None
        if fault is not None and not isinstance(fault, CallerGone):
            self.door.report("the exchange of a stream", fault)
        if not self._ended:
            self._reset(INTERNAL)
        self.allow(self.door.times.idle)
        self.settle()

    # -- what happens to it

    @property
    def paused(self) -> bool:
        """Whether the caller does not take what we write."""
        return self._carrier.paused or self.unsent > self.door.bounds.buffer

    @property
    def unsent(self) -> int:
        """Bytes of its reply that wait for the caller's windows or its reading."""
        return self._carrier.http2.unsent(self.number)

    def settle(self) -> None:
        """Look whether it is over: served, and all of its reply written or dropped."""
        if self.busy or not (self.gone or (self._ended and not self.unsent)):
            if not self.paused:
                self.wake()
            return
        if not self.gone:
            self.gone = True
            self._close()
        self._carrier.forget(self)

    def _close(self) -> None:
        """The reply is out; the caller's side may still be open (RFC 9113 8.1)."""
        http2 = self._carrier.http2
        if self._malformed:
            http2.charge(RESET)
            http2.reset(self.number, PROTOCOL)
        elif not self.whole:
            http2.reset(self.number, NO_ERROR)
        else:
            http2.earn(ANSWERED)
            return
        self._carrier.flush()

    def lost(self) -> None:
        """The caller has reset it, or its connection is gone."""
        if self.gone:
            return
        self.gone = True
        if self.busy:
            self.wake.throw(CallerGone("the caller has left"))
        else:
            self.settle()

    def expire(self) -> None:
        """A limit of time has passed: of the exchange, of half a request, of a reply not read."""
        if self.busy:
            ended = self.door.deadlines.now() >= self._carrier.expires
            why = "the caller's certificate has expired" if ended else "the exchange took too long"
            self.wake.throw(DeadlinePassed(why))
        elif self.asked:
            self._reset(CANCEL)
            self.settle()
        else:
            self.refuse(ProtocolError("the request took too long to come", 408))

    def withdraw(self, why: str) -> None:
        """End what passes: it is allowed no more."""
        if self.streaming is not None:
            self.wake.throw(PermitWithdrawn(why))

    def turn_away(self) -> None:
        """It came after the end was announced: nothing of it was looked at."""
        self._reset(REFUSED)
        self.settle()

    # -- what the flow asks

    def allow(self, seconds: float) -> None:
        """Give what goes on *seconds* from now, and never more than the certificate's life."""
        until, expires = self.door.deadlines.now() + seconds, self._carrier.expires
        self.deadline = until if until < expires else expires

    def interim(self, head: ReplyHead) -> None:
        """Pass on an interim reply."""
        if not self.gone:
            self._carrier.http2.head(self.number, reply_fields(head, -1))
            self._carrier.flush()

    def reply(self, head: ReplyHead, length: int, body: bytes = b"") -> None:
        """Send a whole reply; *length* is announced as its body's, unless it is UNKNOWN."""
        self._write_head(head, length, end=not body)
        if body:
            self._write(body, end=True)

    def begin(self, head: ReplyHead, length: int, body: bytes = b"") -> None:
        """Send a reply's head and the first of its body: `send` and `end` follow."""
        self._left = length
        self._write_head(head, length, end=False)
        self.send(body)

    def send(self, piece: bytes) -> None:
        """Send more of the body; look at `paused` before sending much more."""
        if self._left >= 0:
            self._left -= len(piece)
            if self._left < 0:
                raise ValueError("a body that is longer than was announced")
        self._write(piece, end=False)

    def end(self, trailers: Sequence[Pair] = ()) -> None:
        """End the body, *trailers* behind it; one shorter than was announced is broken off."""
        if self._left > 0:
            self.abort()
        elif trailers and not self.gone:
            self._ended = True
            self._carrier.http2.trail(self.number, trailers)
            self._carrier.flush()
        else:
            self._write(b"", end=True)

    def abort(self) -> None:
        """Break the stream off, so that a reply half sent can't look whole."""
        self._reset(INTERNAL)

    def _write_head(self, head: ReplyHead, length: int, *, end: bool) -> None:
        if self.gone:
            return
        self._ended = end
        self._carrier.http2.answer(self.number, head, length, end=end)
        self._carrier.flush()

    def _write(self, data: bytes, *, end: bool) -> None:
        if self.gone:
            return
        self._ended = end
        self._carrier.http2.body(self.number, data, end=end)
        self._carrier.flush()

    def _reset(self, code: int) -> None:
        if not self.gone:
            self.gone = True
            self._carrier.http2.reset(self.number, code)
            self._carrier.flush()
