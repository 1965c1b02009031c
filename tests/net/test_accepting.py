"""Accepting on real sockets: who is turned away before the handshake, and who waits too long."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import uvloop
from support.callers import request

from sidecar.http.h1 import Bounds, Request
from sidecar.http.lines import LineTables
from sidecar.net.caller import Door, Times
from sidecar.net.deadlines import Deadlines
from sidecar.net.downstream import Downstream
from sidecar.net.listener import Gate, Listener, Mtls, bind, peer_of
from sidecar.net.tasks import Tasks


class Refused:
    """What the gate was told: reason after reason."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def __call__(self, peer: str, reason: str, detail: str) -> None:
        self.reasons.append(reason)


async def hello(request: Request, down: Downstream) -> None:
    down.write(b"hello\n")


def gate(refused: Refused, mode: Mtls = Mtls.DISABLE, **limits: float) -> Gate:
    """A gate without an identity; limits are wide unless they are given."""
    wide = {"max_connections": 10, "max_handshakes": 10, "handshake_timeout": 10.0}
    return Gate(
        mode=lambda _: mode,
        identity=lambda: None,
        wall=lambda: 0.0,
        failed=refused,
        shook=lambda: None,
        **{**wide, **limits},  # type: ignore[arg-type]
    )


@asynccontextmanager
async def listening(sock: socket.socket, gate: Gate) -> AsyncIterator[tuple[Listener, int]]:
    """Accept on *sock* for the time of the block."""
    loop = asyncio.get_running_loop()
    faults: list[BaseException] = []
    tasks = Tasks(lambda _, fault: faults.append(fault))
    deadlines = Deadlines(loop, loop.time)
    door = Door(
        inbound="test",
        port=1,
        bounds=Bounds(),
        times=Times(),
        tables=LineTables(32_768, 16),
        deadlines=deadlines,
        serve=hello,
        spawn=tasks.spawn,
        live=set(),
        identify=lambda transport, down: peer_of(transport, gate),
    )
    port = sock.getsockname()[1]
    listener = Listener(sock, door, gate, tasks)
    listener.start()
    try:
        yield listener, port
    finally:
        listener.stop()
        await tasks.end()
        assert faults == []


async def said(port: int, data: bytes = request("GET", "/", b"", "connection: close")) -> bytes:
    """Connect, send *data*, and return all that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionResetError:
        return b""
    finally:
        await leave(writer)


async def leave(writer: asyncio.StreamWriter) -> None:
    """Close a connection, and wait until both sides have."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    await asyncio.sleep(0.05)


def real(test: Callable[..., object]) -> Callable[..., None]:
    """Run a test on the loop that the daemon has."""

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(test())  # type: ignore[arg-type]

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@real
async def test_who_is_let_in_is_served() -> None:
    refused = Refused()
    async with listening(bind("127.0.0.1:0"), gate(refused)) as (listener, port):
        assert listener.address == f"127.0.0.1:{port}"
        assert await said(port) == b"hello\n"
    assert refused.reasons == []


@real
async def test_beyond_the_limit_connections_are_closed_and_later_ones_served() -> None:
    refused = Refused()
    async with listening(bind("127.0.0.1:0"), gate(refused, max_connections=2)) as (_, port):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert await said(port) == b""
        assert refused.reasons == ["too_many_connections"]
        for _, writer in held:
            await leave(writer)
        await asyncio.sleep(0.05)
        assert await said(port) == b"hello\n"


@real
async def test_handshakes_that_stall_are_bounded_in_number_and_in_time() -> None:
    refused = Refused()
    limits = gate(refused, Mtls.PERMISSIVE, max_handshakes=2, handshake_timeout=1.0)
    async with listening(bind("127.0.0.1:0"), limits) as (_, port):
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert await said(port) == b""
        assert refused.reasons == ["too_many_connections"]
        for reader, writer in silent:
            assert await asyncio.wait_for(reader.read(), 20) == b""
            await leave(writer)
        assert refused.reasons[1:] == ["timeout", "timeout"]
        assert await said(port) == b"hello\n"


@real
async def test_who_closes_before_the_first_byte_is_no_fault() -> None:
    refused = Refused()
    async with listening(bind("127.0.0.1:0"), gate(refused, Mtls.PERMISSIVE)) as (_, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        await leave(writer)
        assert refused.reasons == ["closed"]
        assert await said(port) == b"hello\n"


@pytest.mark.parametrize("mode", [Mtls.STRICT, Mtls.PERMISSIVE])
def test_without_a_certificate_tls_is_refused_and_never_passed_on(mode: Mtls) -> None:
    refused = Refused()

    async def story() -> None:
        async with listening(bind("127.0.0.1:0"), gate(refused, mode)) as (_, port):
            assert await said(port, b"\x16\x03\x01\x00\x05hello") == b""
            if mode is Mtls.STRICT:
                assert await said(port) == b""

    real(story)()
    assert set(refused.reasons) == {"no_identity"}


class Exhausted(socket.socket):
    """Runs out of descriptors for the first accepts."""

    failures = 3

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "too many open files")
        return super().accept()


@real
async def test_out_of_descriptors_it_rests_and_then_accepts_again() -> None:
    refused = Refused()
    sock = Exhausted()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    sock.setblocking(False)
    async with listening(sock, gate(refused)) as (_, port):
        assert await said(port) == b"hello\n"
    assert refused.reasons == ["out_of_descriptors"] * 3, "a ready socket is not spun on"


@real
async def test_a_listener_that_was_stopped_while_it_rested_stays_stopped() -> None:
    refused = Refused()
    sock = Exhausted()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    sock.setblocking(False)
    async with listening(sock, gate(refused)) as (listener, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.05)
        listener.stop()
        await asyncio.sleep(0.3)
        await leave(writer)
        with pytest.raises(OSError, match=r"refused|reset"):
            await asyncio.open_connection("127.0.0.1", port)
    assert refused.reasons == ["out_of_descriptors"]
