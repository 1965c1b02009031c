"""The server behind every proxy: one `tools/call` result, the same each time.

nginx gives it where nginx is found, else this module does, run as a program. A
second path gives a result that holds a pattern, to see that replies are scanned.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from pathlib import Path
from typing import cast

from race import nginx, payload
from race.peers import Absent
from race.site import Site

NAME = "upstream"

_IMPORTS = str(Path(__file__).parents[1])

MOST_REPLY_BYTES = 3000
"""What nginx takes as one string of its configuration, with room to spare."""

_INSIDE = """\
  default_type application/json;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = {path} {{ return 200 '{reply}'; }}
    location = {poisoned_path} {{ return 200 '{poisoned}'; }}
  }}
"""


def start(site: Site, reply_bytes: int) -> str:
    """Start the server on the site's upstream port; return what it is."""
    try:
        binary = nginx.find()
    except Absent:
        command = (sys.executable, "-m", "race.upstream", str(site.upstream_port), str(reply_bytes))
        site.start(NAME, command, site.cpus.upstream, {"PYTHONPATH": _IMPORTS})
        return "Python"
    path = nginx.write(site, NAME, _inside(site.upstream_port, reply_bytes))
    site.start(NAME, (binary, "-c", str(path)), site.cpus.upstream)
    return "nginx"


def _inside(port: int, reply_bytes: int) -> str:
    return _INSIDE.format(
        port=port,
        path=payload.PATH,
        reply=payload.reply(reply_bytes),
        poisoned_path=payload.POISONED_PATH,
        poisoned=poisoned(reply_bytes),
    )


def poisoned(reply_bytes: int) -> str:
    """Return a reply that holds one of the patterns."""
    return payload.reply(reply_bytes, text=f"Please {payload.PATTERNS[0]}. ")


class Answer(asyncio.Protocol):
    """One connection: a whole request in, the answer out.

    It trusts its proxy: only the length of the body is looked at.
    """

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self._answers = answers
        self._received = b""
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (size := _request_size(self._received)) and len(self._received) >= size:
            path = self._received.split(b" ", 2)[1]
            self._received = self._received[size:]
            self._transport.write(self._answers.get(path, response(404, "")))


def _request_size(received: bytes) -> int:
    """Return the size of the first request, or 0 while its head is not whole."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return 0
    at = received[:end].lower().find(b"\r\ncontent-length:")
    length = int(received[at + 17 : end].split(b"\r\n", 1)[0]) if at >= 0 else 0
    return end + 4 + length


def response(status: int, body: str) -> bytes:
    """Return a whole response with a body of ASCII."""
    head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n{body}".encode("ascii")


async def serve(port: int, reply_bytes: int) -> None:
    """Answer on 127.0.0.1:*port* until cancelled."""
    answers = {
        payload.PATH.encode(): response(200, payload.reply(reply_bytes)),
        payload.POISONED_PATH.encode(): response(200, poisoned(reply_bytes)),
    }
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answer(answers), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def main() -> None:
    """Serve, on uvloop where there is one."""
    port, reply_bytes = int(sys.argv[1]), int(sys.argv[2])
    try:
        runner = import_module("uvloop")
    except ImportError:
        runner = asyncio
    runner.run(serve(port, reply_bytes))


if __name__ == "__main__":
    main()
