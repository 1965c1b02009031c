"""TLS over a plain connection: whole both ways, ended so that nothing is lost, and bounded."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from support.e2e import Mesh

from sidecar.net import secure
from sidecar.net.secure import Secured, Shared

LARGE = bytes(range(256)) * 4096  # a MiB: 64 records, 16 times what is read at once


class App(asyncio.Protocol):
    """Whoever speaks over it: keeps what it is told, and answers as it is told to."""

    def __init__(self, agreed: str | None, answer: Callable[[App, bytes], None]) -> None:
        self.agreed = agreed
        self.transport: Any = None
        self.came = bytearray()
        self.ended = False
        self.lost: list[Exception | None] = []
        self.pauses = 0
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.came += data
        self._answer(self, data)

    def eof_received(self) -> bool:
        self.ended = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)

    def pause_writing(self) -> None:
        self.pauses += 1


class Site:
    """A server of `Secured` connections; `apps` are who speaks over them."""

    def __init__(self, mesh: Mesh, answer: Callable[[App, bytes], None]) -> None:
        self.mesh = mesh
        self.client = mesh.context("agent/alice")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(mesh.own.cert, mesh.own.key)
        self.context.set_alpn_protocols(["h2", "http/1.1"])
        self.apps: list[App] = []
        self.secured: list[Secured] = []
        self._answer = answer
        self._shared = Shared()
        self._writers: list[asyncio.StreamWriter] = []
        self._sock = socket.create_server(("127.0.0.1", 0))
        self._sock.setblocking(False)
        self.port = self._sock.getsockname()[1]

    async def accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self._sock)
            secured = Secured(self.context, self._speaks, self._shared, loop)
            self.secured.append(secured)
            await loop.connect_accepted_socket(lambda one=secured: one, sock)

    def _speaks(self, agreed: str | None) -> App:
        self.apps.append(App(agreed, self._answer))
        return self.apps[-1]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect over TLS."""
        return await self._open(ssl=self.client, server_hostname="127.0.0.1")

    async def plain(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect without TLS."""
        return await self._open()

    async def _open(self, **how: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, **how)
        self._writers.append(writer)
        return reader, writer

    async def close(self) -> None:
        for secured in self.secured:
            secured.abort()
        for writer in self._writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        self._sock.close()


@asynccontextmanager
async def site(
    folder: Path, answer: Callable[[App, bytes], None] = lambda app, data: None
) -> AsyncIterator[Site]:
    made = Site(Mesh(folder), answer)
    accepting = asyncio.create_task(made.accept())
    try:
        async with asyncio.timeout(30):
            yield made
    finally:
        accepting.cancel()
        await asyncio.gather(accepting, return_exceptions=True)
        await made.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def echo(app: App, data: bytes) -> None:
    app.transport.write(data)


def run(story: Any) -> None:
    uvloop.run(story)


def test_what_is_sent_arrives_whole_both_ways_on_two_connections_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with site(tmp_path, echo) as here:

            async def exchange(data: bytes) -> bytes:
                reader, writer = await here.connect()
                writer.write(data)
                return await reader.readexactly(len(data))

            other = LARGE[::-1]
            assert await asyncio.gather(exchange(LARGE), exchange(other)) == [LARGE, other]
            assert sorted(map(bytes, (app.came for app in here.apps))) == sorted((LARGE, other))
            assert all(one.shook.done() for one in here.secured)

    run(story())


def test_records_that_came_together_are_handed_on_together(tmp_path: Path) -> None:
    """Who works on a bounded part of what came must see how much has come."""

    async def story() -> None:
        async with site(tmp_path) as here:
            pieces: list[bytes] = []
            app = App("http/1.1", lambda _, data: pieces.append(data))
            secured = Secured(here.context, lambda _: app, Shared(), asyncio.get_running_loop())
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            caller = here.client.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")

            class Raw(asyncio.Transport):
                def write(self, data: bytes | bytearray | memoryview) -> None:
                    incoming.write(data)

            secured.connection_made(Raw())
            while not secured.shook.done():
                with suppress(ssl.SSLWantReadError):
                    caller.do_handshake()
                secured.data_received(outgoing.read())
            for text in (b"one", b"two", b"three"):
                caller.write(text)
            secured.data_received(outgoing.read())
            assert pieces == [b"onetwothree"]

    run(story())


def test_who_speaks_is_made_by_what_was_agreed_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with site(tmp_path, echo) as here:
            for number, offered in enumerate((["h2"], ["http/1.1"], [])):
                here.client = here.mesh.context(f"agent/{number}")
                if offered:
                    here.client.set_alpn_protocols(offered)
                await here.connect()
            await until(lambda: len(here.apps) == 3)
            assert [app.agreed for app in here.apps] == ["h2", "http/1.1", None]
            transport = here.apps[0].transport
            assert transport.get_extra_info("ssl_object").version() == "TLSv1.3"
            assert transport.get_extra_info("peername")[0] == "127.0.0.1"

    run(story())


def test_what_was_written_before_the_end_arrives_and_the_end_is_said(tmp_path: Path) -> None:
    def last(app: App, data: bytes) -> None:
        app.transport.write(LARGE)
        app.transport.close()
        app.transport.write(b"never")
        assert app.transport.is_closing()

    async def story() -> None:
        async with site(tmp_path, last) as here:
            reader, writer = await here.connect()
            writer.write(b"go")
            assert await reader.read(-1) == LARGE  # and no SSLEOFError: it was said
            writer.close()
            await until(lambda: here.apps[0].lost == [None])

    run(story())


def test_the_end_that_the_other_says_is_told_and_taken(tmp_path: Path) -> None:
    async def story() -> None:
        async with site(tmp_path, echo) as here:
            _, writer = await here.connect()
            writer.write(b"one")
            await until(lambda: bool(here.apps) and here.apps[0].came == b"one")
            writer.close()
            await until(lambda: here.apps[0].lost == [None])
            assert here.apps[0].ended

    run(story())


def test_who_never_says_goodbye_is_left_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secure, "_GOODBYE", 0.2)

    def talk() -> None:
        """A caller that goes on to send, reads nothing, and closes nothing."""
        sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        with mesh.wrap_socket(sock, server_hostname="127.0.0.1") as caller:
            caller.sendall(b"go")
            left.wait()

    async def story() -> None:
        nonlocal port, mesh
        async with site(tmp_path, lambda app, data: app.transport.close()) as here:
            port, mesh = here.port, here.client
            talking = asyncio.create_task(asyncio.to_thread(talk))
            await until(lambda: bool(here.apps) and bool(here.apps[0].lost))
            left.set()
            await talking

    left, port, mesh = threading.Event(), 0, ssl.create_default_context()
    run(story())


def test_a_slow_reader_gets_all_that_was_written_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secure, "_GOODBYE", 0.05)

    def last(app: App, data: bytes) -> None:
        app.transport.write(LARGE * 16)
        app.transport.close()

    def talk() -> bytes:
        """A caller that takes its time."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(20)
        sock.connect(("127.0.0.1", port))
        with mesh.wrap_socket(sock, server_hostname="127.0.0.1") as caller:
            caller.sendall(b"go")
            written.wait()
            return b"".join(iter(lambda: caller.recv(65_536), b""))

    async def story() -> None:
        nonlocal port, mesh
        async with site(tmp_path, last) as here:
            port, mesh = here.port, here.client
            talking = asyncio.create_task(asyncio.to_thread(talk))
            await until(lambda: bool(here.apps) and here.apps[0].transport.is_closing())
            assert here.apps[0].transport.get_write_buffer_size() > 0
            await asyncio.sleep(0.3)  # many times as long as it is waited for who has all
            written.set()
            assert await talking == LARGE * 16

    written, port, mesh = threading.Event(), 0, ssl.create_default_context()
    run(story())


@pytest.mark.parametrize(
    ("sent", "fault"),
    [(b"GET / HTTP/1.1\r\n\r\n", ssl.SSLError), (b"\x16\x03\x01", ConnectionResetError)],
)
def test_what_is_no_handshake_fails_and_nobody_speaks(
    sent: bytes, fault: type[Exception], tmp_path: Path
) -> None:
    async def story() -> None:
        async with site(tmp_path) as here:
            _, writer = await here.plain()
            writer.write(sent)
            writer.write_eof()
            await until(lambda: bool(here.secured) and here.secured[0].shook.done())
            assert isinstance(here.secured[0].shook.exception(), fault)
            assert here.apps == []

    run(story())


def test_a_record_that_was_changed_ends_the_connection(tmp_path: Path) -> None:
    async def story() -> None:
        async with site(tmp_path, echo) as here:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            ours = here.client.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
            reader, writer = await here.plain()
            while True:
                try:
                    ours.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(65536))
            ours.write(b"call")
            record = bytearray(outgoing.read())
            record[-1] ^= 1
            writer.write(record)
            await until(lambda: bool(here.apps) and bool(here.apps[0].lost))
            assert here.apps[0].came == b""
            assert here.apps[0].transport.is_closing()

    run(story())


def test_a_slow_reader_is_told_of_and_reading_can_be_put_off(tmp_path: Path) -> None:
    async def story() -> None:
        async with site(tmp_path, echo) as here:
            reader, writer = await here.connect()
            await until(lambda: bool(here.apps))
            app = here.apps[0]
            app.transport.set_write_buffer_limits(high=1000)
            app.transport.pause_reading()
            writer.write(b"later")
            await asyncio.sleep(0.1)
            assert app.came == b""
            app.transport.resume_reading()
            assert await reader.readexactly(5) == b"later"
            for _ in range(16):
                app.transport.write(LARGE)
            assert app.pauses == 1
            assert app.transport.get_write_buffer_size() > 0
            app.transport.abort()
            await until(lambda: bool(app.lost))

    run(story())
