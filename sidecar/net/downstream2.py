"""One HTTP/2 connection of a caller: frames in, a Stream for each request, frames out.

What comes is worked on in bounded turns, and not read while the caller does not
take what we write. A caller that breaks the protocol or its budget gets GOAWAY
and is left; a drain says GOAWAY, takes nothing new and lets streams finish.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from ..errors import ProtocolError
from ..http.h2 import NO_ERROR, Data, Event, Head, Http2, Reset, Trailers
from ..http.h2_frames import GoAway
from ..http.h2_head import judge_trailers, request_head
from ..http.lines import LineTable
from ..policy.call import Peer
from .caller import Door, may_still_read
from .deadlines import NEVER
from .framed import Framed
from .stream import Stream

_GOODBYE: Final = 1.0  # seconds to read our last word before the connection breaks


class Downstream2(Framed):
    """A caller's connection over HTTP/2; each of its `exchanges` is a stream."""

    def __init__(self, door: Door, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.door = door
        self.deadline = NEVER
        self.expires = NEVER  # when the caller's certificate ends, on the clock of deadlines
        self.peer: Peer
        self.local_ip = ""
        self.forwarded_for = b""
        self.draining = False  # GOAWAY was said, by one side or the other
        self._streams: dict[int, Stream] = {}
        self._asking: list[Stream] = []  # streams whose requests became whole in this turn
        self._table: LineTable
        self._slow = False  # something has begun to come and is not whole
        self._sends_no_more = False  # the caller, which may still read

    # -- what the loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        door = self.door
        peer = door.identify(transport, self)
        if peer is None:
            self.gone = True
            cast(asyncio.Transport, transport).abort()
            return
        self.peer = peer
        self.local_ip = str((transport.get_extra_info("sockname") or ("",))[0])
        self._table = door.tables.of(peer.principal)
        http2 = Http2(door.deadlines.now(), server=True, streams=door.streams)
        self._open(transport, http2, door.bounds.buffer)
        door.live.add(self)
        door.deadlines.add(self)
        self._watch()

    def eof_received(self) -> bool:
        # Half-closed by the caller: what it asked is still answered, nothing new is read.
        self.draining = self._sends_no_more = True
        for stream in self.exchanges:
            if not (stream.whole or stream.asked):
                stream.lost()  # of it no more can come
        self._flush()
        if self._ended or not self._streams:
            return False
        return may_still_read(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.gone:
            return
        self.gone = True
        self.door.live.discard(self)
        self.door.deadlines.remove(self)
        self._lose_streams()

    def _flush(self) -> None:
        super()._flush()
        if self._sends_no_more and not (self.paused or self.gone):
            for stream in self.exchanges:
                if stream.unsent:
                    stream.lost()  # nobody opens the window any more that it waits for

    def _resumed(self) -> None:
        for stream in self.exchanges:
            stream.settle()

    # -- what came

    def _now(self) -> float:
        return self.door.deadlines.now()

    def _act(self, event: Event) -> None:
        match event:
            case Head():
                self._ask(event)
            case Data():
                if stream := self._streams.get(event.stream):
                    stream.take(event.data, ended=event.ended)
                self.http2.taken(event.stream, event.size)
            case Trailers():
                self._finish(event)
            case Reset():
                if stream := self._streams.get(event.stream):
                    stream.lost()
            case GoAway():
                self.draining = True
                self._end_if_done()

    def _ask(self, event: Head) -> None:
        stream = Stream(self, event.stream, self._loop)
        self._streams[event.stream] = stream
        self.door.deadlines.add(stream)
        if self.draining:
            stream.turn_away()
            return
        try:
            head = request_head(event.fields, self._table, self.door.bounds, ended=event.ended)
        except ProtocolError as fault:
            stream.whole = event.ended
            stream.refuse(fault)
        else:
            stream.open(head, ended=event.ended)

    def _finish(self, event: Trailers) -> None:
        stream = self._streams.get(event.stream)
        if stream is None:
            return
        try:
            trailers = judge_trailers(event.fields, self.door.bounds)
        except ProtocolError as fault:
            stream.whole = True
            stream.refuse(fault)
        else:
            stream.finish(trailers)

    def _turned(self) -> None:
        if self._asking:
            self._serve()
        self._watch()

    def _broken(self, fault: ProtocolError) -> None:
        self.door.broke(self.peer.address, str(fault))
        self._leave()

    def _watch(self) -> None:
        """Set the limit of time for what the connection as a whole is at."""
        http2 = self.http2
        slow = http2.slow and (http2.in_block or not self._streams)
        if slow and self._slow:
            return  # the limit counts from the first byte: a trickle does not renew it
        if slow:
            self._allow(self.door.times.head)
        elif self._slow or not self._streams:
            self._rest()
        self._slow = slow

    def _rest(self) -> None:
        if self._streams:
            self.deadline = self.expires
        else:
            self._allow(self.door.times.idle)

    def _allow(self, seconds: float) -> None:
        self.deadline = min(self.door.deadlines.now() + seconds, self.expires)

    def expire(self) -> None:
        """A limit of time has passed: of idleness, of something half sent, of a certificate."""
        if self._transport.is_closing():
            self._transport.abort()
        elif self._ended:
            self._close()
        elif self._streams and not self._slow and not self.draining:
            self.drain()
            for stream in self.exchanges:
                stream.expire()
            self.deadline = self.door.deadlines.now() + self.door.times.idle
        else:
            self.http2.goaway(NO_ERROR)
            self._leave()

    # -- what goes out

    def _wrote(self, stream: int) -> None:
        if known := self._streams.get(stream):
            known.settle()

    def begin(self, stream: Stream) -> None:
        """Have *stream* served once this turn is over, unless it is reset by then."""
        self._asking.append(stream)
        if not self._acting:
            self._serve()

    def _serve(self) -> None:
        asking, self._asking = self._asking, []
        for stream in asking:
            stream.serve()

    def forget(self, stream: Stream) -> None:
        """A stream is over."""
        if self._streams.pop(stream.number, None) is None:
            return
        self.door.deadlines.remove(stream)
        if not self._streams and not self._ended:
            self._watch()
            self._end_if_done()

    # -- the end

    @property
    def exchanges(self) -> list[Stream]:
        """What is being served on it."""
        return list(self._streams.values())

    @property
    def over(self) -> bool:
        """Whether nothing is left to do but to wait for the caller's end."""
        return bool(self._ended) and not self._transport.get_write_buffer_size()

    def drain(self) -> None:
        """Serve what is being served, and nothing after it."""
        if self.draining or self.gone:
            return
        self.draining = True
        self.http2.goaway(NO_ERROR)
        self._flush()
        self._end_if_done()

    def withdraw(self, why: str) -> None:
        """End all that passes, and then itself: it is allowed no more."""
        for stream in self.exchanges:
            stream.withdraw(why)
        self.drain()

    def abort(self) -> None:
        """Close at once."""
        if not self.gone:
            self._transport.abort()

    def _end_if_done(self) -> None:
        if self.draining and not (self._streams or self._ended or self.gone):
            self._leave()

    def _leave(self) -> None:
        """Say what is left to say, and that it is the end; a caller that still sends must hear it.

        So what it sends is dropped for a while: closed at once, the connection would break.
        """
        self._flush()
        self._ended = 1
        self._lose_streams()
        self.deadline = self.door.deadlines.now() + _GOODBYE
        transport = self._transport
        if transport.is_closing():
            return
        if self.paused:
            transport.resume_reading()  # it has yet to take what goes before the end
        elif transport.get_extra_info("ssl_object") is not None:
            self._close()  # TLS says the end and waits for the other's by itself
        else:
            transport.write_eof()
            transport.resume_reading()

    def _close(self) -> None:
        self.deadline = self.door.deadlines.now() + self.door.times.idle
        self._transport.close()

    def _lose_streams(self) -> None:
        for stream in self.exchanges:
            stream.lost()
