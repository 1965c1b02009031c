"""A server that does exactly what a script says, byte by byte: for faults no real server shows.

    with RawUpstream({"/whole": reply(b"hello"), "/dies": dies}) as server: ...

A script is called with the connection once a whole request has come. Each
connection has a thread; all of them end with the server. It knows nothing of
sidecars and judges nothing.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

PATIENCE = 20.0
_PIECE = 65_536

Script: TypeAlias = "Callable[[Connection], None]"


@dataclass(frozen=True)
class Seen:
    """One request as it came: *connection* counts from 1."""

    connection: int
    method: str
    target: str
    head: bytes
    body: bytes


def reply(body: bytes = b"ok", status: int = 200, kind: str = "text/plain", *lines: str) -> Script:
    """A whole reply with `Content-Length`."""
    data = head(status, f"content-type: {kind}", f"content-length: {len(body)}", *lines) + body
    return lambda connection: connection.send(data)


def head(status: int, *lines: str) -> bytes:
    """A reply's head, its empty line included."""
    return "\r\n".join([f"HTTP/1.1 {status} Said", *lines, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Connection:
    """One accepted connection; `number` counts from 1."""

    def __init__(self, sock: socket.socket, number: int, server: RawUpstream) -> None:
        self.number = number
        self.server = server
        self.request: Seen
        self.open = True
        self._sock = sock
        self._data = b""

    def send(self, data: bytes) -> None:
        """Send *data*; what a peer that has gone does not take is lost."""
        try:
            self._sock.sendall(data)
        except OSError:
            self.close()

    def hear(self) -> bytes:
        """Wait for bytes of another protocol than ours; nothing once the peer has gone."""
        try:
            return self._sock.recv(_PIECE)
        except OSError:
            return b""

    def stream(self, total: int, piece: bytes = b"x" * _PIECE) -> None:
        """Send *total* bytes of body in pieces; `server.sent` tells how many have gone."""
        while total > 0 and self.open:
            part = piece[:total]
            try:
                self._sock.sendall(part)
            except OSError:
                self.close()
                return
            total -= len(part)
            self.server.sent += len(part)

    def is_left(self, patience: float = PATIENCE) -> bool:
        """Wait until the peer has closed; False if it is still there after *patience* seconds."""
        return self.drain(patience) >= 0

    def drain(self, patience: float = PATIENCE) -> int:
        """Read what still comes until the peer has closed; return how much, -1 if it stays."""
        size = 0
        try:
            self._sock.settimeout(patience)
            while data := self._sock.recv(_PIECE):
                size += len(data)
        except TimeoutError:
            return -1
        except OSError:
            pass
        self.close()
        return size

    def close(self) -> None:
        """End the connection as a server does that has no more to say."""
        if self.open:
            self.open = False
            try:
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self._sock.close()

    def reset(self) -> None:
        """End the connection with RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.open = False
        self._sock.close()

    def read(self) -> bool:
        """Read one whole request into `request`; False if there is none any more."""
        try:
            while b"\r\n\r\n" not in self._data:
                if not self._more():
                    return False
            raw, _, self._data = self._data.partition(b"\r\n\r\n")
            length = _length(raw)
            while len(self._data) < length:
                if not self._more():
                    return False
        except OSError:
            return False
        body, self._data = self._data[:length], self._data[length:]
        method, target, _ = raw.split(b"\r\n", 1)[0].decode().split(" ")
        self.request = Seen(self.number, method, target, raw, body)
        return True

    def read_head(self) -> bytes:
        """Read one request's head and leave its body where it is; nothing if none comes."""
        try:
            while b"\r\n\r\n" not in self._data:
                if not self._more():
                    return b""
        except OSError:
            return b""
        raw, _, self._data = self._data.partition(b"\r\n\r\n")
        return raw

    def _more(self) -> bool:
        data = self._sock.recv(_PIECE)
        self._data += data
        return bool(data)


def _length(raw: bytes) -> int:
    for line in raw.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


@dataclass
class RawUpstream:
    """Listens while entered: `scripts` by path, else *otherwise*; *greet* before any request."""

    scripts: Mapping[str, Script] = field(default_factory=dict)
    otherwise: Script = field(default_factory=reply)
    greet: Script | None = None
    unix: Path | None = None

    def __post_init__(self) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        self.sent = 0
        self.left = threading.Event()
        self._live: set[Connection] = set()
        self._threads: list[threading.Thread] = []
        self._sock = socket.socket(socket.AF_UNIX if self.unix else socket.AF_INET)
        self._sock.bind(str(self.unix) if self.unix else ("127.0.0.1", 0))
        self.port = 0 if self.unix else int(self._sock.getsockname()[1])

    @property
    def url(self) -> str:
        """Where it is, as an inbound's `to` has it."""
        return f"unix:{self.unix}" if self.unix else f"http://127.0.0.1:{self.port}"

    @property
    def live(self) -> int:
        """How many connections are open."""
        return len(self._live)

    def targets(self) -> list[str]:
        """Return the targets of all requests so far."""
        return [one.target for one in self.seen]

    def until(self, true: Callable[[], bool], patience: float = PATIENCE) -> bool:
        """Wait until *true* holds; False if it never does."""
        deadline = time.monotonic() + patience
        while not true():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def hang_up(self) -> None:
        """Close every connection that is open."""
        for connection in list(self._live):
            connection.close()

    def __enter__(self) -> RawUpstream:
        self._sock.listen(128)
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        # A thread that waits in `accept` is woken by a shutdown, not by a close.
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a script did not end"

    def _spawn(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            self.connections += 1
            connection = Connection(sock, self.connections, self)
            self._live.add(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection: Connection) -> None:
        try:
            if self.greet is not None:
                self.greet(connection)
            while connection.open and connection.read():
                self.seen.append(connection.request)
                path = connection.request.target.partition("?")[0]
                self.scripts.get(path, self.otherwise)(connection)
        finally:
            connection.close()
            self._live.discard(connection)
