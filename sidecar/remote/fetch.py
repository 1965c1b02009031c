"""One GET of a small document, over TLS that is verified, within a limit of bytes and time.

No redirect is followed and no content coding taken: what answers is what was named.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import h11

from ..errors import SidecarError

_MOST_HEAD: Final = 16_384  # bytes of a reply's head
_PIECE: Final = 4_096


class FetchError(SidecarError):
    """The document did not come; the message says why, and names no query."""


async def fetch(
    url: str, most: int, seconds: float, context: Callable[[], ssl.SSLContext]
) -> bytes:
    """Return the body of *url*, at most *most* bytes, within so many *seconds*.

    *context* is called for https only, and in a thread: it reads files. Raises FetchError.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _get(url, most, context)
    except TimeoutError:
        raise FetchError(f"it took longer than {seconds:g} s") from None
    except ssl.SSLError as error:
        raise FetchError(f"TLS failed: {error.reason or error}") from None
    except OSError as error:
        raise FetchError(f"it cannot be reached: {error.strerror or error}") from None
    except (h11.RemoteProtocolError, UnicodeError) as error:
        raise FetchError(f"the answer is not HTTP: {error}") from None


async def _get(url: str, most: int, context: Callable[[], ssl.SSLContext]) -> bytes:
    parts = urlsplit(url)
    tls, port = None, parts.port or 80
    if parts.scheme == "https":
        tls = await asyncio.get_running_loop().run_in_executor(None, context)
        port = parts.port or 443
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=tls)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        client = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEAD)
        asked = h11.Request(
            method="GET",
            target=target,
            headers=[
                ("host", parts.netloc),
                ("accept", "application/json"),
                ("connection", "close"),
            ],
        )
        writer.write((client.send(asked) or b"") + (client.send(h11.EndOfMessage()) or b""))
        return await _body(client, reader, most)
    finally:
        # Nothing is waited for: the other side may never say goodbye.
        writer.transport.abort()


async def _body(client: h11.Connection, reader: asyncio.StreamReader, most: int) -> bytes:
    body = bytearray()
    while True:
        event = client.next_event()
        if event is h11.NEED_DATA:
            client.receive_data(await reader.read(_PIECE))
        elif isinstance(event, h11.Response):
            if event.status_code != 200:
                raise FetchError(f"it answers {event.status_code}")
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > most:
                raise FetchError(f"it is longer than {most} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return bytes(body)
        elif not isinstance(event, h11.InformationalResponse):
            raise FetchError("it closed before it had answered")
