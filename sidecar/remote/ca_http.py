"""One question to a server that proves itself by SPIFFE: who answers is judged before it is asked.

Bounded in bytes and in time; no redirect is followed. `fetch` is its sibling for
servers that the public web's authorities vouch for.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import h11

from ..errors import IdentityError, SidecarError

_MOST_HEAD: Final = 16_384  # bytes of a reply's head
_PIECE: Final = 16_384


class CaAway(SidecarError):
    """No answer came, or none that can be believed; the same question may be asked again."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question: the whole URL, and what is posted, if it is not a GET."""

    url: str
    body: bytes | None = None


async def ask(
    asked: Asked,
    context: ssl.SSLContext,
    judge: Callable[[ssl.SSLObject], None],
    *,
    most: int,
    seconds: float,
) -> tuple[int, bytes]:
    """Return the status and the body of the answer, at most *most* bytes. Raises CaAway.

    *judge* raises IdentityError if the other end is not who it should be; then
    nothing is sent to it.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _ask(asked, context, judge, most)
    except TimeoutError:
        raise CaAway(f"no answer within {seconds:g} s") from None
    except IdentityError as error:
        raise CaAway(f"who answers is not believed: {error}") from None
    except ssl.SSLCertVerificationError as error:
        raise CaAway(f"who answers is not believed: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise CaAway(f"TLS failed: {error.reason or error}") from None
    except OSError as error:
        raise CaAway(f"it cannot be reached: {error.strerror or error}") from None
    except (h11.RemoteProtocolError, UnicodeError) as error:
        raise CaAway(f"the answer is not HTTP: {error}") from None


async def _ask(
    asked: Asked, context: ssl.SSLContext, judge: Callable[[ssl.SSLObject], None], most: int
) -> tuple[int, bytes]:
    parts = urlsplit(asked.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=context)
    try:
        judge(writer.get_extra_info("ssl_object"))
        client = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEAD)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        writer.write(_written(client, asked, parts.netloc, target))
        return await _answer(client, reader, most)
    finally:
        writer.transport.abort()  # the other side may never say goodbye


def _written(client: h11.Connection, asked: Asked, host: str, target: str) -> bytes:
    headers = [("host", host), ("accept", "application/json"), ("connection", "close")]
    if asked.body is not None:
        headers += [("content-type", "application/json"), ("content-length", str(len(asked.body)))]
    method = "GET" if asked.body is None else "POST"
    parts = [client.send(h11.Request(method=method, target=target, headers=headers))]
    if asked.body is not None:
        parts.append(client.send(h11.Data(data=asked.body)))
    parts.append(client.send(h11.EndOfMessage()))
    return b"".join(part or b"" for part in parts)


async def _answer(
    client: h11.Connection, reader: asyncio.StreamReader, most: int
) -> tuple[int, bytes]:
    status, body = 0, bytearray()
    while True:
        event = client.next_event()
        if event is h11.NEED_DATA:
            client.receive_data(await reader.read(_PIECE))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > most:
                raise CaAway(f"the answer is longer than {most} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return status, bytes(body)
        elif not isinstance(event, h11.InformationalResponse):
            raise CaAway("it closed before it had answered")
