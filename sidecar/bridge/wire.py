"""The bridge's HTTP: requests of this very process in, answers and streams of events out.

The other end is the proxy's own pool of connections, over a pair of sockets that has no
address, so nobody else can ask. h11 reads and writes. What is asked is handed on as a
whole; an `Answer` may come at any time, or its asker may go first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, TypeAlias, cast

import h11

_MOST_HEAD: Final = 131_072  # bytes: more than any head that the proxy forwards
_JSON: Final = (b"content-type", b"application/json")
_EVENTS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
_QUIET: Final = b": still there\n\n"

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Question:
    """A whole request."""

    method: bytes
    path: bytes
    headers: dict[bytes, bytes]
    body: bytes = b""

    @property
    def caller(self) -> str:
        """Who asks, as the proxy tells it: a SPIFFE ID, or empty for whoever proved none."""
        return self.headers.get(b"x-forwarded-client-cert", b"").rpartition(b"URI=")[2].decode()


class Answer:
    """What is to be answered to one question, in one piece or as a stream of events.

    *gone* is called once if the asker goes before the end; what is written then goes
    nowhere. *eased* is called when what was written has been taken.
    """

    __slots__ = ("_carrier", "asked_at", "eased", "gone", "open", "spoke_at", "streaming")

    def __init__(self, carrier: Carrier, now: float) -> None:
        self._carrier = carrier
        self.open = True
        self.streaming = False
        self.asked_at = self.spoke_at = now
        self.gone: Callable[[], None] = _nothing
        self.eased: Callable[[], None] = _nothing

    @property
    def behind(self) -> bool:
        """Whether the asker does not take what is written."""
        return self.open and self._carrier.full

    def whole(self, status: int, body: bytes = b"", headers: Headers = ()) -> None:
        """Answer with *body*, JSON unless it is empty, and end."""
        if self.open:
            kind = (_JSON,) if body else ()
            length = (b"content-length", b"%d" % len(body))
            self.open = False
            self._carrier.write_head(status, (*kind, length, *headers))
            self._carrier.write_end(body)

    def stream(self, headers: Headers = ()) -> None:
        """Begin a stream of events."""
        if self.open and not self.streaming:
            self.streaming = True
            self._carrier.write_head(200, (*_EVENTS, *headers))

    def event(self, data: bytes, id: bytes = b"", now: float = 0.0) -> None:
        """Write an event; *data* is one line."""
        if self.open:
            self.spoke_at = now
            named = b"id: " + id + b"\n" if id else b""
            self._carrier.write(named + b"data: " + data + b"\n\n")

    def quiet(self, now: float) -> None:
        """Write what means nothing, so that nobody takes the stream for dead."""
        if self.open and self.streaming:
            self.spoke_at = now
            self._carrier.write(_QUIET)

    def end(self) -> None:
        """End the stream."""
        if self.open:
            self.open = False
            self._carrier.write_end(b"")

    def lose(self) -> None:
        """The asker is gone."""
        if self.open:
            self.open = False
            self.gone()


def _nothing() -> None:
    pass


Ask: TypeAlias = Callable[[Question, Answer], None]


@dataclass(slots=True, eq=False)
class Carrier(asyncio.Protocol):
    """One connection of the proxy; *ask* gets its questions, one at a time.

    A body is at most *most* bytes; what is behind by *buffer* bytes counts as full.
    """

    ask: Ask
    now: Callable[[], float]
    most: int
    buffer: int
    full: bool = False
    _http: h11.Connection = field(
        default_factory=lambda: h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_HEAD)
    )
    _transport: asyncio.Transport | None = None
    _request: h11.Request | None = None
    _body: bytearray = field(default_factory=bytearray)
    _answer: Answer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self.buffer)

    def data_received(self, data: bytes) -> None:
        """Take what the proxy sends."""
        try:
            self._http.receive_data(data)
            self._read()
        except h11.ProtocolError:
            self._close()

    def eof_received(self) -> None:
        """Nothing is asked any more, and nobody waits for an answer."""
        self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever answers."""
        self._transport = None
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.lose()

    def pause_writing(self) -> None:
        """The proxy does not read, because its caller does not."""
        self.full = True

    def resume_writing(self) -> None:
        """What was written is on its way."""
        self.full = False
        if self._answer is not None:
            self._answer.eased()

    def _read(self) -> None:
        while self._answer is None:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._request, self._body = event, bytearray()
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > self.most:
                    return self._close()
            elif isinstance(event, h11.EndOfMessage):
                self._hand_on()
            else:
                if isinstance(event, h11.ConnectionClosed):
                    self._close()
                return None
        return None

    def _hand_on(self) -> None:
        request = self._request
        assert request is not None
        self._answer = answer = Answer(self, self.now())
        path = bytes(request.target).partition(b"?")[0]
        headers = {bytes(name): bytes(value) for name, value in request.headers}
        self.ask(Question(bytes(request.method), path, headers, bytes(self._body)), answer)

    def write_head(self, status: int, headers: Headers) -> None:
        """Write the head of the answer under way."""
        reason = HTTPStatus(status).phrase
        self._send(h11.Response(status_code=status, headers=list(headers), reason=reason))

    def write(self, data: bytes) -> None:
        """Write a piece of its body."""
        self._send(h11.Data(data=data))

    def write_end(self, body: bytes) -> None:
        """Write the rest of it, and be ready for the next question."""
        if body:
            self._send(h11.Data(data=body))
        self._send(h11.EndOfMessage())
        self._answer = None
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._read()
        elif self._transport is not None:
            self._transport.close()

    def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data and self._transport is not None:
            self._transport.write(data)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
