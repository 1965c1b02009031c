"""A small real MCP server of files: Streamable HTTP at `/mcp`, on loopback.

`python -m sidecar.demo.server --listen 127.0.0.1:0 --root DIR` serves the text
files of DIR and prints its URL once it listens. Heads, bodies, connections and
waits are bounded. With `--status N` it answers every request with that status,
to show what a failing replica does.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import h11

from .files import Folder
from .protocol import Answer, FilesProtocol
from .tools import Tools

MAX_HEAD: Final = 16 * 1024
MAX_BODY: Final = 1024 * 1024
MAX_CONNECTIONS: Final = 256
IDLE: Final = 120.0

Answering: TypeAlias = Callable[[h11.Request, bytes], Answer]

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


class HttpServer:
    """Serves one protocol object on one address; *status* overrides every answer."""

    def __init__(self, protocol: FilesProtocol, status: int = 0) -> None:
        self._protocol = protocol
        self._status = status
        self._open = 0

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side closes it."""
        self._open += 1
        try:
            if self._open <= MAX_CONNECTIONS:
                await _Connection(self.answer, reader, writer).serve()
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            pass  # the caller left, or the server stops: nobody awaits this task
        finally:
            self._open -= 1
            writer.close()

    def answer(self, request: h11.Request, body: bytes) -> Answer:
        """Return the answer to one whole request."""
        headers = _headers(request)
        if self._status:
            return Answer(self._status)
        if request.target.partition(b"?")[0] != b"/mcp":
            return Answer(404)
        if not _is_local(headers.get("origin")):
            return Answer(403)
        if request.method != b"POST":
            # No stream is offered and no session kept: both eras allow 405 for GET and DELETE.
            return Answer(405, allow="POST")
        return self._protocol.answer(headers, body)


class _Connection:
    """One HTTP/1.1 connection: requests in turn, each read whole and then answered."""

    def __init__(
        self,
        answer: Answering,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._answer = answer
        self._reader, self._writer = reader, writer
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)

    async def serve(self) -> None:
        """Answer requests until the connection is of no more use."""
        while True:
            async with asyncio.timeout(IDLE):
                try:
                    whole = await self._read()
                except h11.RemoteProtocolError as error:
                    await self._refuse(Answer(error.error_status_hint))
                    return
            if whole is None:
                return
            request, body = whole
            if body is None:
                await self._refuse(Answer(413))
                return
            await self._send(self._answer(request, body), request_id=_request_id(request))
            if self._h11.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                return
            self._h11.start_next_cycle()

    async def _read(self) -> tuple[h11.Request, bytes | None] | None:
        """Return the next request and its body (None if too long), or None at the end."""
        event = await self._event()
        if not isinstance(event, h11.Request):
            return None
        body = bytearray()
        while isinstance(part := await self._event(), h11.Data):
            body += part.data
            if len(body) > MAX_BODY:
                return event, None
        return (event, bytes(body)) if isinstance(part, h11.EndOfMessage) else None

    async def _event(self) -> object:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if self._h11.they_are_waiting_for_100_continue:
                self._write(h11.InformationalResponse(status_code=100, headers=[]))
            self._h11.receive_data(await self._reader.read(64 * 1024))
        return event

    async def _refuse(self, answer: Answer) -> None:
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self._send(answer, close=True)

    async def _send(
        self, answer: Answer, *, close: bool = False, request_id: str | None = None
    ) -> None:
        headers = [("content-length", str(len(answer.body)))]
        if answer.body:
            headers.append(("content-type", "application/json"))
        if answer.allow:
            headers.append(("allow", answer.allow))
        if request_id:
            headers.append(("x-request-id", request_id))
        if close:
            headers.append(("connection", "close"))
        self._write(h11.Response(status_code=answer.status, headers=headers))
        self._write(h11.Data(data=answer.body))
        self._write(h11.EndOfMessage())
        await self._writer.drain()

    def _write(self, event: h11.Event) -> None:
        self._writer.write(self._h11.send(event) or b"")


async def serve(listen: str, server: HttpServer) -> None:
    """Listen on *listen*, print the URL, and serve until SIGTERM or SIGINT."""
    host, _, port = listen.rpartition(":")
    listening = await asyncio.start_server(server.converse, host.strip("[]"), int(port))
    bound = listening.sockets[0].getsockname()[1]
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    print(f"listening on http://{host}:{bound}/mcp", flush=True)
    await stopped.wait()
    listening.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Parse *argv* and serve; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sidecar.demo.server", description=__doc__)
    parser.add_argument("--listen", type=_address, default="127.0.0.1:9000", metavar="HOST:PORT")
    parser.add_argument("--root", type=Path, required=True, help="the folder to serve")
    parser.add_argument("--status", type=int, default=0, help="answer everything with this status")
    args = parser.parse_args(argv)
    try:
        protocol = FilesProtocol(Tools(Folder(args.root)))
        asyncio.run(serve(args.listen, HttpServer(protocol, args.status)))
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _address(value: str) -> str:
    """Accept HOST:PORT on loopback only: this server asks nobody who they are."""
    host, _, port = value.rpartition(":")
    if host not in _LOOPBACK or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"`{value}` is not a loopback address and a port")
    return value


def _headers(request: h11.Request) -> Mapping[str, str]:
    """Fold the fields; a name given twice has both values, so it equals neither."""
    folded: dict[str, str] = {}
    for name, value in request.headers:
        key, text = name.decode("ascii"), value.decode("latin-1")
        folded[key] = f"{folded[key]}, {text}" if key in folded else text
    return folded


def _request_id(request: h11.Request) -> str | None:
    """The id a proxy gave the request: told back, so that both ends can name it."""
    return _headers(request).get("x-request-id")


def _is_local(origin: str | None) -> bool:
    """Tell whether a browser's Origin, if any, is a page of this machine (DNS rebinding)."""
    if origin is None:
        return True
    host = origin.partition("://")[2].rpartition(":")[0] or origin.partition("://")[2]
    return host in _LOOPBACK


if __name__ == "__main__":
    sys.exit(main())
