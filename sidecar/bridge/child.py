"""One program and its three pipes: started in a process group of its own, and surely ended.

Its output is cut into lines, its standard error goes to the log, what it is told waits
within a bound. The end is the protocol's: its input is closed, then SIGTERM, then SIGKILL,
to all that it has started. What is said is not looked at here.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Final, cast

from ..config.stdio import StdioSpec
from ..errors import MessageError
from ..mcp.lines import LineSplitter
from .guard import Guard
from .stderr import Stderr

_MUTE: Final = "it closed its output"


@dataclass(frozen=True, slots=True)
class Nursery:
    """What all programs of a sidecar are started with."""

    guard: Guard
    environment: Mapping[str, str]  # this process' own
    now: Callable[[], float]  # seconds, monotonic
    say: Callable[[str], None]


class Child(asyncio.SubprocessProtocol):
    """One program. *heard* gets each line, *ended* is told once why there will be no more."""

    def __init__(
        self,
        spec: StdioSpec,
        nursery: Nursery,
        heard: Callable[[bytes], None],
        ended: Callable[[str], None],
    ) -> None:
        self._spec, self._nursery = spec, nursery
        self._heard, self._ended = heard, ended
        self._lines = LineSplitter(spec.line_bytes)
        self._stderr = Stderr()
        self._unsent: list[bytes] = []
        self._transport: asyncio.SubprocessTransport | None = None
        self._next_step = inf  # when the end goes on
        self._termed = False
        self._held = False
        self.started_at = nursery.now()
        self.pid = 0
        self.spoke = False
        self.ending = ""  # why its end was asked for
        self.over = False

    async def start(self) -> None:
        """Start it; tell *ended* where that is not possible."""
        env = self._spec.environment(self._nursery.environment)
        program, *arguments = self._spec.command
        if "/" not in program:
            program = shutil.which(program, path=env.get("PATH")) or program
        try:
            transport, _ = await asyncio.get_running_loop().subprocess_exec(
                lambda: self,
                program,
                *arguments,
                env=env,
                cwd=self._spec.cwd or None,
                start_new_session=True,
            )
        except OSError as error:
            self._nursery.say(f"`{program}` could not be started: {error.strerror}")
            self._finish("could not be started")
            return
        self._begin(transport)

    def _begin(self, transport: asyncio.SubprocessTransport) -> None:
        self._transport = transport
        unsent, self._unsent = self._unsent, []
        for line in unsent:
            self._stdin.write(line)
        if self.ending:
            self._close_input()

    @property
    def failed(self) -> bool:
        """Whether it ended by itself and never said a word."""
        return self.over and not self.spoke and self.ending in ("", _MUTE)

    # -- what it is told

    @property
    def waiting(self) -> int:
        """Bytes that it has not read."""
        if self._transport is None:
            return sum(map(len, self._unsent))
        return self._stdin.get_write_buffer_size()

    def tell(self, line: bytes) -> bool:
        """Write *line*, which has its end; False if it reads so little that there is no room."""
        waiting = self.waiting if not self.over else 0
        if self.over or self.ending or (waiting and waiting + len(line) > self._spec.queue_bytes):
            return False
        if self._transport is None:
            self._unsent.append(line)
        else:
            self._stdin.write(line)
        return True

    @property
    def _stdin(self) -> asyncio.WriteTransport:
        assert self._transport is not None
        return cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))

    def hold(self, held: bool) -> None:
        """Stop reading what it says, or go on."""
        pipe = None if self._transport is None else self._transport.get_pipe_transport(1)
        if pipe is None or self.over or held == self._held:
            return
        self._held = held
        stdout = cast(asyncio.ReadTransport, pipe)
        if held:
            stdout.pause_reading()
        else:
            stdout.resume_reading()

    # -- what it says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It has begun: it must not outlive us."""
        self.pid = cast(asyncio.SubprocessTransport, transport).get_pid()
        self._nursery.guard.watch(self.pid)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Take what it writes."""
        if fd == 2:
            for said in self._stderr.feed(data, self._nursery.now()):
                self._nursery.say(f"[{self.pid}] {said}")
            return
        self.spoke = True
        try:
            for line in self._lines.feed(data):
                if not self.over:
                    self._heard(line)
        except MessageError as error:
            self.end(str(error), at_once=True)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """Without its output it is of no use."""
        if fd == 1:
            self.end(_MUTE)

    def process_exited(self) -> None:
        """It has ended; what it has started, and left behind, ends too."""
        self._signal(signal.SIGKILL)
        self._nursery.guard.release(self.pid)
        self._next_step = self._nursery.now() + self._spec.end_timeout

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended, and all it said was heard."""
        self._finish(self._why())

    # -- its end

    def end(self, why: str, *, at_once: bool = False) -> None:
        """Have it end: by itself, and if it does not, by force; *at_once* without asking first."""
        if self.over:
            return
        self.ending = self.ending or why
        if self._transport is not None and self._transport.get_returncode() is None:
            self._close_input()
            if at_once and not self._termed:
                self._terminate()

    def _close_input(self) -> None:
        if self._next_step == inf:
            self._stdin.close()
            self._next_step = self._nursery.now() + self._spec.end_timeout

    def _terminate(self) -> None:
        self._termed = True
        self._signal(signal.SIGTERM)
        self._next_step = self._nursery.now() + self._spec.end_timeout

    def look(self, now: float) -> None:
        """Go on with an end that takes too long."""
        if now < self._next_step or self.over or self._transport is None:
            return
        if self._transport.get_returncode() is not None:
            self._transport.close()  # somebody who left its group still holds its pipes
            self._finish(self._why())
        elif not self._termed:
            self._terminate()
        else:
            self._signal(signal.SIGKILL)
            self._next_step = now + self._spec.end_timeout

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _why(self) -> str:
        if self.ending and self.ending != _MUTE:
            return self.ending
        code = None if self._transport is None else self._transport.get_returncode()
        if code is not None and code < 0:
            return f"it was ended by signal {-code}"
        return f"it ended with status {code}"

    def _finish(self, why: str) -> None:
        if not self.over:
            self.over = True
            self._unsent.clear()
            self._ended(why)
