"""Processes that need not load what they run: a process that has loaded it forks each of them.

To load a sidecar takes its processor longer than most tests keep it busy, and there are hundreds
of them. A fork is its own process in all that can be seen from outside: pid, session, folder,
environment, streams, signals and exit code. With SIDECAR_LONG_TESTS=1 nothing is forked.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO

from .long import LONG

SERVER = Path(__file__).with_name("warm_server.py")
COLD = (sys.executable, "-m", "sidecar")
SIDECAR = COLD if LONG else ("sidecar.cli",)
SDK_SERVERS = ("support.sdk_server", "support.sdk_catalogue", "support.conformance.server")
# Modules whose `main` a fork can be -> what is loaded for it: what it would load in any case.
LOADED: Mapping[str, tuple[str, ...]] = {
    "sidecar.cli": ("uvloop", "sidecar.app", "sidecar.cli.run", "sidecar.cli.ca_serve"),
    **dict.fromkeys(SDK_SERVERS, SDK_SERVERS),
}


class Fork:
    """A child, as `subprocess.Popen` would show it: *argv* is a module's name and arguments."""

    def __init__(
        self,
        argv: Sequence[str],
        stdout: IO[bytes],
        stderr: IO[bytes],
        cwd: Path,
        env: Mapping[str, str],
    ) -> None:
        self.returncode: int | None = None
        self._end, told = os.pipe()
        try:
            descriptors = [stdout.fileno(), stderr.fileno(), told]
            self.pid = _server(LOADED[argv[0]]).fork(list(argv), str(cwd), dict(env), descriptors)
        finally:
            os.close(told)

    def __del__(self) -> None:
        if self.returncode is None:
            os.close(self._end)

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._look(0)

    def wait(self, timeout: float) -> int:
        """Wait for the end at most *timeout* seconds; return the exit code."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("a fork", timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended: its number may be another's by now."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def _look(self, patience: float) -> int | None:
        if self.returncode is None and self._has_ended(patience):
            self.returncode = int(os.read(self._end, 16) or -signal.SIGKILL)
            os.close(self._end)
        return self.returncode

    def _has_ended(self, patience: float) -> bool:
        poll = select.poll()  # `select` knows no descriptor above 1023
        poll.register(self._end, select.POLLIN)
        return bool(poll.poll(patience * 1000))


class _Server:
    """The process that forks, for as long as this one lives."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._control, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(SERVER), str(theirs.fileno()), *modules],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def fork(self, argv: list[str], cwd: str, env: dict[str, str], descriptors: list[int]) -> int:
        message = json.dumps({"argv": argv, "cwd": cwd, "env": env}).encode()
        socket.send_fds(self._control, [message], descriptors)
        pid = self._control.recv(16)
        assert pid, "what forks the tests' processes has ended"
        return int(pid)

    def stop(self) -> None:
        self._control.close()
        self._process.wait(30)


_RUNNING: list[_Server] = []


@cache
def _server(modules: tuple[str, ...]) -> _Server:
    _RUNNING.append(server := _Server(modules))
    return server


def stop() -> None:
    """End what forks, at the end of the session."""
    while _RUNNING:
        _RUNNING.pop().stop()
    _server.cache_clear()
