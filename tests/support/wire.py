"""Both ends of a conversation in bytes: a raw server, a raw caller, and what passes between.

Nothing of what the sidecar does is hidden by a library: fields keep their order
and their number, interim replies are seen, and anything can be sent.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias, TypeVar

from .daemon import PATIENCE

T = TypeVar("T")
Headers: TypeAlias = Sequence[tuple[str, str]]
JSON: Headers = (("content-type", "application/json"),)


def eventually(look: Callable[[], T], what: str = "", patience: float = PATIENCE) -> T:
    """Return what *look* returns once that is true; fail if it never is."""
    deadline = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < deadline, f"never came: {what or look}"
        time.sleep(0.02)
    return found


# -- messages as they stand on the wire


@dataclass(frozen=True)
class Head:
    """A start line and fields; names in lower case."""

    start: str
    headers: Headers

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known == name]

    def get(self, name: str) -> str:
        """Return the one value of *name*, "" if it is not there; fail on two."""
        values = self.all(name)
        assert len(values) <= 1, f"`{name}` stands {len(values)} times"
        return values[0] if values else ""


@dataclass(frozen=True)
class Heard(Head):
    """A request as the server behind the sidecar heard it."""

    body: bytes
    connection: int
    socket: socket.socket = field(repr=False)

    @property
    def path(self) -> str:
        return self.start.split(" ")[1]


@dataclass(frozen=True)
class Reply(Head):
    """A reply as the caller got it; `interim` are the 1xx before it."""

    body: bytes
    interim: tuple[Head, ...] = ()

    @property
    def status(self) -> int:
        return int(self.start.split(" ")[1])

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """Reads messages off a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.trailers: list[bytes] = []  # the lines behind the last chunk that came
        self._have = b""

    def more(self) -> bool:
        """Wait for bytes; False at the end."""
        try:
            data = self.sock.recv(65_536)
        except (ConnectionError, ssl.SSLError):
            return False
        self._have += data
        return bool(data)

    def head(self) -> Head | None:
        """Return the next head, None at the end of the connection."""
        while b"\r\n\r\n" not in self._have:
            if not self.more():
                return None
        head, _, self._have = self._have.partition(b"\r\n\r\n")
        start, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.partition(":") for line in lines]
        return Head(start, [(name.lower(), value.strip()) for name, _, value in pairs])

    def take(self, size: int) -> bytes:
        """Return *size* bytes; fail if they do not come."""
        while len(self._have) < size:
            assert self.more(), f"only {len(self._have)} of {size} bytes came: {self._have[:200]!r}"
        data, self._have = self._have[:size], self._have[size:]
        return data

    def line(self) -> bytes:
        while b"\r\n" not in self._have:
            assert self.more(), f"no line in {self._have[:200]!r}"
        line, _, self._have = self._have.partition(b"\r\n")
        return line

    def rest(self) -> bytes:
        """Return all that still comes until the other side closes."""
        while self.more():
            pass
        data, self._have = self._have, b""
        return data

    def body(self, head: Head, *, until_close: bool) -> bytes:
        if head.get("transfer-encoding") == "chunked":
            return b"".join(self.chunks())
        length = head.get("content-length")
        if length:
            return self.take(int(length))
        return self.rest() if until_close else b""

    def chunks(self) -> Iterator[bytes]:
        while size := int(self.line(), 16):
            yield self.take(size)
            assert self.line() == b""
        self.trailers = list(iter(self.line, b""))


# -- the server behind the sidecar

Answer: TypeAlias = Callable[[Heard], bytes]


