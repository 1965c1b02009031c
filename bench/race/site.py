"""Where a race is held: a folder, certificates, CPUs, and the processes started.

Every process started here is stopped here, by its id, when the site is left, be
it by an exception, Ctrl-C or SIGTERM. Should the race itself be killed, the
kernel ends them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from race import measure
from race.certs import Identities, mint

_STOP_SECONDS = 4.0
_LOG_TAIL = 1500
_PR_SET_PDEATHSIG = 1

_OPENSSL_CONF = """\
openssl_conf = race
[race]
ssl_conf = ssl
[ssl]
system_default = all
[all]
Ciphersuites = TLS_AES_128_GCM_SHA256
"""


@dataclass(frozen=True, slots=True)
class Cpus:
    """Which CPU the proxies run on, and which the load and the upstream."""

    proxy: frozenset[int]
    load: frozenset[int]
    upstream: frozenset[int]


def choose_cpus(available: Sequence[int]) -> Cpus:
    """Return one CPU for the proxies and others, where there are any, for the rest."""
    proxy = available[0]
    load = available[1] if len(available) > 1 else proxy
    upstream = available[2] if len(available) > 2 else load
    return Cpus(frozenset({proxy}), frozenset({load}), frozenset({upstream}))


@dataclass(frozen=True, slots=True)
class Binaries:
    """What is run where more than one may be installed; `envoy` may be empty."""

    python: str = sys.executable
    envoy: str = ""


class Site:
    """A folder with certificates, and the processes started in it."""

    def __init__(self, cpus: Cpus, binaries: Binaries) -> None:
        self.cpus = cpus
        self.binaries = binaries
        self._temporary = tempfile.TemporaryDirectory(prefix="sidecar-race-")
        self.folder = Path(self._temporary.name)
        self.identities: Identities = mint(self.folder / "certs")
        self.upstream_port = free_port()
        self._openssl_conf = self.write("openssl.cnf", _OPENSSL_CONF)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Site:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes.values():
            _stop(process)
        self._temporary.cleanup()

    def write(self, name: str, text: str) -> Path:
        """Write a file of the site, readable by its owner alone; return its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(text)
        path.chmod(0o600)
        return path

    def start(
        self,
        name: str,
        command: Sequence[str],
        cpus: frozenset[int],
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start *command* on *cpus*; what it prints goes to a log of its own."""
        with open(self.folder / f"{name}.log", "wb") as log:
            self._processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                preexec_fn=lambda: _settle(cpus),
            )

    def run_load(
        self, command: Sequence[str], order: str, patience: float
    ) -> subprocess.CompletedProcess[str] | None:
        """Run the load with *order* as its input; return nothing if it takes too long.

        It offers every proxy the same one TLS cipher, which OpenSSL is told by a file.
        """
        try:
            return subprocess.run(
                command,
                input=order,
                capture_output=True,
                text=True,
                timeout=patience,
                cwd=Path(__file__).parents[1],
                env={**os.environ, "OPENSSL_CONF": str(self._openssl_conf)},
                start_new_session=True,
                preexec_fn=lambda: _settle(self.cpus.load),
            )
        except subprocess.TimeoutExpired:
            return None

    def pid(self, name: str) -> int:
        """Return the process id of what was started as *name*."""
        return self._processes[name].pid

    def is_running(self, name: str) -> bool:
        """Return whether what was started as *name* is still there."""
        return self._processes[name].poll() is None

    def stop(self, name: str) -> None:
        """Stop what was started as *name*, with all its children."""
        _stop(self._processes.pop(name))

    def trim_logs(self) -> None:
        """Empty all logs, so that a long race does not fill the disk."""
        for path in self.folder.glob("*.log"):
            os.truncate(path, 0)

    def log_tail(self, name: str) -> str:
        """Return the end of what *name* printed."""
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace")[-_LOG_TAIL:].strip() if path.exists() else ""


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _settle(cpus: frozenset[int]) -> None:
    """Run in the child: keep to *cpus*, and end with the race even if it is killed."""
    os.sched_setaffinity(0, cpus)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    pids = measure.tree(process.pid)
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        for pid in pids:
            _kill(pid)
        process.wait(_STOP_SECONDS)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
