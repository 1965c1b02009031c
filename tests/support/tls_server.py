"""Servers that speak TLS themselves, with whatever certificate: to be called, or to be refused.

with TlsServer(mint.wrong("expired")) as server:
    ...                     # call 127.0.0.1:server.port
    server.heard            # the heads of requests that came through
"""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from typing import Self

from .daemon import PATIENCE
from .mint import Files

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class TlsServer:
    """Answers every request with 200 over TLS, or in plaintext without *files*.

    With *trusts*, it asks callers for certificates that these roots vouch for.
    """

    def __init__(self, files: Files | None, trusts: Path | None = None) -> None:
        self.heard: list[bytes] = []
        self.asked: list[str] = []  # names of servers that callers asked for
        self.met = 0  # connections
        self._context = None if files is None else self._made(files, trusts)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def _made(self, files: Files, trusts: Path | None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.cert, files.key)
        context.sni_callback = lambda connection, name, context: self.asked.append(name or "")
        if trusts is not None:
            context.load_verify_locations(trusts)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._listening.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listening.close()
        self._thread.join(PATIENCE)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            self.met += 1
            threading.Thread(target=self._serve, args=[sock], daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        try:
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
            while data := sock.recv(65_536):
                self.heard.append(data)
                sock.sendall(OK)
        except (OSError, ssl.SSLError):
            pass
        finally:
            sock.close()
