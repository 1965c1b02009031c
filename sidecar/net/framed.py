"""The bytes of one HTTP/2 connection, of either side: when they are read, worked on and written.

What comes is worked on in bounded turns, and not read while the other end does
not take what we write. What is written in one turn of the loop goes out together.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Final, cast

from ..errors import ProtocolError
from ..http.h2 import Event, Http2

_DISCARDED: Final = 1 << 18  # bytes that are read and dropped once all is said


class Framed(asyncio.Protocol, ABC):
    """A connection whose frames mean something to whoever extends it."""

    http2: Http2

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.paused = False  # the other end does not take what we write
        self.gone = False
        self._loop = loop
        self._transport: asyncio.Transport
        self._turning = False  # a turn will come by itself
        self._acting = False  # the events of a turn are acted on
        self._flushing = False
        self._ended = 0  # bytes that came after the end; 1 once it has ended

    # -- what the loop tells

    def _open(self, transport: asyncio.BaseTransport, http2: Http2, buffer: int) -> None:
        """Begin to speak; *buffer* bytes may wait for a slow reader."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own do not inherit
        self._transport.set_write_buffer_limits(high=buffer)
        self.http2 = http2
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self.gone:
            return
        if self._ended:
            self._ended += len(data)
            if self._ended > _DISCARDED:
                self._transport.pause_reading()
            return
        self.http2.feed(data)
        if not self._turning and not self.paused:
            self._turn()

    def pause_writing(self) -> None:
        self.paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self.paused = False
        self._flush()
        self._resumed()
        if not self._turning and not self._ended:
            self._turn()

    # -- turns

    def _turn(self) -> None:
        """Work on a bounded part of what came; the rest waits until others had their turn."""
        self._turning = False
        if self.gone or self._ended or self.paused:
            return
        try:
            events, more = self.http2.turn(self._now())
        except ProtocolError as fault:
            self._broken(fault)
            return
        self._acting = True
        for event in events:
            self._act(event)
        self._acting = False
        if self._ended > 0:
            return  # all is said
        self._turned()
        self._flush()
        if more:
            self._turning = True
            self._transport.pause_reading()
            self._loop.call_soon(self._turn)
        elif not self.paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def flush(self) -> None:
        """Send what was written, together with what else is written in this turn of the loop."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flushing = False
        if not self.gone and not self._ended:
            self._flush()

    def _flush(self) -> None:
        http2 = self.http2
        while not self.paused:
            data = http2.out()
            if data:
                self._transport.write(data)
            if not data or not http2.writing:
                break
        for number in http2.written():
            self._wrote(number)

    # -- what it means, for whoever extends it

    @abstractmethod
    def _now(self) -> float:
        """The clock of deadlines."""

    @abstractmethod
    def _act(self, event: Event) -> None:
        """Something has come."""

    @abstractmethod
    def _turned(self) -> None:
        """What came in one turn was acted on."""

    @abstractmethod
    def _broken(self, fault: ProtocolError) -> None:
        """The other end can't be listened to any more; what is left to say is written."""

    @abstractmethod
    def _resumed(self) -> None:
        """The other end takes again what we write."""

    @abstractmethod
    def _wrote(self, stream: int) -> None:
        """Something of a stream's body was sent."""
