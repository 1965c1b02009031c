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
from pathlib import Path
from typing import Any

from .daemon import PATIENCE, free_port
from .e2e import Daemon, Mesh
from .mint import Files, Mint
from .wire import Caller

HOST = "files.mesh"
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
    """The caller's sidecar, with one outbound."""

    socket: Path

    def local(self) -> Caller:
        """Connect to the outbound as a process of this machine."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(str(self.socket))
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
    def calling(self, documents: str, **outbound: Any) -> Iterator[Near]:
        """Run it with *documents* and one outbound, a socket to HOST unless told otherwise."""
        path = self.folder / "files.sock"
        admin = free_port()
        self.write("service.yaml", documents)
        self.outbound({"listen": f"unix:{path}", "service": HOST, **outbound}, admin)
        with self.start() as process:
            near = Near(self, process, {"": 0}, admin)
            near.socket = path
            near.wait_ready()
            yield near

    def outbound(self, outbound: Mapping[str, Any], admin: int, **spec: Any) -> None:
        """Write `sidecar.yaml` with one outbound."""
        path = self.bootstrap({}, admin, outbound=[outbound], **spec)
        document = json.loads(path.read_text())
        del document["spec"]["inbound"]
        document["metadata"] = {"name": "agent", "namespace": "agent"}
        path.write_text(json.dumps(document, indent=1))


class Pair:
    """Two folders, and the identities `agent/alice` and `mcp-prod/files` of one mint."""

    def __init__(self, folder: Path, far: Files | None = None) -> None:
        (folder / "far").mkdir()
        self.far = Mesh(folder / "far")
        self.mint = self.far.mint
        alice = self.mint.leaf("agent/alice", folder=folder / "near" / "own")
        self.near = NearMesh(folder / "near", self.mint, alice)

    @contextmanager
    def run(
        self,
        to: str,
        *,
        policy: str = ALICE,
        more: str = "",
        names: Sequence[str] = (FILES,),
        **outbound: Any,
    ) -> Iterator[tuple[Near, Daemon]]:
        """Run both before the server *to*; *policy* is the far one's, *more* the near one's."""
        self.far.write("policy.yaml", policy)
        with (
            self.far.run({"mcp": {"to": to}}) as far,
            self.near.calling(entry([far.port], names) + more, **outbound) as near,
        ):
            yield near, far
