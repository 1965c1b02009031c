"""A running sidecar before servers that do as a script says, and what it has in hand.

    with started(folder, {"mcp": RawUpstream(SCRIPTS)}, limits={"callTimeout": "1s"}) as world:
        with world.caller() as alice:
            assert alice.ask("GET", "/resets").status == 502
        world.expect_rest()

Each server has a listener of its name; `plain` is one more before the first of them,
without TLS. A caller is `agent/alice`, who may do everything.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.daemon import free_port
from support.e2e import Daemon, Mesh
from support.raw_caller import Caller
from support.raw_upstream import Connection, RawUpstream, Script
from support.speaker import Caller2

MIB = 1024 * 1024
TEXT = "content-type: text/plain"
JSON = "content-type: application/json"
ALLOWED = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: alice, namespace: mcp-prod}}
spec:
  rules:
  - from: [{{source: {{principals: ["cluster.local/ns/agent/sa/alice"]}}}}]
  - to: [{{operation: {{ports: ["{plain}"]}}}}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: plain, namespace: mcp-prod}}
spec:
  selector: {{matchLabels: {{app: mcp-server}}}}
  mtls: {{mode: STRICT}}
  portLevelMtls: {{{plain}: {{mode: DISABLE}}}}
"""


def raw(data: bytes, *, closes: bool = True) -> Script:
    """Say *data*, and close."""

    def script(connection: Connection) -> None:
        connection.send(data)
        if closes:
            connection.close()

    return script


def resets_after(data: bytes) -> Script:
    """Say *data*, and reset."""

    def script(connection: Connection) -> None:
        connection.send(data)
        time.sleep(0.1)  # a reset overtakes what the other side has not read
        connection.reset()

    return script


def silent(connection: Connection) -> None:
    """Say nothing until the other side leaves."""
    connection.is_left()


@dataclass
class World:
    """One sidecar and its servers; `certs` are alice's."""

    daemon: Daemon
    servers: Mapping[str, RawUpstream]
    certs: Path
    before: dict[str, float] = field(default_factory=dict)

    @property
    def server(self) -> RawUpstream:
        """The first of the servers."""
        return next(iter(self.servers.values()))

    # -- callers

    def caller(self, name: str = "", *, receive_buffer: int = 0, segment: int = 0) -> Caller:
        """Connect as alice to the listener *name*, the first one unless it is given."""
        port = self.daemon.ports[name] if name else self.daemon.port
        certs = None if name == "plain" else self.certs
        return Caller(port, certs, receive_buffer=receive_buffer, segment=segment)

    def http2(self, name: str = "", *, window: int | None = None) -> Caller2:
        """Connect as alice and speak HTTP/2; *window* is how much of a stream is taken."""
        context = self.daemon.mesh.context(self.daemon.mesh.mint.leaf("agent/alice"))
        context.set_alpn_protocols(["h2"])
        sock = context.wrap_socket(self.daemon.dial(name), server_hostname="127.0.0.1")
        return Caller2(sock, window=window)

    # -- what it has in hand

    def stat(self, name: str) -> float:
        """Return one counter, 0 before it was counted."""
        return self.daemon.stats().get(name, 0)

    def of(self, server: str, name: str) -> float:
        """Return one counter of the cluster of *server*."""
        return self.stat(f"cluster.{server}.{name}")

    def memory(self) -> int:
        """Resident memory, in bytes."""
        status = Path(f"/proc/{self.daemon.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def busy(self) -> float:
        """Seconds of CPU used so far."""
        cells = Path(f"/proc/{self.daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(cells[11]) + int(cells[12])) / 100

    def descriptors(self) -> int:
        """How many files and sockets are open."""
        return len(list(Path(f"/proc/{self.daemon.process.pid}/fd").iterdir()))

    def left(self) -> dict[str, float]:
        """Return what is in hand beyond what was at the start; nothing at rest.

        Idle connections to servers are no leak as long as the server has them too.
        """
        stats = self.daemon.stats()
        idle = sum(server.live for server in self.servers.values())
        found = {
            "callers": stats["server.total_connections"],
            "tasks": max(0, stats["server.tasks"] - self.before["tasks"]),
            "bugs": stats["server.internal_faults"],
            "descriptors": max(0, self.descriptors() - idle - self.before["descriptors"]),
            "connections": stats_of(stats, "upstream_cx_active") - idle,
            "calls": stats_of(stats, "upstream_rq_active"),
            "waiting": stats_of(stats, "upstream_rq_pending_active"),
        }
        return {name: value for name, value in found.items() if value}

    def note(self) -> None:
        """Remember what is in hand while nothing happens."""
        stats = self.daemon.stats()
        self.before = {"tasks": stats["server.tasks"], "descriptors": self.descriptors()}

    def expect_rest(self) -> None:
        """Fail unless all is soon as it was before."""
        assert self.server.until(lambda: not self.left(), 10), (self.left(), self.daemon.said())


def stats_of(stats: Mapping[str, float], what: str) -> float:
    """Return the sum of *what* over all clusters."""
    return sum(value for name, value in stats.items() if name.endswith(f".{what}"))


@contextmanager
def started(
    folder: Path,
    servers: Mapping[str, RawUpstream],
    documents: str = "",
    inbound: Mapping[str, Mapping[str, Any]] | None = None,
    **spec: Any,
) -> Iterator[World]:
    """Run a sidecar before *servers*; *inbound* adds to listeners, *spec* to the bootstrap."""
    mesh = Mesh(folder)
    plain = free_port()
    mesh.write("policy.yaml", ALLOWED.format(plain=plain) + documents)
    with ExitStack() as stack:
        for server in servers.values():
            stack.enter_context(server)
        doors: dict[str, dict[str, Any]] = {
            name: {"to": server.url, "service": name} for name, server in servers.items()
        }
        doors["plain"] = {**next(iter(doors.values())), "listen": f"127.0.0.1:{plain}"}
        for name, more in (inbound or {}).items():
            doors.setdefault(name, {}).update(more)
        daemon = stack.enter_context(mesh.run(doors, **spec))
        certs = mesh.mint.leaf("agent/alice").folder
        running = World(daemon, servers, certs)
        running.note()
        yield running
