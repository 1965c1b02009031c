"""A whole mesh on this machine, of real processes in a temporary folder.

CA, three identities, three replicas of the demo's server and one sidecar before
them. Leaving the block ends every process and removes the folder, whatever
happened inside.
"""

from __future__ import annotations

import http.client
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from . import documents
from .access import AccessLog
from .children import PATIENCE, Child, Children
from .client import Caller

REPLICAS: Final = 3

# Told of each step once it is done: a short noun, and what there is to know of it.
Tell: TypeAlias = Callable[[str, str], None]

_HOST: Final = "127.0.0.1"
_TTL: Final = "12h"


@dataclass(slots=True)
class Mesh:
    """What is up: *ports* are the replicas', *port* and *admin* the sidecar's."""

    folder: Path
    children: Children
    sidecar: Child
    replicas: list[Child]
    ports: list[int]
    port: int
    admin: int

    @property
    def url(self) -> str:
        return f"https://{_HOST}:{self.port}/mcp"

    @property
    def log(self) -> AccessLog:
        return AccessLog(self.folder / "access.log")

    @property
    def root(self) -> Path:
        """The folder that the replicas serve."""
        return self.folder / "files"

    def certs(self, name: str) -> Path:
        """The folder with the certificate of *name*, in the form `NS/SA`."""
        return self.folder / "certs" / name

    def caller(self, name: str) -> Caller:
        """Return a client with the certificate of *name*, or with none if it is empty."""
        bundle = self.certs(documents.SERVER) / "svid_bundle.pem"
        return Caller(self.port, bundle, self.certs(name) if name else None)

    def admin_text(self, path: str) -> tuple[int, str]:
        """GET *path* of the admin listener; raise OSError if it cannot be reached."""
        connection = http.client.HTTPConnection(_HOST, self.admin, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read(1 << 20).decode("utf-8", "replace")
        finally:
            connection.close()

    def revive(self, number: int) -> None:
        """Start replica *number* again, on the port it had."""
        again = _start_replica(self.children, self.root, number, self.ports[number])
        again.wait_for("listening")
        self.replicas[number] = again

    def require_alive(self) -> None:
        """Raise StartError if the sidecar has died."""
        if not self.sidecar.is_alive():
            raise self.sidecar.fault()


@contextmanager
def mesh(tell: Tell) -> Iterator[Mesh]:
    """Bring everything up, tell of each step, and take it all down at the end."""
    folder = Path(tempfile.mkdtemp(prefix="sidecar-demo-"))
    try:
        (folder / "logs").mkdir()
        with _undisturbed_end(Children(folder / "logs")) as children:
            tell("folder", str(folder))
            yield _raised(folder, children, tell)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _raised(folder: Path, children: Children, tell: Tell) -> Mesh:
    _issue(folder, children, tell)
    root = _filled(folder / "files")
    replicas = [_start_replica(children, root, number, 0) for number in range(REPLICAS)]
    ports = [int(replica.wait_for(r"listening on \S+:(\d+)/mcp")[1]) for replica in replicas]
    tell("server", f"{REPLICAS} replicas of `files` on ports {', '.join(map(str, ports))}")
    port, admin = _free_ports(2)
    policies = folder / "policies"
    policies.mkdir()
    (policies / "policy.yaml").write_text(documents.POLICY)
    (policies / "traffic.yaml").write_text(documents.traffic(ports))
    (folder / "sidecar.yaml").write_text(documents.bootstrap(port, admin))
    sidecar = children.start("sidecar", "-m", "sidecar", "run", "-c", str(folder / "sidecar.yaml"))
    raised = Mesh(folder, children, sidecar, replicas, ports, port, admin)
    _wait_ready(raised)
    tell("sidecar", f"{raised.url}  mTLS 1.3, admin http://{_HOST}:{admin}")
    return raised


def _issue(folder: Path, children: Children, tell: Tell) -> None:
    """Issue all certificates; the first one makes the CA, the others may then go side by side."""
    first, *others = (documents.SERVER, documents.ALICE, documents.MALLORY)
    # Ordinary clients compare the certificate with the host they dialled.
    _issuing(children, first, "--dns", "localhost", "--dns", _HOST).wait_end()
    tell("CA", f"cluster.local, made for this demo in {folder / 'certs' / 'ca'}")
    for child in [_issuing(children, name) for name in others]:
        child.wait_end()
    tell("identities", f"{'  '.join((first, *others))}  ({_TTL})")


def _issuing(children: Children, name: str, *more: str) -> Child:
    arguments = ("-m", "sidecar", "issue-cert", name, "--ttl", _TTL, *more)
    return children.start(f"issue-{name.replace('/', '-')}", *arguments)


def _filled(root: Path) -> Path:
    root.mkdir()
    (root / "notes.txt").write_text(documents.NOTES)
    (root / "report.txt").write_text(documents.POISON)
    return root


def _start_replica(children: Children, root: Path, number: int, port: int) -> Child:
    arguments = ("-m", "sidecar.demo.server", "--root", str(root), "--listen", f"{_HOST}:{port}")
    return children.start(f"replica-{number + 1}", *arguments)


def _wait_ready(raised: Mesh) -> None:
    deadline = time.monotonic() + PATIENCE
    while not _is_ready(raised):
        raised.sidecar.patience(deadline)


def _is_ready(raised: Mesh) -> bool:
    try:
        return raised.admin_text("/readyz")[0] == 200
    except OSError:
        return False


def _free_ports(count: int) -> list[int]:
    """Return ports of loopback that are free; all are held until the last is found."""
    probes = [socket.create_server((_HOST, 0)) for _ in range(count)]
    try:
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@contextmanager
def _undisturbed_end(children: Children) -> Iterator[Children]:
    """End the children at the end of the block; a second Ctrl-C does not stop that."""
    try:
        yield children
    finally:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = [(number, signal.signal(number, signal.SIG_IGN)) for number in numbers]
        children.end()
        for number, handler in before:
            signal.signal(number, handler)
