"""A server of HTTP/2 that holds its caller to the protocol, and can be short or rude itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, PingAckReceived, RequestReceived, StreamEnded
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings


@dataclass
class Served:
    """A server in a thread: where it is, and what it received."""

    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    handshakes: int = 0
    lost: int = 0
    faults: list[str] = field(default_factory=list)
    most_at_once: int = 0
    pongs: int = 0


@dataclass(frozen=True)
class Manners:
    """How it answers: *reset* and *go_away* after so many requests of a connection, 0 never."""

    status: int = 200
    stream_window: int = 65_535
    reset: int = 0
    go_away: int = 0
    pings: bool = False


class H2Server(asyncio.Protocol):
    """One connection; every rule of the protocol is held by the library."""

    def __init__(self, manners: Manners, served: Served) -> None:
        self._manners = manners
        self._served = served
        self._count = 0
        self._http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._served.handshakes += 1
        window = {SettingCodes.INITIAL_WINDOW_SIZE: self._manners.stream_window}
        self._http.local_settings = Settings(client=False, initial_values=window)
        self._http.initiate_connection()
        if self._manners.pings:
            self._http.ping(b"areyouok")
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        self._served.lost += 1

    def data_received(self, data: bytes) -> None:
        try:
            events = self._http.receive_data(data)
            at_once = self._http.open_inbound_streams
            self._served.most_at_once = max(self._served.most_at_once, at_once)
            for event in events:
                self._take(event)
        except ProtocolError as error:
            self._served.faults.append(str(error))
        self._send()

    def _take(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._served.requests.append(dict(event.headers)["traceparent"].encode())
        elif isinstance(event, PingAckReceived):
            self._served.pongs += 1
        elif isinstance(event, DataReceived):
            self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self._count += 1
            self._answer(event.stream_id)

    def _answer(self, stream: int) -> None:
        if self._count == self._manners.reset:
            self._http.reset_stream(stream, 2)
            return
        body = b"x" * 1024
        length = ("content-length", str(len(body)))
        self._http.send_headers(stream, [(":status", str(self._manners.status)), length])
        self._http.send_data(stream, body, end_stream=True)
        if self._count == self._manners.go_away:
            self._send()
            self._http.close_connection(last_stream_id=stream)

    def _send(self) -> None:
        self._transport.write(self._http.data_to_send())
