"""Where we accept: a bound socket, a handshake per connection, and who was let in.

The TLS context is chosen per accepted socket, so a reload is a new reference
and no connection is ever switched by what its caller says. Each refusal at the
handshake is logged with its reason; not a byte of it has reached a server.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final

from ..errors import IdentityError, StartError
from ..http.h2_frames import PREFACE
from ..policy.call import Peer
from .caller import Door
from .connect import EXHAUSTED
from .downstream import Downstream
from .downstream2 import Downstream2
from .secure import Secured, Shared
from .tasks import Tasks
from .tls import HTTP2, Identity, asked_name, reason_of

_BACKLOG: Final = 1024
_ACCEPTS_A_TURN: Final = 32
_TLS_HANDSHAKE: Final = 0x16  # the first byte of a TLS record that opens a handshake
_GLANCE: Final = 0.02  # seconds between two looks at a first line that is not whole
_LINE: Final = 1024  # bytes of a first line that are looked at
_PAUSE: Final = 0.2  # seconds without accepting, once the process is out of descriptors


class Mtls(StrEnum):
    """What a port asks of its callers (Istio's PeerAuthentication modes)."""

    STRICT = "STRICT"
    PERMISSIVE = "PERMISSIVE"
    DISABLE = "DISABLE"


@dataclass(slots=True)
class Gate:
    """What all listeners ask before they let a connection in; changes with each reload."""

    mode: Callable[[str], Mtls]
    identity: Callable[[], Identity | None]
    wall: Callable[[], float]
    failed: Callable[[str, str, str], None]  # peer, reason, detail
    shook: Callable[[], None]
    max_connections: int = 0
    max_handshakes: int = 0
    handshake_timeout: float = 0.0

    def limit(self, connections: int, handshakes: int, handshake_timeout: float) -> None:
        """Set the limits; the time is in seconds."""
        self.max_connections = connections
        self.max_handshakes = handshakes
        self.handshake_timeout = handshake_timeout


class Listener:
    """One bound socket; `door` is what its connections share, and a reload may change it."""

    def __init__(self, sock: socket.socket, door: Door, gate: Gate, tasks: Tasks) -> None:
        self._sock = sock
        self.door = door
        self._gate = gate
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._shaking = 0
        self._open = False
        self._shared = Shared()

    @property
    def address(self) -> str:
        """`host:port` as bound."""
        host, port = self._sock.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def shaking(self) -> int:
        """How many were accepted and are not let in yet."""
        return self._shaking

    def start(self) -> None:
        """Begin to accept."""
        self._open = True
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def stop(self) -> None:
        """Accept no more, and free the address."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._sock.fileno())
        self._sock.close()

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._rest()
                    return
                raise
            self._admit(sock, *(address or ("", 0))[:2])  # over a Unix socket nobody has one

    def _rest(self) -> None:
        """Out of descriptors: let some be freed instead of spinning on a ready socket."""
        self._gate.failed("", "out_of_descriptors", "accepting again shortly")
        self._loop.remove_reader(self._sock.fileno())
        self._loop.call_later(_PAUSE, self._resume)

    def _resume(self) -> None:
        if self._open:
            self._loop.add_reader(self._sock.fileno(), self._accept)

    def _admit(self, sock: socket.socket, ip: str, port: int) -> None:
        gate = self._gate
        if len(self.door.live) >= gate.max_connections or self._shaking >= gate.max_handshakes:
            sock.close()
            gate.failed(f"{ip}:{port}", "too_many_connections", "")
            return
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._shaking += 1
        self._tasks.spawn(self._welcome(sock, ip, port), "handshake")

    async def _welcome(self, sock: socket.socket, ip: str, port: int) -> None:
        try:
            async with asyncio.timeout(self._gate.handshake_timeout):
                await self._shake(sock, ip, port)
        except (OSError, TimeoutError, IdentityError) as error:
            sock.close()
            self._gate.failed(f"{ip}:{port}", reason_of(error), str(error))
        except BaseException:
            sock.close()
            raise
        finally:
            self._shaking -= 1

    async def _shake(self, sock: socket.socket, ip: str, port: int) -> None:
        gate, door = self._gate, self.door
        mode = gate.mode(door.inbound)
        identity = gate.identity()
        secure = mode is Mtls.STRICT or (mode is Mtls.PERMISSIVE and await self._is_tls(sock))
        context: ssl.SSLContext | None = None
        if secure:
            if identity is None:
                raise IdentityError("no_identity", "this sidecar has no certificate yet")
            if identity.svid.not_after <= gate.wall():
                raise IdentityError("no_identity", "this sidecar's certificate has expired")
            context = identity.context if door.http2 else identity.http1_context
        if context is not None:
            await self._secure(sock, context)
            return
        prior = door.h2c and (await self._begins(sock, PREFACE[:4]) or _asks_nothing(sock))
        opens = partial(Downstream2 if prior else Downstream, door, self._loop)
        await self._loop.connect_accepted_socket(opens, sock)

    async def _secure(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        secured = Secured(context, self._speaks, self._shared, self._loop)
        shook = secured.shook
        await self._loop.connect_accepted_socket(lambda: secured, sock)
        try:
            await shook
        except asyncio.CancelledError:
            secured.abort()
            raise

    def _speaks(self, agreed: str | None) -> Downstream | Downstream2:
        """Make who goes on with a connection, by the protocol that was agreed on."""
        speaks = Downstream2 if agreed == HTTP2 else Downstream
        return speaks(self.door, self._loop)

    async def _is_tls(self, sock: socket.socket) -> bool:
        """Look at the first byte: TLS must authenticate, all else is plain."""
        return (await self._peek(sock, 1))[0] == _TLS_HANDSHAKE

    async def _begins(self, sock: socket.socket, opening: bytes) -> bool:
        """Look whether *opening* is what comes first."""
        first = await self._peek(sock, len(opening))
        while len(first) < len(opening) and opening.startswith(first):
            await asyncio.sleep(_GLANCE)  # the socket stays readable: it can't tell of more
            first = await self._peek(sock, len(opening))
        return first == opening

    async def _peek(self, sock: socket.socket, most: int) -> bytes:
        """Wait for the first bytes and return them without taking them."""
        ready = asyncio.Event()
        self._loop.add_reader(sock.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_reader(sock.fileno())
        first = sock.recv(most, socket.MSG_PEEK)
        if not first:
            raise ConnectionResetError("closed before the first byte")
        return first


def _asks_nothing(sock: socket.socket) -> bool:
    """Whether the first line that has come is no request of HTTP/1: HTTP/2 has a word for that."""
    line, ended, _ = sock.recv(_LINE, socket.MSG_PEEK).partition(b"\n")
    return bool(ended) and b" HTTP/" not in line


def peer_of(transport: asyncio.BaseTransport, gate: Gate) -> Peer | None:
    """Return who is at the other end of *transport*, or None after saying why not."""
    address = transport.get_extra_info("peername") or ("", 0)
    ip, port = str(address[0]), int(address[1])
    connection = transport.get_extra_info("ssl_object")
    if connection is None:
        return Peer(None, ip, port)
    identity = gate.identity()
    try:
        if identity is None:
            raise IdentityError("no_identity", "this sidecar has no certificate")
        svid = identity.peer(connection, gate.wall())
    except IdentityError as error:
        gate.failed(f"{ip}:{port}", error.reason, str(error))
        return None
    gate.shook()
    name = asked_name(connection)
    serial, ends = svid.serial, svid.not_after
    return Peer(svid.id, ip, port, svid.sha256, serial, ends, name, svid.signers)


def bind(address: str) -> socket.socket:
    """Return a listening socket on `host:port` or `[ipv6]:port`. Raises StartError."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, int(port)))
        sock.listen(_BACKLOG)
    except (OSError, ValueError, OverflowError) as error:
        sock.close()
        raise StartError(
            f"cannot listen on `{address}`: "
            f"{'it is not IP:PORT' if isinstance(error, ValueError) else error}",
            help="choose a free port of an address of this machine",
        ) from None
    sock.setblocking(False)
    return sock
