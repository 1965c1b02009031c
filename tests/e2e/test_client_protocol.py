"""`useClientProtocol` through running sidecars: what a caller speaks is what the server hears."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.bilingual import Bilingual, agreeing
from support.daemon import free_port
from support.e2e import Daemon, Mesh
from support.speaker import Caller2
from support.two_sidecars import ALICE, HOST, NearMesh, entry
from support.wire import Caller, eventually, tool

CALLERS = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: mcp-prod}
spec: {rules: [{from: [{source: {principals: ["cluster.local/ns/agent/sa/bob"]}}]}]}
"""
JSON = [("content-type", "application/json")]


def rule(host: str, http: str = "{useClientProtocol: true}", more: str = "") -> str:
    return f"""\
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {host.replace(".", "-")}, namespace: mcp-prod}}
spec:
  host: {host}
  trafficPolicy: {{connectionPool: {{http: {http}}}{more}}}
"""


class Two:
    """Bob -> the near sidecar -> mTLS -> the far one -> a server in plaintext."""

    def __init__(self, folder: Path) -> None:
        (folder / "far").mkdir()
        self.far = Mesh(folder / "far")
        mint = self.far.mint
        own = mint.leaf("agent/alice", folder=folder / "near" / "own")
        self.near = NearMesh(folder / "near", mint, own)

    @contextmanager
    def run(self, to: str) -> Iterator[tuple[Daemon, Daemon]]:
        self.far.write("policy.yaml", ALICE + rule("127.0.0.1"))
        sock = self.near.folder / "files.sock"
        outbound = [{"listen": f"unix:{sock}", "service": HOST}]
        with self.far.run({"mcp": {"to": to, "h2c": True}}) as far:
            self.near.write("policy.yaml", CALLERS + entry([far.port]) + rule(HOST))
            with self.near.run({"mcp": {"to": HOST}}, outbound=outbound) as near:
                yield near, far


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    made = Mesh(tmp_path)
    made.write("callers.yaml", CALLERS)
    return made


def old(daemon: Daemon) -> Caller:
    """Connect as Bob over HTTP/1.1."""
    return daemon.caller("agent/bob")


def new(daemon: Daemon) -> Caller2:
    """Connect as Bob over HTTP/2."""
    return Caller2.secure(daemon.port, daemon.mesh.context("agent/bob"))


def asked(caller: Caller | Caller2) -> int:
    """Return the status of one call."""
    if isinstance(caller, Caller2):
        return caller.call("POST", "/mcp", tool("search"), JSON).status
    return caller.ask("POST", "/mcp", tool("search")).status


def test_through_two_sidecars_the_server_hears_what_the_caller_speaks(tmp_path: Path) -> None:
    with Bilingual() as server, Two(tmp_path).run(server.url) as (near, far):
        with new(near) as framed, old(near) as plain:
            for caller in (framed, plain, plain, framed, plain, framed):
                assert asked(caller) == 200
        assert server.spoke == [2, 1, 1, 2, 1, 2]
        assert near.stats()[f"cluster.{HOST}.upstream_cx_total"] == 2
        assert far.stats()["server.total_connections"] == 2
        assert far.stats()["cluster.127.0.0.1.upstream_cx_total"] == server.accepted == 2
        assert "a fault in" not in near.said() + far.said()


def test_a_local_process_speaks_http1_and_so_does_all_behind_it(tmp_path: Path) -> None:
    two = Two(tmp_path)
    with Bilingual() as server, two.run(server.url) as (near, _):
        with new(near) as framed:
            assert asked(framed) == 200
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(two.near.folder / "files.sock"))
        with Caller(sock) as local:
            assert asked(local) == 200
        assert server.spoke == [2, 1]


