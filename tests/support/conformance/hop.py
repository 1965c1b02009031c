"""A hop that ends TLS on the caller's side: plain TCP in, mutual TLS to a sidecar out.

For callers that know no client certificates, such as the official conformance
suite. Bytes pass as they come and are not read, so nothing of HTTP is lost or
mended on the way; whoever leaves is left at once on the other side too. Without
TLS it joins a port that is known before a server is to one that comes later.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_PIECE = 64 * 1024
_PATIENCE = 1.0


@contextmanager
def hop(port: int, context: ssl.SSLContext | None, listen: int = 0) -> Iterator[str]:
    """Run a hop from the port *listen* to *port*, with TLS by *context*; yield its origin."""
    loop, started = asyncio.new_event_loop(), threading.Event()
    listening: list[int] = []
    hopping = _Hop(port, context, listen)

    def run() -> None:
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(hopping.listen())
        listening.append(server.sockets[0].getsockname()[1])
        started.set()
        loop.run_forever()
        server.close()
        loop.run_until_complete(hopping.end())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(10), "the hop did not start"
    try:
        yield f"http://localhost:{listening[0]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


class _Hop:
    def __init__(self, port: int, context: ssl.SSLContext | None, listen: int) -> None:
        self._port, self._context, self._listen = port, context, listen
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, "127.0.0.1", self._listen)

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.1)  # what was aborted is let go in the loop's next rounds

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._join(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, out = await asyncio.open_connection(
                "localhost",
                self._port,
                ssl=self._context,
                server_hostname="127.0.0.1" if self._context else None,
            )
        except (OSError, asyncio.CancelledError):
            await _closed(writer)
            return
        ways = [
            asyncio.ensure_future(_pump(reader, out)),
            asyncio.ensure_future(_pump(back, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, _closed(writer), _closed(out), return_exceptions=True)


async def _closed(writer: asyncio.StreamWriter) -> None:
    """Close, once what was written is on its way or nobody takes it."""
    writer.close()
    try:
        async with asyncio.timeout(_PATIENCE):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()
        await asyncio.sleep(0)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while piece := await source.read(_PIECE):
            sink.write(piece)
            await sink.drain()
    except OSError:
        pass
