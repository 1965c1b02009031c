"""Many calls at once on one event loop: servers that count, and callers that check every answer.

    async with Counting("v1") as v1, ...:
        async with Callers(daemon, "agent/alice", 8) as callers:
            answers = await callers.calls(10_000)      # Counter of who answered

A caller fails on any answer but 200.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from typing import Any, Self

from .e2e import Daemon

_PATIENCE = 60.0


class Counting:
    """A server that says its name to everybody; it begins a session for `initialize`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard = 0
        self.sessions: Counter[str] = Counter()  # calls of each session, its beginning too
        self.hosts: set[str] = set()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._socket.getsockname()[1])
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Transport] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Served(self), sock=self._socket)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Answer nobody any more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._socket.close()  # else the system would go on to accept
        for transport in list(self._open):
            transport.abort()

    def answer(self, head: bytes, body: bytes) -> bytes:
        """Return what is answered."""
        self.heard += 1
        fields = dict(
            line.decode("latin-1").split(": ", 1) for line in head.split(b"\r\n")[1:] if line
        )
        self.hosts.add(fields["host"])
        session = fields.get("mcp-session-id", "")
        lines = ""
        if b'"initialize"' in body:
            session = f"{self.name}-{self.heard}"
            lines = f"mcp-session-id: {session}\r\n"
        if session:
            self.sessions[session] += 1
        said = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"from": self.name}}).encode()
        return (
            f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{lines}"
            f"content-length: {len(said)}\r\n\r\n".encode()
            + said
        )


class _Served(asyncio.Protocol):
    def __init__(self, server: Counting) -> None:
        self._server = server
        self._data = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._server._open.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server._open.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end]
            length = _length(head)
            if len(self._data) < end + 4 + length:
                return
            body, self._data = (
                self._data[end + 4 : end + 4 + length],
                self._data[end + 4 + length :],
            )
            self._transport.write(self._server.answer(head, body))


class Answer:
    """One reply: who said it, the session it began, its status."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.status = int(head.split(b" ", 2)[1])
        self.body = body
        self.session = ""
        for line in head.split(b"\r\n"):
            if line.startswith(b"mcp-session-id: "):
                self.session = line.partition(b": ")[2].decode()

    @property
    def by(self) -> str:
        return str(json.loads(self.body)["result"]["from"])


class Client:
    """One connection to a sidecar; one call after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, method: str = "tools/call", session: str = "", *lines: str) -> Answer:
        """Send one message and return the reply, whatever it is."""
        params = {"name": "search", "arguments": {}} if method == "tools/call" else {}
        asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        body = json.dumps(asked).encode()
        if session:
            lines = (*lines, f"mcp-session-id: {session}")
        more = "".join(f"{line}\r\n" for line in lines)
        self._writer.write(
            f"POST /mcp HTTP/1.1\r\nhost: files\r\ncontent-type: application/json\r\n{more}"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        return Answer(head, await self._reader.readexactly(_length(head)))

    async def called(self, session: str = "") -> str:
        """Call a tool and return who answered; any other answer than 200 is a failure."""
        answer = await self.ask(session=session)
        assert answer.status == 200, (answer.status, answer.body)
        return answer.by

    def close(self) -> None:
        self._writer.close()


async def connect(daemon: Daemon, who: str = "agent/alice") -> Client:
    """Open a connection of *who* to *daemon*."""
    context = daemon.mesh.context(who)
    return Client(
        *await asyncio.open_connection(
            "127.0.0.1", daemon.port, ssl=context, server_hostname="127.0.0.1"
        )
    )


class Callers:
    """Several connections that call at once."""

    def __init__(self, daemon: Daemon, count: int) -> None:
        self._daemon, self._count = daemon, count
        self._clients: list[Client] = []
        self._stopped = False

    async def __aenter__(self) -> Self:
        self._clients = [await connect(self._daemon) for _ in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()

    async def calls(self, number: int) -> Counter[str]:
        """Make *number* calls and return how many each server answered."""
        shares = [number // self._count + (x < number % self._count) for x in range(self._count)]

        async def some(client: Client, share: int) -> Counter[str]:
            return Counter([await client.called() for _ in range(share)])

        async with asyncio.timeout(_PATIENCE):
            found = await asyncio.gather(*map(some, self._clients, shares))
        return sum(found, Counter())

    async def until(self, ended: asyncio.Event) -> Counter[str]:
        """Call without a pause until *ended*, and return how many each server answered."""

        async def on(client: Client) -> Counter[str]:
            found: Counter[str] = Counter()
            while not ended.is_set():
                found[await client.called()] += 1
            return found

        async with asyncio.timeout(_PATIENCE):
            return sum(await asyncio.gather(*map(on, self._clients)), Counter())


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def istio(kind: str, name: str, spec: Any) -> str:
    group = "security" if kind == "AuthorizationPolicy" else "networking"
    document = {
        "apiVersion": f"{group}.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "mcp-prod"},
        "spec": spec,
    }
    return f"---\n{json.dumps(document)}\n"


def service(host: str, *servers: Counting) -> str:
    """The servers of *host*, each with its own name as its version."""
    endpoints = [
        {"address": "127.0.0.1", "ports": {"http": one.port}, "labels": {"version": one.name}}
        for one in servers
    ]
    spec = {
        "hosts": [host],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC",
        "endpoints": endpoints,
    }
    return istio("ServiceEntry", host.partition(".")[0], spec)


EVERYBODY = istio("AuthorizationPolicy", "everybody", {"rules": [{}]})
