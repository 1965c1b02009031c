"""Two sidecars that make a mesh: a local process -> outbound -> mTLS -> inbound -> the server.

    with Recorder() as server, Pair(tmp_path).run(server.url) as (near, far):
        with near.local() as caller:           # plain HTTP over the outbound's Unix socket
            caller.ask("POST", "/mcp", tool("search"))

Each has a folder of its own, an identity of one mint, and admin pages.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .daemon import PATIENCE, Sidecar, free_port, sidecar
from .e2e import Daemon, Mesh
from .mint import Files, Mint
from .wire import Caller

HOST = "files.mesh"
FILES_ONLY: Mapping[str, Mapping[str, Any]] = {"files": {"service": HOST}}
FILES = "spiffe://cluster.local/ns/mcp-prod/sa/files"
ALICE = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: alice, namespace: mcp-prod}
spec:
  rules:
  - from: [{source: {principals: ["cluster.local/ns/agent/sa/alice"]}}]
"""


def entry(ports: Sequence[int], names: Sequence[str] = (FILES,), host: str = HOST) -> str:
    """The ServiceEntry of *host*, at *ports* of loopback; *names* are who may answer there."""
    endpoints = ", ".join(f"{{address: 127.0.0.1, ports: {{mcp: {port}}}}}" for port in ports)
    said = ", ".join(f'"{name}"' for name in names)
    return f"""\
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {host.partition(".")[0]}, namespace: agent}}
spec:
  hosts: [{host}]
  location: MESH_INTERNAL
  ports: [{{number: 8443, name: mcp}}]
  resolution: STATIC
  endpoints: [{endpoints}]
  subjectAltNames: [{said}]
"""


class Near(Daemon):
    """The caller's sidecar, with outbounds by name."""

    sockets: Mapping[str, Path]

    def local(self, name: str = "files") -> Caller:
        """Connect to an outbound as a process of this machine."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(str(self.sockets[name]))
        return Caller(sock)


class NearMesh(Mesh):
    """The folder of a sidecar that only calls, with the identity of *own*."""

    def __init__(self, folder: Path, mint: Mint, own: Files) -> None:
        self.folder = folder
        self.mint = mint
        self.own = own
        self.policies = folder / "policies"
        self.policies.mkdir(mode=0o755, parents=True)
        self._contexts = {}

    @contextmanager
    def calling(
        self, documents: str, outbound: Mapping[str, Mapping[str, Any]] = FILES_ONLY, **spec: Any
    ) -> Iterator[Near]:
        """Run it with *documents* and outbounds; each is a socket unless told otherwise."""
        admin = free_port()
        sockets = {name: self.folder / f"{name}.sock" for name in outbound}
        self.write("service.yaml", documents)
        placed = [{"listen": f"unix:{sockets[name]}", **one} for name, one in outbound.items()]
        self.place(placed, admin, **spec)
        with self.start() as process:
            near = Near(self, process, {"": 0}, admin)
            near.sockets = sockets
            near.wait_ready()
            yield near

    def place(self, outbound: Sequence[Mapping[str, Any]], admin: int, **spec: Any) -> None:
        """Write `sidecar.yaml` with these outbounds and no inbound."""
        path = self.bootstrap({}, admin, outbound=list(outbound), **spec)
        document = json.loads(path.read_text())
        del document["spec"]["inbound"]
        document["metadata"] = {"name": "agent", "namespace": "agent"}
        path.write_text(json.dumps(document, indent=1))


class Pair:
    """Two folders, and the identities `agent/alice` and `mcp-prod/files` of one mint."""

    def __init__(self, folder: Path) -> None:
        (folder / "far").mkdir()
        self.far = Mesh(folder / "far")
        self.mint = self.far.mint
        alice = self.mint.leaf("agent/alice", folder=folder / "near" / "own")
        self.near = NearMesh(folder / "near", self.mint, alice)

    @contextmanager
    def run(
        self, to: str, *, policy: str = ALICE, more: str = "", **outbound: Any
    ) -> Iterator[tuple[Near, Daemon]]:
        """Run both before the server *to*; *policy* is the far one's, *more* the near one's."""
        self.far.write("policy.yaml", policy)
        with (
            self.far.run({"mcp": {"to": to}}) as far,
            self.near.calling(
                entry([far.port]) + more, {"files": {"service": HOST, **outbound}}
            ) as near,
        ):
            yield near, far


@dataclass
class Behind:
    """What a client of the SDK reaches, and how: through one sidecar, or through two."""

    url: str
    port: int
    keeps: Daemon | Sidecar  # the sidecar that decides
    plain: bool = False

    def shown(self, name: str = "agent/alice") -> tuple[str, ...]:
        """Return the arguments of a client script that calls as *name*."""
        return () if self.plain else ("--certs", str(self.keeps.identity(name)))

    def identity(self, name: str) -> Path:
        return self.keeps.identity(name)

    def record(self, request_id: str) -> dict[str, Any]:
        """Return the line of a request that the deciding sidecar wrote."""
        return self.keeps.record(request_id)


@contextmanager
def behind(sidecars: str, folder: Path, url: str, policy: str) -> Iterator[Behind]:
    """Run `one` or `two` sidecars before the server at *url*."""
    if sidecars == "one":
        with sidecar(folder, url, policy) as alone:
            yield Behind(alone.url, alone.port, alone)
        return
    port = free_port()
    origin = "/".join(url.split("/")[:3])
    local = {"listen": f"127.0.0.1:{port}", "allowAnyLocalProcess": True}
    with Pair(folder).run(origin, policy=policy, **local) as (_, far):
        yield Behind(f"http://127.0.0.1:{port}/mcp", port, far, plain=True)
