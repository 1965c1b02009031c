"""TLS over a plain connection: what comes is decrypted and handed on, what is written encrypted.

It holds OpenSSL's state and nothing else: the buffers are its listener's, shared by all
connections. Who agreed on what in the handshake is asked once; a connection ends with
`close_notify`, then waits a while for the other's, so that nothing written is lost.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, cast

_READ: Final = 65_536  # bytes: four TLS records
_RECORD: Final = 16_384  # bytes encrypted at a time, so that OpenSSL keeps no large buffer
_GOODBYE: Final = 5.0  # seconds for a caller to close TLS, once all that was written has gone

# Makes who goes on with a connection, from the protocol that was agreed on.
Speaks: TypeAlias = Callable[[str | None], asyncio.Protocol]


def _buffer() -> memoryview:
    return memoryview(bytearray(_READ))


@dataclass(frozen=True, slots=True)
class Shared:
    """What all connections of a listener decrypt into: each takes what is its own at once."""

    plain: memoryview = field(default_factory=_buffer)


class Secured(asyncio.Transport, asyncio.Protocol):
    """One connection over TLS, as the server; *shook* is done once the handshake is.

    It is the protocol of the plain connection, and the transport of what *speaks* makes.
    """

    __slots__ = (
        "_closing",
        "_incoming",
        "_loop",
        "_object",
        "_outgoing",
        "_raw",
        "_shared",
        "_speaks",
        "_timer",
        "_to",
        "shook",
    )

    def __init__(
        self,
        context: ssl.SSLContext,
        speaks: Speaks,
        shared: Shared,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._speaks: Speaks | None = speaks
        self._shared = shared
        self._loop = loop
        self._raw: asyncio.Transport
        self._to: asyncio.Protocol | None = None
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self.shook: asyncio.Future[None] = loop.create_future()

    # -- what the plain connection tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast(asyncio.Transport, transport)  # uvloop's own do not inherit

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        try:
            if self._closing:
                self._wait_for_goodbye()
            elif self._to is not None:
                self._read(self._to)
            else:
                self._shake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._flush()  # the alert that says why
            self._fail(error)
        if self._outgoing.pending:
            self._flush()

    def eof_received(self) -> None:
        """Nobody leaves like that who speaks TLS: the connection closes."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        to, self._to = self._to, None  # or only the collector would free what OpenSSL holds
        if to is not None:
            to.connection_lost(exc)
        self._settle(exc or ConnectionResetError("closed during the handshake"))

    def pause_writing(self) -> None:
        if self._to is not None:
            self._to.pause_writing()

    def resume_writing(self) -> None:
        if self._to is not None:
            self._to.resume_writing()

    def _shake(self) -> None:
        self._object.do_handshake()
        self._flush()
        speaks, self._speaks = self._speaks, None
        assert speaks is not None
        self._to = to = speaks(self._object.selected_alpn_protocol())
        to.connection_made(self)
        self._settle(None)
        if not self._closing:
            self._read(to)

    def _settle(self, fault: Exception | None) -> None:
        if self.shook.done():
            return
        if fault is None:
            self.shook.set_result(None)
        else:
            self.shook.set_exception(fault)

    def _read(self, to: asyncio.Protocol) -> None:
        """Hand on all that came, in one piece: who bounds its work by turns must see it all."""
        plain, ours, incoming = self._shared.plain, self._object, self._incoming
        pieces: list[bytes] = []
        count = -1
        try:
            while count and incoming.pending:  # of a record OpenSSL never keeps half back
                count = ours.read(_READ, plain)  # type: ignore[assignment]
                if count:
                    pieces.append(bytes(plain[:count]))
        finally:
            if pieces:
                to.data_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        # Nothing was read: the other's `close_notify`.
        if not count and not self._closing and not to.eof_received():
            self.close()

    def _wait_for_goodbye(self) -> None:
        while self._incoming.pending:
            if not self._object.read(_READ, self._shared.plain):
                self._raw.close()
                return

    def _fail(self, error: Exception) -> None:
        self._settle(error)
        self._closing = True
        self._raw.close()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._raw.write(data)

    # -- what who speaks over it asks

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._closing:
            return
        try:
            if len(data) <= _RECORD:
                self._object.write(data)
                self._raw.write(self._outgoing.read())
            else:
                self._write_on(memoryview(data))
        except ssl.SSLError:
            self.abort()

    def _write_on(self, rest: memoryview) -> None:
        while rest:
            sent = self._object.write(rest[:_RECORD])
            self._raw.write(self._outgoing.read())
            rest = rest[sent:]

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        try:
            self._object.unwrap()
        except ssl.SSLWantReadError:  # the other's is still to come
            self._flush()
            self._raw.resume_reading()
            self._timer = self._loop.call_later(_GOODBYE, self._give_up)
        except ssl.SSLError:
            self._raw.abort()
        else:
            self._flush()
            self._raw.close()

    def _give_up(self) -> None:
        # A slow reader still gets what it was answered: who speaks sets the limit for that.
        if self._raw.get_write_buffer_size():
            self._timer = self._loop.call_later(_GOODBYE, self._give_up)
        else:
            self._raw.abort()

    def abort(self) -> None:
        self._closing = True
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._closing or self._raw.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._object
        return self._raw.get_extra_info(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high=high, low=low)

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        if not self._closing:
            self._raw.resume_reading()
