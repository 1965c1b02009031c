"""A server over HTTP/2, in memory or on a socket: what it was asked, and what it says to that.

server = Server2()
pipe.say(server.hear(pipe.heard()))
pipe.say(server.reply(1, b"body"))
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import h2.connection
import h2.events
from h2.config import H2Configuration
from h2.settings import SettingCodes

from sidecar.http.h2_frames import FrameCutter


@dataclass
class Asked:
    """One request as it came."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    trailers: list[tuple[str, str]] | None = None
    whole: bool = False
    reset: bool = False

    @property
    def path(self) -> str:
        return self.headers[":path"]


class Server2:
    """One connection's serving side, with all checks that hyper-h2 has."""

    def __init__(self, *, streams: int = 100) -> None:
        self.h2 = h2.connection.H2Connection(
            H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: streams})
        self._cutter = FrameCutter(preface=True)
        self.asked: dict[int, Asked] = {}
        self.goaway = False

    def hear(self, data: bytes) -> bytes:
        """Take what was said; return what a server says to that by itself."""
        self._cutter.feed(data)
        more = True
        while more:
            turn = self._cutter.turn()
            more = turn.more
            for event in self.h2.receive_data(turn.data) if turn.data else ():
                self._take(event)
            self.goaway |= turn.goaway is not None
        return self.h2.data_to_send()

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                fields = {str(name): str(value) for name, value in event.headers}
                self.asked[event.stream_id] = Asked(fields)
            case h2.events.DataReceived():
                self.asked[event.stream_id].body += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.TrailersReceived():
                trailers = [(str(name), str(value)) for name, value in event.headers]
                self.asked[event.stream_id].trailers = trailers
            case h2.events.StreamEnded():
                self.asked[event.stream_id].whole = True
            case h2.events.StreamReset():
                self.asked[event.stream_id].reset = True

    def reply(
        self,
        stream: int,
        body: bytes = b"ok",
        status: str = "200",
        headers: Sequence[tuple[str, str]] = (),
        *,
        end: bool = True,
        length: bool = True,
    ) -> bytes:
        """Return the bytes of a reply, as much of it as the windows let through."""
        fields = [(":status", status), *headers]
        if length and end and body:
            fields.append(("content-length", str(len(body))))
        self.h2.send_headers(stream, fields, end_stream=end and not body)
        return self.more(stream, body, end=end) if body else self.h2.data_to_send()

    def more(self, stream: int, body: bytes, *, end: bool = False) -> bytes:
        """Return the bytes of more of a body."""
        while body:
            room = min(16_384, self.h2.local_flow_control_window(stream))
            assert room > 0, "the window is shut"
            piece, body = body[:room], body[room:]
            self.h2.send_data(stream, piece, end_stream=end and not body)
        return self.h2.data_to_send()

    def trail(self, stream: int, trailers: Sequence[tuple[str, str]]) -> bytes:
        """Return the bytes that end a reply which was not to end."""
        self.h2.send_headers(stream, trailers, end_stream=True)
        return self.h2.data_to_send()


class Recorder2:
    """A server on a socket that speaks HTTP/2 in plaintext and answers `answer` to everything.

    Behind every answer stand *trailers*, if there are any.
    """

    def __init__(
        self,
        answer: Callable[[Asked], bytes] = lambda _: b"ok",
        trailers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.answer = answer
        self.trailers = trailers
        self.heard: list[Asked] = []
        self.accepted = 0
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._listening, *self._open):
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            self.accepted += 1
            self._open.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        server, answered = Server2(), set()
        try:
            while data := sock.recv(65_536):
                out = server.hear(data)
                for number, asked in list(server.asked.items()):
                    if asked.whole and number not in answered:
                        answered.add(number)
                        self.heard.append(asked)
                        bodiless = asked.headers[":method"] == "HEAD"
                        body = b"" if bodiless else self.answer(asked)
                        out += server.reply(number, body, end=not self.trailers)
                        out += server.trail(number, self.trailers) if self.trailers else b""
                sock.sendall(out)
        except OSError:
            pass