def reply(
    body: bytes = b'{"jsonrpc":"2.0","id":1,"result":{}}',
    status: str = "200 OK",
    headers: Headers = JSON,
) -> bytes:
    """Return a reply with a length."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {status}\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body


def ok(_: Heard) -> bytes:
    return reply()


class Recorder:
    """A server that keeps all it hears; `answers` by path, `answer` for the rest.

    An answer of no bytes closes the connection without a word.
    """

    def __init__(self, answer: Answer = ok) -> None:
        self.answer = answer
        self.answers: dict[str, Answer] = {}
        self.heard: list[Heard] = []
        self.accepted = 0
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = int(self._listening.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        _hang_up(self._listening)
        self.hang_up()
        for thread in self._threads:
            thread.join(10)
        self._listening.close()

    def __len__(self) -> int:
        return len(self.heard)

    def since(self, count: int) -> list[Heard]:
        """Return what was heard after the first *count*."""
        return self.heard[count:]

    def hang_up(self) -> None:
        """Close every connection that is open."""
        for sock in list(self._open):
            _hang_up(sock)

    def _spawn(self, work: Callable[..., None], *given: object) -> None:
        thread = threading.Thread(target=work, args=given, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            self.accepted += 1
            self._open.add(sock)
            self._spawn(self._serve, sock, self.accepted)

    def _serve(self, sock: socket.socket, number: int) -> None:
        wire = Wire(sock)
        try:
            while head := wire.head():
                body = wire.body(head, until_close=False)
                heard = Heard(head.start, head.headers, body, number, sock)
                self.heard.append(heard)
                data = self.answers.get(heard.path.partition("?")[0], self.answer)(heard)
                if not data:
                    return
                sock.sendall(data)
        except (OSError, AssertionError):
            pass  # the sidecar hung up, which is its right
        finally:
            self._open.discard(sock)
            sock.close()


def _hang_up(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


# -- the caller


class Caller(Wire):
    """One connection to a listener."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        super().__init__(sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    @staticmethod
    def dial(port: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)

    @property
    def address(self) -> str:
        """How the sidecar names this connection."""
        host, port = self.sock.getsockname()[:2]
        return f"{host}:{port}"

    def send(self, data: bytes) -> None:
        """Write; a peer that has hung up is found when its reply is read."""
        try:
            self.sock.sendall(data)
        except (ConnectionError, ssl.SSLError):
            pass

    def ask(self, method: str, path: str, body: bytes = b"", headers: Headers = JSON) -> Reply:
        """Send one request and return its reply."""
        self.send(request(method, path, body, headers))
        return self.reply(method)

    def ask_or_end(self, method: str, path: str, body: bytes = b"") -> Reply | None:
        """Send one request; return its reply, None if the connection ends before it."""
        self.send(request(method, path, body))
        return self.reply_or_end(method)

    def reply(self, method: str = "GET") -> Reply:
        """Return the next reply; fail if there is none."""
        found = self.reply_or_end(method)
        assert found is not None, "the connection ended without a reply"
        return found

    def reply_or_end(self, method: str = "GET") -> Reply | None:
        """Return the next reply, None if the connection ends before it."""
        interim: list[Head] = []
        while head := self.head():
            status = int(head.start.split(" ")[1])
            if status >= 200:
                bodiless = method == "HEAD" or status in (204, 304)
                body = b"" if bodiless else self.body(head, until_close=True)
                return Reply(head.start, head.headers, body, tuple(interim))
            interim.append(head)
        return None

    def ended(self) -> bool:
        """Whether the sidecar closes the connection and says no more."""
        return self.rest() == b""


def request(method: str, path: str, body: bytes = b"", headers: Headers = JSON) -> bytes:
    """Return a request; one with a body says its length."""
    lines = [f"{method} {path} HTTP/1.1", "host: files.test"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def rpc(method: str, params: Mapping[str, object] | None = None, number: int = 1) -> bytes:
    """Return one JSON-RPC request."""
    message: dict[str, object] = {"jsonrpc": "2.0", "id": number, "method": method}
    return json.dumps(message | ({"params": params} if params is not None else {})).encode()


def tool(name: str, **arguments: object) -> bytes:
    """Return a call of the tool *name*."""
    return rpc("tools/call", {"name": name, "arguments": arguments})
