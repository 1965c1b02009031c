"""A sidecar for end-to-end tests: a real process between a raw server and raw callers.

    with Recorder() as server, Mesh(tmp_path).run({"mcp": {"to": server.url}}) as daemon:
        with daemon.caller("agent/alice") as alice:
            reply = alice.ask("POST", "/mcp", tool("search"))
        server.heard            # every request as it came, and over which connection

Certificates are minted, not issued, so that wrong ones can be had.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .daemon import PATIENCE, Process, Sidecar, free_port, running
from .mint import Files, Mint
from .warm import SIDECAR
from .wire import Caller, eventually


def client_context(files: Files | None, bundle: Path | None = None) -> ssl.SSLContext:
    """Return a context that trusts the mesh and shows the certificate of *files*, or none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(bundle or (files and files.bundle))
    if files is not None:
        context.load_cert_chain(files.cert, files.key)
    return context


class Daemon(Sidecar):
    """A running sidecar; callers' certificates come from the mint."""

    def __init__(self, mesh: Mesh, process: Process, ports: Mapping[str, int], admin: int) -> None:
        super().__init__(mesh.folder, process, next(iter(ports.values())), admin)
        self.mesh = mesh
        self.ports = ports  # of inbounds, by name

    def caller(
        self, who: str | Files | ssl.SSLContext = "agent/alice", inbound: str = ""
    ) -> Caller:
        """Connect as *who*: a short name, a certificate, or a context of one's own."""
        context = who if isinstance(who, ssl.SSLContext) else self.mesh.context(who)
        return Caller(context.wrap_socket(self.dial(inbound), server_hostname="127.0.0.1"))

    def plain(self, inbound: str = "") -> Caller:
        """Connect without TLS."""
        return Caller(self.dial(inbound))

    def dial(self, inbound: str = "") -> socket.socket:
        return Caller.dial(self.ports[inbound] if inbound else self.port)

    def said(self) -> str:
        """Return what it has written to stderr."""
        return self.process.stderr.read_text(errors="replace")

    def page(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Ask the admin listener."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=PATIENCE)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def stats(self) -> dict[str, float]:
        """Return the counters."""
        lines = self.page("/stats")[1].splitlines()
        return {name: float(value) for name, _, value in (x.rpartition(": ") for x in lines)}

    def event(self, **wanted: str) -> dict[str, Any]:
        """Return the log line with these fields, once it is written."""

        def look() -> dict[str, Any] | None:
            return next((x for x in self.records() if wanted.items() <= x.items()), None)

        return eventually(look, f"log line {wanted}")

    def reload(self) -> str:
        """Send SIGHUP; return what it then says, up to the outcome."""
        before = len(self.said())
        self.process.signal(1)
        outcomes = ("configuration reloaded", "stays in force")
        eventually(lambda: any(x in self.said()[before:] for x in outcomes), "a reload's outcome")
        return self.said()[before:]


class Mesh:
    """A CA, a folder for one sidecar, and what is written there."""

    def __init__(self, folder: Path, trust_domain: str = "cluster.local") -> None:
        self.folder = folder
        self.mint = Mint(folder / "mint", trust_domain)
        self.own = self.mint.leaf("mcp-prod/files", folder=folder / "own")
        self.policies = folder / "policies"
        self.policies.mkdir(mode=0o755)
        self._contexts: dict[str, ssl.SSLContext] = {}

    def context(self, who: str | Files) -> ssl.SSLContext:
        """Return the context of a caller; the one of a name is made once."""
        if isinstance(who, Files):
            return client_context(who, self.own.bundle)
        if who not in self._contexts:
            self._contexts[who] = client_context(self.mint.leaf(who), self.own.bundle)
        return self._contexts[who]

    def write(self, name: str, text: str) -> Path:
        """Put a document into the folder of policies, whole or not at all."""
        staged = self.folder / f"{name}.new"
        staged.write_text(text)
        staged.chmod(0o644)
        return staged.rename(self.policies / name)

    def bootstrap(
        self, inbound: Mapping[str, Mapping[str, Any]], admin: int | None, **spec: Any
    ) -> Path:
        """Write `sidecar.yaml`; JSON is YAML. Without an *admin* port, the default holds."""
        whole = {
            "identity": {"certs": "./own"},
            "inbound": list(inbound.values()),
            "admin": {"listen": f"127.0.0.1:{admin}"} if admin else None,
            "documents": ["./policies"],
            "log": {"access": "./access.log"},
            **spec,
        }
        document = {
            "apiVersion": "sidecar/v1",
            "kind": "Sidecar",
            "metadata": {"name": "files", "namespace": "mcp-prod", "labels": {"app": "mcp-server"}},
            "spec": {key: value for key, value in whole.items() if value is not None},
        }
        path = self.folder / "sidecar.yaml"
        path.write_text(json.dumps(document, indent=1))
        path.chmod(0o644)
        return path

    @contextmanager
    def run(self, inbound: Mapping[str, Mapping[str, Any]], **spec: Any) -> Iterator[Daemon]:
        """Run a sidecar with these inbounds: name -> `to` and the rest; a port is chosen."""
        placed = {
            name: {"listen": f"127.0.0.1:{free_port()}", **one} for name, one in inbound.items()
        }
        ports = {name: int(one["listen"].rpartition(":")[2]) for name, one in placed.items()}
        admin = free_port()
        self.bootstrap(placed, admin, **spec)
        with self.start() as process:
            daemon = Daemon(self, process, ports, admin)
            daemon.wait_ready()
            yield daemon

    @contextmanager
    def start(self) -> Iterator[Process]:
        """Run `sidecar run` with the bootstrap as it is written, ready or not."""
        argv = [*SIDECAR, "run", "-c", "sidecar.yaml"]
        with running("sidecar", argv, self.folder) as process:
            yield process
