"""Connections in memory and a clock that is told: no sockets, no waiting.

A `Pipe` is our side's transport, and the test plays the peer: `say`, `hang_up`,
`reset`, `stall`. A `MemoryLoop` hands one out for each address that is dialled,
and its timers follow the clock that the test moves.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

STEPS = 40  # turns of the loop in which everything that can happen has happened


class Clock:
    """Seconds since nothing in particular, moved by hand."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Pipe(asyncio.Transport):
    """One connection: `written` is what our side wrote, `end` how our side ended it."""

    def __init__(self, protocol: asyncio.Protocol, *, secure: bool = True) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = b""
        self.end = ""
        self.said_end = False  # our side says no more, and still listens
        self.reading = True
        self.unsent = 0
        self.high: int | None = None  # above which a reader is slow
        self._secure = secure
        self._held = b""
        self._loop = loop()
        self._loop.opened.append(self)
        protocol.connection_made(self)

    # What the peer does.

    def say(self, data: bytes) -> None:
        """The peer sends *data*; it waits while our side does not read."""
        self._held += data
        self._deliver()

    def hang_up(self) -> None:
        """The peer sends no more."""
        if not self.end and not self.protocol.eof_received():
            self.close()

    def reset(self) -> None:
        """The connection breaks."""
        if not self.end:
            self.end = "reset"
            self.protocol.connection_lost(ConnectionResetError("reset by peer"))

    def stall(self) -> None:
        """The peer takes nothing more for now."""
        self.unsent = 100_000
        self.protocol.pause_writing()

    def drain(self) -> None:
        """The peer takes what has waited."""
        self.unsent = 0
        self.protocol.resume_writing()

    def heard(self) -> bytes:
        """Return what was written since the last time."""
        data, self.written = self.written, b""
        return data

    # What our side does.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.said_end, "written after the end"
        assert self.end != "reset", "written to what is no more"
        if not self.end:
            self.written += bytes(data)

    def write_eof(self) -> None:
        assert not self._secure, "TLS has no such end"
        self.said_end = True

    def close(self) -> None:
        self._finish("closed")

    def abort(self) -> None:
        self._finish("aborted")

    def is_closing(self) -> bool:
        return bool(self.end)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self._loop.call_soon(self._deliver)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        known = {"peername": ("10.0.0.9", 4711), "ssl_object": object() if self._secure else None}
        return known.get(name, default)

    def _finish(self, how: str) -> None:
        if how == "closed" and self.unsent and not self.end:
            self.end = "closing"  # what was written goes first, and it does not go
        elif self.end in ("", "closing"):
            self.end = how
            self._loop.call_soon(self.protocol.connection_lost, None)

    def _deliver(self) -> None:
        if self.reading and self._held and not self.end:
            data, self._held = self._held, b""
            self.protocol.data_received(data)


class MemoryLoop(asyncio.SelectorEventLoop):
    """Dials in memory: *refuse* and *hang* say which addresses do not answer."""

    def __init__(self) -> None:
        self.clock = Clock()
        super().__init__()
        self.pipes: dict[str, list[Pipe]] = {}
        self.opened: list[Pipe] = []
        self.refuse: set[str] = set()
        self.hang: set[str] = set()
        self.on_open: Callable[[Pipe], None] = lambda pipe: None

    def time(self) -> float:
        return self.clock()

    def dialled(self, address: str) -> int:
        """How many connections were opened to *address*."""
        return len(self.pipes.get(address, []))

    async def create_connection(self, factory: Any, host: str, port: int) -> Any:  # type: ignore[override]
        return await self._open(factory, f"{host}:{port}")

    async def create_unix_connection(self, factory: Any, path: str) -> Any:  # type: ignore[override]
        return await self._open(factory, f"unix:{path}")

    async def _open(self, factory: Any, address: str) -> Any:
        await asyncio.sleep(0)
        if address in self.refuse:
            raise ConnectionRefusedError(f"refused by {address}")
        if address in self.hang:
            await self.create_future()
        protocol = factory()
        pipe = Pipe(protocol, secure=False)
        self.pipes.setdefault(address, []).append(pipe)
        self.on_open(pipe)
        await asyncio.sleep(0)
        return pipe, protocol

    async def settle(self, seconds: float = 0.0) -> None:
        """Move the clock by *seconds*, then let happen whatever can happen now."""
        self.clock.now += seconds
        for _ in range(STEPS):
            await asyncio.sleep(0)


def loop() -> MemoryLoop:
    """Return the running loop."""
    running = asyncio.get_running_loop()
    assert isinstance(running, MemoryLoop)
    return running


def in_memory(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Let a test that is a coroutine run on a loop of its own, in memory."""

    async def whole(*args: Any, **kwargs: Any) -> None:
        try:
            await test(*args, **kwargs)
        finally:
            # What is still under way ends as it would where a process ends.
            for pipe in loop().opened:
                pipe.abort()
            await loop().settle()

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=MemoryLoop) as runner:
            runner.run(whole(*args, **kwargs))

    return run
