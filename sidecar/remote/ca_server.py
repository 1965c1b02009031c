"""The CA's server: HTTPS around `ca.desk`, one question a connection.

TLS 1.3 alone; who renews shows its certificate in the handshake. Its own
certificate is made by the CA at the start and renewed by itself; the key never
touches a disk. Bytes, time and connections are bounded. What is asked of the disk
happens in one thread beside the loop.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from functools import partial
from ipaddress import ip_network
from typing import Final, TypeVar

import h11

from ..ca.desk import MAX_BODY, Answer, Desk
from ..ca.store import LocalCa, RotatedAway, key_pem, new_key
from ..errors import ProtocolError, SidecarError
from ..net.listener import bind
from ..net.tasks import Tasks
from ..net.tls import Pair, ca_context, verified_chain
from ..spiffe.bundle import Bundles, TrustBundle

T = TypeVar("T")

_MOST_HEAD: Final = 8_192  # bytes of a request's head
_PATIENCE: Final = 10.0  # seconds for a handshake, and for a question with its answer
_MOST_CONNECTIONS: Final = 512
_MOST_OF_ONE: Final = 128  # connections from one neighbourhood: nobody keeps all others out
_TEND_EVERY: Final = 1.0  # seconds
_OWN_TTL: Final = 86400.0
_PIECE: Final = 16_384


class CaServer:
    """Serves *desk* on *listen* (`IP:PORT`); `wall` is the time of day, `say` tells a person."""

    def __init__(
        self,
        desk: Desk,
        wall: Callable[[], float],
        say: Callable[[str], None],
        report: Callable[[str, BaseException], None],
    ) -> None:
        self._desk = desk
        self._wall = wall
        self._say = say
        self._tasks = Tasks(report)
        self._report = report
        self._disk = ThreadPoolExecutor(1, "disk")
        self._live: Counter[str] = Counter()
        self._socket: socket.socket
        self._context: ssl.SSLContext
        self._made_by: LocalCa
        self._renew_at = 0.0

    @property
    def address(self) -> str:
        """`host:port` as bound."""
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def start(self, listen: str) -> None:
        """Listen and answer. Raises StartError."""
        await self._certify()
        self._socket = bind(listen)
        self._tasks.spawn(self._accept(), "accepting")
        self._tasks.spawn(self._tend(), "the CA's own duties")

    async def stop(self) -> None:
        """Answer no more."""
        self._socket.close()
        await self._tasks.end()
        self._disk.shutdown()

    # -- beside the questions

    async def _certify(self) -> None:
        """Have a certificate of our own, from the CA as it is now."""
        now, key = self._wall(), new_key()
        ca = await self._on_disk(lambda: self._desk.ca)
        issued = await self._on_disk(partial(ca.issue_own, key.public_key(), ttl=_OWN_TTL, now=now))
        bundle = TrustBundle.from_pem(issued.bundle, ca.trust_domain)
        self._context = ca_context(Pair(issued.chain, key_pem(key)), Bundles.of([bundle]))
        self._made_by = ca
        self._renew_at = now + (issued.svid.not_after - now) / 2

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(_TEND_EVERY)
            try:
                now = self._wall()
                for line in await self._on_disk(partial(self._desk.tend, now)):
                    self._say(line)
                ca = await self._on_disk(lambda: self._desk.ca)
                if now >= self._renew_at or ca != self._made_by:
                    await self._certify()
            except RotatedAway:
                continue
            except (SidecarError, OSError) as error:
                self._say(f"a duty failed and is tried again: {error}")

    async def _on_disk(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)

    # -- one connection

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(self._socket)
            except OSError as error:
                self._say(f"a connection was not accepted: {error}")
                await asyncio.sleep(0.2)
                continue
            ip = str(address[0])
            who = neighbourhood(ip)
            if self._live[who] >= _MOST_OF_ONE or self._live.total() >= _MOST_CONNECTIONS:
                sock.close()
                continue
            self._live[who] += 1
            self._tasks.spawn(self._welcome(sock, ip), "a caller of the CA")

    async def _welcome(self, sock: socket.socket, ip: str) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_MOST_HEAD)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport: asyncio.Transport | None = None
        try:
            async with asyncio.timeout(_PATIENCE):
                transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol, sock, ssl=self._context
                )
                writer = asyncio.StreamWriter(transport, protocol, reader, loop)
                await self._converse(reader, writer, ip)
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, h11.ProtocolError):
            pass  # who cannot ask sees the closed connection
        finally:
            who = neighbourhood(ip)
            self._live[who] -= 1
            if not self._live[who]:
                del self._live[who]
            if transport is not None:
                transport.abort()  # who does not take the end is not waited for any longer
            else:
                sock.close()

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ip: str
    ) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_HEAD)
        chain = verified_chain(writer.get_extra_info("ssl_object"))
        method = b""
        try:
            request, body = await _question(http, reader)
            method = request.method
            answer = await self._answer(request, body, chain, ip)
        except ProtocolError as error:
            answer = Answer(error.status, b'{"reason":"malformed","message":"not a question"}\n')
        writer.write(_written(http, method, answer, self._wall()))
        await writer.drain()

    async def _answer(
        self, request: h11.Request, body: bytes, chain: Sequence[bytes], ip: str
    ) -> Answer:
        work = self._work(request.method, request.target.partition(b"?")[0], body, chain, ip)
        if work is None:
            return Answer(404, b'{"reason":"not_found","message":"there is nothing here"}\n')
        try:
            return await self._on_disk(work)
        except (SidecarError, OSError) as error:
            self._say(f"a question could not be answered: {error}")
            return Answer(503, b'{"reason":"unavailable","message":"the CA has a trouble"}\n')

    def _work(
        self, method: bytes, path: bytes, body: bytes, chain: Sequence[bytes], ip: str
    ) -> Callable[[], Answer] | None:
        desk, now = self._desk, self._wall()
        match method, path:
            case b"GET", b"/v1/bundle":
                return desk.bundle
            case b"GET", b"/v1/revocations":
                return desk.denied
            case b"POST", b"/v1/join":
                return partial(desk.join, body, ip, now)
            case b"POST", b"/v1/renew":
                return partial(desk.renew, chain, body, ip, now)
        return None


def neighbourhood(ip: str) -> str:
    """Return what counts as one address: of IPv6, the /64 that a single machine may have."""
    if ":" not in ip:
        return ip
    return str(ip_network((ip.partition("%")[0], 64), strict=False))


async def _question(
    http: h11.Connection, reader: asyncio.StreamReader
) -> tuple[h11.Request, bytes]:
    """Read one whole request. Raises ProtocolError."""
    request: h11.Request | None = None
    body = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(_PIECE))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BODY:
                raise ProtocolError("the question is too long", 413)
        elif isinstance(event, h11.EndOfMessage) and request is not None:
            return request, bytes(body)
        else:
            raise ProtocolError("no question")


def _written(http: h11.Connection, asked: bytes, answer: Answer, now: float) -> bytes:
    """Return what is sent to whoever *asked* by that method."""
    headers = [
        ("content-type", "application/json"),
        ("content-length", str(len(answer.body))),
        ("cache-control", "no-store"),
        ("connection", "close"),
        ("date", formatdate(now, usegmt=True)),
    ]
    head = h11.Response(status_code=answer.status, headers=headers)
    body = () if asked == b"HEAD" else (h11.Data(data=answer.body),)
    return b"".join(http.send(part) or b"" for part in (head, *body, h11.EndOfMessage()))