def test_many_at_once_share_a_connection_where_they_speak_http2(tmp_path: Path) -> None:
    told: list[int] = []

    def ask(caller: Caller | Caller2) -> None:
        with caller:
            told.extend(asked(caller) for _ in range(10))

    with Bilingual() as server, Two(tmp_path).run(server.url) as (near, _):
        callers = [connect(near) for connect in (old, new) * 4]
        threads = [threading.Thread(target=ask, args=[caller]) for caller in callers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert told == [200] * 80
        assert sorted(server.spoke) == [1] * 40 + [2] * 40
        made = near.stats()[f"cluster.{HOST}.upstream_cx_total"]
        assert 2 <= made <= 5, "one for all who speak HTTP/2, one at most for each of the others"
        assert near.stats()[f"cluster.{HOST}.upstream_rq_2xx"] == 80


@pytest.mark.parametrize(
    ("takes", "spoken"),
    [(["h2", "http/1.1"], [2, 1]), (["http/1.1"], [1, 1]), ([], [1, 1])],
    ids=["both", "http1", "nothing"],
)
def test_over_tls_a_server_is_spoken_to_in_what_it_takes(
    mesh: Mesh, takes: list[str], spoken: list[int]
) -> None:
    files = mesh.mint.leaf("mcp-prod/api", dns=["api.example"])
    tls = f', tls: {{mode: SIMPLE, caCertificates: "{files.bundle}"}}'
    with Bilingual(agreeing(files, *takes)) as server:
        known = entry([server.port], ["api.example"], "api.mesh")
        mesh.write("api.yaml", known + rule("api.mesh", more=tls))
        with mesh.run({"mcp": {"to": "api.mesh"}}) as daemon:
            with new(daemon) as framed, old(daemon) as plain:
                for _ in range(3):
                    assert [asked(framed), asked(plain)] == [200, 200]
            assert server.spoke == spoken * 3
            assert server.accepted == 2
            assert "SC0613" not in daemon.said()


def test_a_reload_switches_it_on_and_off(mesh: Mesh) -> None:
    with Bilingual() as server, mesh.run({"mcp": {"to": server.url, "h2c": True}}) as daemon:
        with new(daemon) as framed, old(daemon) as plain:
            for written in ("", rule("127.0.0.1"), rule("127.0.0.1", "{maxRetries: 3}")):
                mesh.write("rule.yaml", written)
                daemon.reload()
                assert [asked(framed), asked(plain)] == [200, 200]
        assert server.spoke == [1, 1, 2, 1, 1, 1]


def test_without_h2c_it_is_told_that_plaintext_stays_http1(mesh: Mesh) -> None:
    mesh.write("rule.yaml", rule("127.0.0.1"))
    with Bilingual() as server, mesh.run({"mcp": {"to": server.url}}) as daemon:
        with new(daemon) as framed:
            assert asked(framed) == 200
        assert "SC0613" in daemon.said()
        assert "`useClientProtocol`" in daemon.said()
        assert server.spoke == [1]


MIRROR = """\
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: copies, namespace: mcp-prod}}
spec:
  hosts: [copies.local]
  ports: [{{number: {port}, name: http2, protocol: HTTP2}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: copied, namespace: mcp-prod}}
spec:
  hosts: ["127.0.0.1"]
  http:
  - route: [{{destination: {{host: "127.0.0.1"}}}}]
    mirror: {{host: copies.local, port: {{number: {port}}}}}
"""


def test_a_copy_goes_on_in_its_callers_protocol_too(mesh: Mesh) -> None:
    with Bilingual() as server, Bilingual() as copies:
        mesh.write("mirror.yaml", MIRROR.format(port=copies.port) + rule("copies.local"))
        with (
            mesh.run({"mcp": {"to": server.url}}) as daemon,
            new(daemon) as framed,
            old(daemon) as plain,
        ):
            for count, caller in enumerate((framed, plain, framed), 1):
                assert asked(caller) == 200
                eventually(lambda count=count: len(copies.spoke) == count, "the copy")
        assert copies.spoke == [2, 1, 2]
        assert server.spoke == [1, 1, 1], "of the other host nobody said so"


def test_another_try_is_in_the_callers_protocol(mesh: Mesh) -> None:
    with Bilingual() as server:
        ports = [free_port(), server.port]  # nobody listens on the first
        endpoints = "".join(f"{{address: 127.0.0.1, ports: {{mcp: {p}}}}}, " for p in ports)
        known = entry([], host="two.local").replace("endpoints: []", f"endpoints: [{endpoints}]")
        known = known.replace("name: mcp}", "name: mcp, protocol: HTTP2}").replace(
            "  location: MESH_INTERNAL\n", ""
        )
        mesh.write("two.yaml", known.partition("  subjectAltNames")[0] + rule("two.local"))
        with (
            mesh.run({"mcp": {"to": "two.local"}}) as daemon,
            new(daemon) as framed,
            old(daemon) as plain,
        ):
            statuses = [asked(caller) for _ in range(5) for caller in (framed, plain)]
            assert daemon.stats()["cluster.two.local.upstream_rq_retry"] >= 2
        assert statuses == [200] * 10
        assert server.spoke == [2, 1] * 5
