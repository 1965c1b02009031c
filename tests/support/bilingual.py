"""A server on a socket that speaks both protocols, and remembers which one each call came in.

with Bilingual() as server:
    ...                     # call server.url, in plaintext
    server.spoke            # [1, 2, 2]: the versions, call by call

With a context it speaks TLS, and what the context has agreed on.
"""

from __future__ import annotations

import socket
import ssl

from .mint import Files
from .server2 import Asked, Recorder2
from .wire import Wire, reply


def agreeing(files: Files, *protocols: str) -> ssl.SSLContext:
    """Return a context of a server that shows *files* and takes one of *protocols*."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    context.set_alpn_protocols(list(protocols))
    return context


class Bilingual(Recorder2):
    """Answers everything with 200, in the protocol that it was asked in."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(self._heard2)
        self.spoke: list[int] = []
        self._context = context

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def _heard2(self, _: Asked) -> bytes:
        self.spoke.append(2)
        return b"ok"

    def _serve(self, sock: socket.socket) -> None:
        try:
            if self._context is not None:
                sock = secured = self._context.wrap_socket(sock, server_side=True)
                self._open.append(sock)
                framed = secured.selected_alpn_protocol() == "h2"
            else:
                framed = sock.recv(4, socket.MSG_PEEK | socket.MSG_WAITALL) == b"PRI "
            (super()._serve if framed else self._serve1)(sock)
        except OSError:
            pass

    def _serve1(self, sock: socket.socket) -> None:
        wire = Wire(sock)
        while head := wire.head():
            wire.body(head, until_close=False)
            self.spoke.append(1)
            sock.sendall(reply(b"ok"))
