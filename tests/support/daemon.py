"""Child processes for tests: started in a group of their own, output kept, always ended.

A `Process` writes to files, so a chatty child never blocks; `wait_for` polls
for a line and fails with everything the child said if it dies or stays silent.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO, Any

from .shell import typed
from .warm import LOADED, SIDECAR, Fork

PYTHON = sys.executable
PATIENCE = 30.0


class Process:
    """One child: *name* names its output files in *folder*.

    Where *argv* begins with a module of `warm.LOADED`, it is a fork of what has loaded that.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        folder: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.stdout, self.stderr = folder / f"{name}.out", folder / f"{name}.err"
        whole = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self._child = _begin([str(part) for part in argv], out, err, folder, whole)

    @property
    def pid(self) -> int:
        return self._child.pid

    def said(self) -> str:
        """Return all it has written so far, both streams."""
        return (
            f"--- {self.name} stdout\n{self.stdout.read_text(errors='replace')}"
            f"--- {self.name} stderr\n{self.stderr.read_text(errors='replace')}"
        )

    def wait_for(self, pattern: str, patience: float = PATIENCE) -> re.Match[str]:
        """Return the first match of *pattern* in its stdout; fail if it dies before."""
        deadline = time.monotonic() + patience
        while True:
            ended = self._child.poll() is not None
            found = re.search(pattern, self.stdout.read_text(errors="replace"))
            if found:
                return found
            assert not ended, f"{self.name} ended with {self._child.returncode}\n{self.said()}"
            assert time.monotonic() < deadline, f"{self.name} never said {pattern}\n{self.said()}"
            time.sleep(0.02)

    def wait(self, patience: float = PATIENCE) -> int:
        """Wait for its end and return the exit code."""
        return self._child.wait(patience)

    def signal(self, number: int) -> None:
        self._child.send_signal(number)

    def is_alive(self) -> bool:
        return self._child.poll() is None

    def stop(self) -> int:
        """End it and its group: SIGTERM, then SIGKILL; return the exit code."""
        if self.is_alive():
            self.signal(signal.SIGTERM)
            try:
                self._child.wait(5)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self._child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return self._child.wait(PATIENCE)


def _begin(
    argv: Sequence[str], out: IO[bytes], err: IO[bytes], folder: Path, env: Mapping[str, str]
) -> subprocess.Popen[bytes] | Fork:
    if argv[0] in LOADED:
        return Fork(argv, out, err, folder, env)
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        cwd=folder,
        env=env,
        start_new_session=True,
    )


@contextmanager
def running(
    name: str,
    argv: Sequence[str],
    folder: Path,
    env: Mapping[str, str] | None = None,
) -> Iterator[Process]:
    """Run *argv* in *folder* for the time of the block."""
    process = Process(name, argv, folder, env)
    try:
        yield process
    finally:
        process.stop()


BOOTSTRAP = """\
apiVersion: sidecar/v1
kind: Sidecar
metadata: {{name: files, namespace: mcp-prod, labels: {{app: mcp-server}}}}
spec:
  trustDomain: cluster.local
  identity: {{certs: ./certs/mcp-prod/files}}
  inbound:
  - listen: 127.0.0.1:{port}
    to: {to}
  admin: {{listen: 127.0.0.1:{admin}}}
  documents: [./policies]
  log: {{access: ./access.log}}
"""


class Sidecar:
    """A running `sidecar run -c FILE` and the folder it runs in, certificates included."""

    def __init__(self, folder: Path, process: Process, port: int, admin: int) -> None:
        self.folder, self.process = folder, process
        self.port, self.admin = port, admin
        self.url = f"https://127.0.0.1:{port}/mcp"
        self.access_log = folder / "access.log"

    def identity(self, name: str) -> Path:
        """Return the folder of the certificate of *name* (`NS/SA`), issued at the first asking."""
        return issue(self.folder, name)

    def records(self) -> list[dict[str, Any]]:
        """Return the access lines written so far."""
        if not self.access_log.exists():
            return []
        whole = self.access_log.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def record(self, request_id: str, patience: float = PATIENCE) -> dict[str, Any]:
        """Return the access line of one request; records are written in batches."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            for line in self.records():
                if line.get("request_id") == request_id:
                    return line
            time.sleep(0.02)
        raise AssertionError(f"no record of {request_id}\n{self.process.said()}")

    def wait_ready(self, patience: float = PATIENCE) -> None:
        """Wait for `/readyz`; fail with all it said if it dies or never is."""
        deadline = time.monotonic() + patience
        while not self._is_ready():
            assert self.process.is_alive(), f"the sidecar ended\n{self.process.said()}"
            assert time.monotonic() < deadline, f"never ready\n{self.process.said()}"
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


@contextmanager
def sidecar(folder: Path, to: str, documents: str, bootstrap: str = BOOTSTRAP) -> Iterator[Sidecar]:
    """Run a sidecar before *to* (an origin; a path is cut off) with *documents* in force."""
    port, admin = free_port(), free_port()
    origin = "/".join(to.split("/")[:3]) if to.startswith("http") else to
    (folder / "policies").mkdir(exist_ok=True)
    (folder / "policies" / "policy.yaml").write_text(documents)
    text = bootstrap.format(port=port, admin=admin, to=origin)
    (folder / "sidecar.yaml").write_text(text)
    issue(folder, "mcp-prod/files", "--dns", "localhost", "--dns", "127.0.0.1")
    argv = [*SIDECAR, "run", "-c", "sidecar.yaml"]
    with running("sidecar", argv, folder) as process:
        started = Sidecar(folder, process, port, admin)
        started.wait_ready()
        yield started


def issue(folder: Path, name: str, *more: str) -> Path:
    """Issue a certificate for *name* from the CA of *folder*, once."""
    certs = folder / "certs" / name
    if not (certs / "svid.pem").exists():
        done = typed(folder, "issue-cert", name, *more)
        assert done.returncode == 0, f"issue-cert {name}\n{done.stdout}{done.stderr}"
    return certs


def free_port() -> int:
    """Return a port of loopback that nothing has, nor will before it is listened on.

    It is none that the system hands out by itself, nor one of another worker's.
    """
    for port in _PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


def _ports() -> Iterator[int]:
    """Yield this worker's share of the ports below those of outgoing connections, by turns."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = 20_000 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    first = 12_000 + worker * share
    for turn in count(os.getpid() * 61):  # another session begins elsewhere
        yield first + turn % share


_PORTS = _ports()
