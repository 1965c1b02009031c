"""A caller of a sidecar that sees every byte: whole replies, broken ones, and streams as they come.

    with Caller(port, certs) as caller:
        assert caller.ask("GET", "/a").status == 200

It raises `Broken` where a reply ends before it is whole, however politely.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

PATIENCE = 20.0


class Broken(Exception):
    """The reply ended before it was whole; `body` is what had come of it."""

    def __init__(self, why: str, body: bytes = b"") -> None:
        super().__init__(why)
        self.body = body


@dataclass(frozen=True)
class Reply:
    """One reply; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


class Caller:
    """One connection to a sidecar; without *certs* it speaks plaintext.

    A small *segment*, as networks have it, keeps what the kernel holds small as well.
    """

    def __init__(
        self, port: int, certs: Path | None, *, receive_buffer: int = 0, segment: int = 0
    ) -> None:
        sock = socket.socket()
        if segment:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE)
        sock.connect(("127.0.0.1", port))
        self.sock: socket.socket = sock if certs is None else _secure(sock, certs)
        self._data = b""
        self.trailers: list[tuple[str, str]] = []  # behind the last body in chunks

    def __enter__(self) -> Caller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave at once, without a word."""
        self.sock.close()

    def ask(self, method: str, target: str, body: bytes = b"", *lines: str) -> Reply:
        """Send one request and return its whole reply."""
        self.send(method, target, body, *lines)
        return self.reply(method)

    def send(self, method: str, target: str, body: bytes = b"", *lines: str) -> None:
        """Send one request."""
        head = [f"{method} {target} HTTP/1.1", "host: localhost", *lines]
        if body:
            head.append(f"content-length: {len(body)}")
        self.sock.sendall("\r\n".join([*head, "", ""]).encode() + body)

    def heard(self, data: bytes) -> None:
        """Take *data* that somebody else has read off the socket."""
        self._data += data

    def reply(self, method: str = "GET") -> Reply:
        """Return the next final reply, whole; interim ones are passed over."""
        while True:
            head = self.head()
            if head.status >= 200:
                return Reply(head.status, head.headers, self._body(head, method))

    def head(self) -> Reply:
        """Return the next reply's head."""
        while b"\r\n\r\n" not in self._data:
            self._more(b"")
        raw, _, self._data = self._data.partition(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")
        pairs = [line.partition(":") for line in lines]
        return Reply(int(first.split(" ")[1]), {n.lower(): v.strip() for n, _, v in pairs})

    def chunk(self) -> bytes:
        """Return the next chunk of a chunked body; nothing for the last one."""
        size = int(self._line(), 16)
        if not size:
            lines = [line.decode("latin-1").partition(": ") for line in iter(self._line, b"")]
            self.trailers = [(name, value) for name, _, value in lines]
            return b""
        data = self.read(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    def _line(self) -> bytes:
        while b"\r\n" not in self._data:
            self._more(b"")
        line, _, self._data = self._data.partition(b"\r\n")
        return line

    def read(self, size: int) -> bytes:
        """Return exactly *size* bytes."""
        pieces, have = [self._data], len(self._data)
        while have < size:
            piece = self._receive(b"".join(pieces))
            pieces.append(piece)
            have += len(piece)
        data = b"".join(pieces)
        self._data = data[size:]
        return data[:size]

    def count(self, size: int) -> int:
        """Read *size* bytes and keep none of them; return how many of them are not `x`."""
        strange, have = len(self._data) - self._data.count(b"x"), len(self._data)
        self._data = b""
        while have < size:
            piece = self._receive(b"")
            have += len(piece)
            strange += len(piece) - piece.count(b"x")
        assert have == size
        return strange

    def ends(self) -> bool:
        """Whether the other side closes, and says nothing before."""
        try:
            self._more(b"")
        except Broken:
            return True
        return False

    def _body(self, head: Reply, method: str) -> bytes:
        if method == "HEAD" or head.status in (204, 304):
            return b""
        if head.headers.get("transfer-encoding") == "chunked":
            return self._chunks()
        if "content-length" in head.headers:
            return self.read(int(head.headers["content-length"]))
        return self._rest()

    def _chunks(self) -> bytes:
        body = b""
        try:
            while piece := self.chunk():
                body += piece
        except Broken as broken:
            raise Broken(str(broken), body) from None
        return body

    def _rest(self) -> bytes:
        body, self._data = self._data, b""
        while True:
            try:
                piece = self.sock.recv(65_536)
            except (ssl.SSLError, ConnectionError) as error:
                raise Broken(str(error), body) from None
            if not piece:
                return body
            body += piece

    def _more(self, so_far: bytes) -> None:
        self._data += self._receive(so_far)

    def _receive(self, so_far: bytes) -> bytes:
        try:
            piece = self.sock.recv(262_144)
        except (ssl.SSLError, ConnectionError) as error:
            raise Broken(f"cut off: {error}", so_far) from None
        if not piece:
            raise Broken("closed before its end", so_far)
        return piece


def _secure(sock: socket.socket, certs: Path) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(certs / "svid_bundle.pem"))
    context.load_cert_chain(certs / "svid.pem", certs / "svid_key.pem")
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    # A stream cut off without TLS's own goodbye must not look like an end.
    return context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False)


def stats(admin: int) -> dict[str, float]:
    """Return the counters of the sidecar whose admin pages are on port *admin*."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", admin, timeout=PATIENCE)
    try:
        connection.request("GET", "/stats")
        lines = connection.getresponse().read().decode().splitlines()
    finally:
        connection.close()
    pairs = [line.rpartition(": ") for line in lines]
    return {name: float(value) for name, _, value in pairs}
