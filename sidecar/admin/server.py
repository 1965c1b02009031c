"""The admin listener: a few pages of plain text for whoever runs this sidecar.

It reads and never changes anything. By default it is a Unix socket that only
its owner may open; on TCP it answers only to its own name, so that a page in a
browser cannot be turned against it. h11 reads the requests.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import h11

from ..errors import StartError

_MAX_REQUEST: Final = 16_384
_PATIENCE: Final = 10.0  # seconds for one request and its answer
_MAX_CONNECTIONS: Final = 64


@dataclass(frozen=True, slots=True)
class Page:
    """What a path answers with."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200


# What makes a page, given the query that stands behind its path.
Make: TypeAlias = Callable[[str], Page]


class AdminServer:
    """Serves *pages* by path, on a Unix socket or on TCP."""

    def __init__(self, pages: Mapping[str, Make]) -> None:
        self._pages = pages
        self._server: asyncio.Server | None = None
        self._hosts: frozenset[bytes] | None = None  # None on a Unix socket: any name
        self._socket: Path | None = None
        self._live = 0

    async def start(self, listen: str) -> None:
        """Listen on `host:port` or `unix:/path`. Raises StartError."""
        try:
            if listen.startswith("unix:"):
                await self._start_unix(Path(listen.removeprefix("unix:")))
            else:
                await self._start_tcp(listen)
        except OSError as error:
            raise StartError(
                f"the admin listener cannot have `{listen}`: {error}",
                help="set `admin: {listen: ...}` to a free address or socket path",
            ) from None

    async def _start_tcp(self, listen: str) -> None:
        host, _, port = listen.rpartition(":")
        self._server = await asyncio.start_server(self._serve, host.strip("[]"), int(port))
        bound = self._server.sockets[0].getsockname()[1]
        names = {host, "localhost", "127.0.0.1"}
        self._hosts = frozenset(f"{name}:{bound}".encode() for name in names)

    async def _start_unix(self, path: Path) -> None:
        _make_room(path)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, str(path))
        finally:
            os.umask(before)
        self._socket = path

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)

    @property
    def address(self) -> str:
        """Where it listens, as one would write it."""
        if self._socket is not None:
            return f"unix:{self._socket}"
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._live += 1
        try:
            if self._live <= _MAX_CONNECTIONS:
                async with asyncio.timeout(_PATIENCE):
                    await self._answer(reader, writer)
        except (OSError, TimeoutError, h11.ProtocolError):
            pass  # a broken request of an operator's tool: it sees the closed connection
        finally:
            self._live -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_REQUEST)
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(_MAX_REQUEST))
            elif isinstance(event, h11.Request):
                page = self._page(event)
                break
            else:
                return
        body = b"" if event.method == b"HEAD" else page.body
        head = h11.Response(
            status_code=page.status,
            headers=[
                ("content-type", page.content_type),
                ("content-length", str(len(page.body))),
                ("cache-control", "no-store"),
                ("x-content-type-options", "nosniff"),
                ("connection", "close"),
            ],
        )
        for part in (head, h11.Data(data=body), h11.EndOfMessage()):
            writer.write(http.send(part) or b"")
        await writer.drain()

    def _page(self, request: h11.Request) -> Page:
        if request.method not in (b"GET", b"HEAD"):
            return Page(b"only GET: this listener changes nothing\n", status=405)
        headers = dict(request.headers)
        if self._hosts is not None and headers.get(b"host", b"").lower() not in self._hosts:
            return Page(b"ask by the address that is listened on\n", status=403)
        path, _, query = bytes(request.target).decode("ascii").partition("?")
        make = self._pages.get(path)
        if make is None:
            known = "\n".join(sorted(self._pages))
            return Page(f"no such page; there are:\n{known}\n".encode(), status=404)
        try:
            return make(query)
        except ValueError as error:  # the query is none that its page can read
            return Page(f"{error}\n".encode(), status=400)


def _make_room(path: Path) -> None:
    """Make the socket's folder, and remove a socket that nobody listens on any more.

    Raises OSError where somebody does: the loop itself would take the path away.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        if _answers(path):
            raise OSError(errno.EADDRINUSE, "another process listens on it")
        path.unlink()


def _answers(path: Path) -> bool:
    """Whether somebody listens on the socket at *path*."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0.5)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def default_socket(environment: Mapping[str, str], name: str, temporary: str, uid: int) -> str:
    """Return where the admin socket of the sidecar *name* is unless told otherwise.

    `$RUNTIME_DIRECTORY` (systemd), `$XDG_RUNTIME_DIR/sidecar`, or a folder of our own in
    the temporary one.
    """
    folder = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if not folder:
        runtime = environment.get("XDG_RUNTIME_DIR", "")
        folder = f"{runtime}/sidecar" if runtime else f"{temporary}/sidecar-{uid}"
    return f"unix:{folder}/{name}.sock"
