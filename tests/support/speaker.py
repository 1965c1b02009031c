"""The other end of HTTP/2, in memory or on a socket: what it asks, and what it was told.

speaker = Speaker()
sock.sendall(speaker.ask("GET", "/a"))
speaker.hear(sock.recv(65536))
speaker.replies[1].status

It takes what any client would: hyper-h2 with all its checks is its judge.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field

import h2.connection
import h2.events
from h2.config import H2Configuration
from h2.settings import SettingCodes

from sidecar.http.h2_frames import FrameCutter

from .daemon import PATIENCE

Fields = Sequence[tuple[str, str]]


@dataclass
class Told:
    """What came on one stream so far."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    interim: list[int] = field(default_factory=list)
    trailers: list[tuple[str, str]] | None = None
    ended: bool = False
    reset: int | None = None


class Speaker:
    """One connection's calling side; with *window* it takes no more than that of each stream."""

    def __init__(self, *, window: int | None = None, takes: bool = True) -> None:
        self.h2 = h2.connection.H2Connection(
            H2Configuration(
                header_encoding="utf-8",
                normalize_outbound_headers=False,  # what is asked is what is said
                validate_outbound_headers=False,
            )
        )
        self._cutter = FrameCutter(preface=False)
        self.h2.initiate_connection()
        if window is not None:
            self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.takes = takes  # whether what has come makes room for more
        self.replies: dict[int, Told] = {}
        self.goaway: tuple[int, int] | None = None  # its last stream and its code
        self.settings: dict[int, int] = {}

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Fields = (), *, end: bool = True
    ) -> bytes:
        """Return the bytes of one request; its stream is the last of `replies`."""
        first = [(":method", method), (":scheme", "https"), (":authority", "files.test")]
        stream = self.open([*first, (":path", path), *headers], end=end and not body)
        while body:
            self.h2.send_data(stream, body[:16_384], end_stream=end and len(body) <= 16_384)
            body = body[16_384:]
        return self.out()

    def open(self, fields: Fields, *, end: bool) -> int:
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, fields, end_stream=end)
        self.replies[stream] = Told()
        return stream

    def trail(self, stream: int, trailers: Fields) -> bytes:
        """Return the bytes that end the request on *stream*."""
        self.h2.send_headers(stream, trailers, end_stream=True)
        return self.out()

    def out(self) -> bytes:
        return self.h2.data_to_send()

    def hear(self, data: bytes) -> bytes:
        """Take what was said; return what a client says to that by itself."""
        self._cutter.feed(data)
        more = True
        while more:
            turn = self._cutter.turn()
            more = turn.more
            for event in self.h2.receive_data(turn.data) if turn.data else ():
                self._take(event)
            if turn.goaway is not None:  # hyper-h2 would let go of what still runs
                self.goaway = (turn.goaway.last, turn.goaway.code)
        return self.out()

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                told = self.replies[event.stream_id]
                told.headers = {str(name): str(value) for name, value in event.headers}
                told.status = int(told.headers.pop(":status"))
            case h2.events.InformationalResponseReceived():
                status = dict(event.headers)[":status"]
                self.replies[event.stream_id].interim.append(int(status))
            case h2.events.DataReceived():
                self.replies[event.stream_id].body += event.data
                if self.takes:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.TrailersReceived():
                trailers = [(str(name), str(value)) for name, value in event.headers]
                self.replies[event.stream_id].trailers = trailers
            case h2.events.StreamEnded():
                self.replies[event.stream_id].ended = True
            case h2.events.StreamReset():
                self.replies[event.stream_id].reset = int(event.error_code or 0)
            case h2.events.RemoteSettingsChanged():
                for code, change in event.changed_settings.items():
                    self.settings[int(code)] = change.new_value


class Caller2(Speaker):
    """A caller over HTTP/2 on a socket."""

    def __init__(self, sock: socket.socket, *, window: int | None = None) -> None:
        super().__init__(window=window)
        self.sock = sock
        sock.settimeout(PATIENCE)
        sock.sendall(self.out())

    @classmethod
    def secure(cls, port: int, context: ssl.SSLContext) -> Caller2:
        """Connect to *port* and agree on HTTP/2."""
        context.set_alpn_protocols(["h2"])
        raw = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        sock = context.wrap_socket(raw, server_hostname="127.0.0.1")
        context.set_alpn_protocols(["http/1.1"])  # others use it too
        assert sock.selected_alpn_protocol() == "h2"
        return cls(sock)

    def __enter__(self) -> Caller2:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def call(self, method: str, path: str, body: bytes = b"", headers: Fields = ()) -> Told:
        """Send one request and return its whole reply."""
        self.sock.sendall(self.ask(method, path, body, headers))
        return self.told(max(self.replies))

    def told(self, stream: int) -> Told:
        """Wait until *stream* is over."""
        told = self.replies[stream]
        while not told.ended and told.reset is None and self.goaway is None:
            if not self.more():
                break
        return told

    def more(self) -> bool:
        """Wait for bytes and answer them; False at the end."""
        try:
            data = self.sock.recv(65_536)
        except (ConnectionError, ssl.SSLError):
            return False
        if data:
            answer = self.hear(data)
            try:
                self.sock.sendall(answer)
            except (ConnectionError, ssl.SSLError):
                pass
        return bool(data)
