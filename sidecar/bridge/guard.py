"""A process beside ours that ends the programs we started, should we end before them.

It holds a pipe from us and reads which process groups there are. However we go, by
SIGKILL too, the pipe closes; then it ends what is left: SIGTERM, and SIGKILL to whatever
is still there. It ignores what a terminal or a service manager sends to everybody.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Final, cast

from ..net.tasks import Tasks

_GRACE: Final = 2.0  # seconds between the two signals
_PROGRAM: Final = f"""
import os, signal, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
groups, rest = set(), b""
while data := os.read(0, 4096):
    *lines, rest = (rest + data).split(b"\\n")
    for line in lines:
        (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
def send(number):
    for group in list(groups):
        try:
            os.killpg(group, number)
        except OSError:
            groups.discard(group)
send(signal.SIGTERM)
until = time.monotonic() + {_GRACE}
while groups and time.monotonic() < until:
    time.sleep(0.02)
    send(0)
send(signal.SIGKILL)
"""


class Guard(asyncio.SubprocessProtocol):
    """The process, started before the first program, and again if it ends before us."""

    def __init__(self, tasks: Tasks, say: Callable[[str], None]) -> None:
        self._tasks = tasks
        self._say = say
        self._groups: set[int] = set()
        self._transport: asyncio.SubprocessTransport | None = None
        self._wanted = False

    @property
    def pid(self) -> int:
        """Its process id, 0 while there is none."""
        return 0 if self._transport is None else self._transport.get_pid()

    def watch(self, group: int) -> None:
        """End the process group *group* should we end."""
        self._groups.add(group)
        self._tell(b"+%d\n" % group)

    def start(self) -> None:
        """Be there before the first program is."""
        if not self._wanted:
            self._wanted = True
            self._tasks.spawn(self._start(), "guard")

    def release(self, group: int) -> None:
        """The process group *group* is no more."""
        self._groups.discard(group)
        self._tell(b"-%d\n" % group)

    def stop(self) -> None:
        """It is needed no more."""
        self._wanted = False
        if self._transport is not None:
            cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0)).close()

    def process_exited(self) -> None:
        """Start another one: nobody would end the programs."""
        self._transport = None
        if self._wanted:
            self._say("the guard of programs ended, and is started again")
            self._tasks.spawn(self._start(), "guard")

    async def _start(self) -> None:
        argv = (sys.executable, "-I", "-S", "-c", _PROGRAM)
        try:
            transport, _ = await asyncio.get_running_loop().subprocess_exec(
                lambda: self, *argv, stdout=None, stderr=None, start_new_session=True, env={}
            )
        except OSError as error:
            self._wanted = False
            self._say(f"the guard of programs could not be started: {error.strerror}")
            return
        self._transport = transport
        for group in self._groups:
            self._tell(b"+%d\n" % group)
        if not self._wanted:
            self.stop()

    def _tell(self, line: bytes) -> None:
        if self._transport is not None:
            cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0)).write(line)
