"""How much memory idle callers take: a thousand connections, two hundred streams.

A quarter of them is opened each time; `SIDECAR_MEASURE=1` opens all of them.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
import uvloop
from support.e2e import Daemon
from support.two_sidecars import Near, Pair
from support.wire import request, rpc

MEASURED = os.environ.get("SIDECAR_MEASURE") == "1"
PATIENCE = 60.0
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b"d\r\ndata: begun\n\n\r\n"
REPLY = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole"
STREAM = b"GET /mcp HTTP/1.1\r\nhost: files\r\naccept: text/event-stream\r\n\r\n"

Stream: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]

pytestmark = pytest.mark.timeout(180)
in_full = pytest.mark.skipif(not MEASURED, reason="takes a minute: set SIDECAR_MEASURE=1")


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The server: a GET begins a stream in which nothing more comes."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET"):
                writer.write(HEAD + EVENT)
                continue
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
            writer.write(REPLY)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


@contextmanager
def enough_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident(daemon: Daemon) -> int:
    """KiB that the process holds."""
    for line in Path(f"/proc/{daemon.process.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1])
    pytest.skip("this system does not tell what a process holds")


async def opened(how: Callable[[], Awaitable[Stream]], count: int, ask: bytes) -> list[Stream]:
    """Open *count* connections, and on each ask for what leaves it idle."""
    few = asyncio.Semaphore(16)

    async def one() -> Stream:
        async with few:
            reader, writer = await how()
            writer.write(ask)
            await reader.readuntil(b"begun\n\n\r\n" if ask is STREAM else b"whole")
            return reader, writer

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def each(
    daemon: Daemon, how: Callable[[], Awaitable[Stream]], count: int, ask: bytes
) -> float:
    """Return how many KiB more *daemon* holds for each of *count* that are open."""
    warm = await opened(how, 20, ask)
    before = resident(daemon)
    idle = await opened(how, count, ask)
    await asyncio.sleep(0.5)
    grown = (resident(daemon) - before) / count
    for _, writer in warm + idle:
        writer.close()
    return grown


def measured(folder: Path, kind: str, count: int) -> float:
    async def main() -> float:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512)
        port = server.sockets[0].getsockname()[1]
        running = Pair(folder).run(f"http://127.0.0.1:{port}")
        near, far = await asyncio.to_thread(running.__enter__)
        try:
            async with asyncio.timeout(PATIENCE):
                return await grown(near, far)
        finally:
            server.close()
            await asyncio.to_thread(running.__exit__, None, None, None)

    async def grown(near: Near, far: Daemon) -> float:
        context = far.mesh.context("agent/alice")

        async def over_tls() -> Stream:
            return await asyncio.open_connection(
                "127.0.0.1", far.port, ssl=context, server_hostname="127.0.0.1"
            )

        async def over_socket() -> Stream:
            return await asyncio.open_unix_connection(str(near.sockets["files"]))

        if kind == "outbound streams":
            return await each(near, over_socket, count, STREAM)
        ask = STREAM if kind == "streams" else request("POST", "/mcp", rpc("ping"))
        return await each(far, over_tls, count, ask)

    with enough_files():
        return uvloop.run(main())


@pytest.mark.parametrize(
    ("kind", "count", "most"),
    [
        ("connections", 250, 64),
        ("streams", 50, 96),
    ],
)
def test_an_idle_caller_takes_little(tmp_path: Path, kind: str, count: int, most: float) -> None:
    assert measured(tmp_path, kind, count) <= most


@in_full
@pytest.mark.parametrize(
    ("kind", "count", "most"),
    [("connections", 1000, 36), ("streams", 200, 64), ("outbound streams", 200, 64)],
)
def test_so_many_idle_callers_take_no_more_than_that_in_kib_each(
    tmp_path: Path, kind: str, count: int, most: float
) -> None:
    found = measured(tmp_path, kind, count)
    print(f"{kind}: {found:.1f} KiB each")
    assert found <= most
