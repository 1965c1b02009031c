"""Revocation over HTTP/2, and of a server: whoever is called is held against the list, too."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ca_host import POLICY, CaHost, Joined, Member
from support.daemon import PATIENCE
from support.e2e import Mesh
from support.mint import Mint
from support.speaker import Caller2
from support.two_sidecars import entry
from support.wire import Caller, Recorder, eventually, rpc

JSON = [("content-type", "application/json")]


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaHost]:
    with CaHost(tmp_path_factory.mktemp("ca")).serve("--refresh", "1s") as host:
        yield host


@pytest.fixture
def files(ca: CaHost, server: Recorder, tmp_path: Path) -> Iterator[Joined]:
    member = Member(tmp_path / "files", ca, "mcp-prod/files", server.url, ip="127.0.0.1")
    ca.give_token(member)
    with member.run() as sidecar:
        sidecar.wait_ready()
        yield sidecar


def test_the_next_stream_of_an_open_connection_is_refused(
    ca: CaHost, files: Joined, server: Recorder, tmp_path: Path
) -> None:
    member = Member(tmp_path / "two", ca, "agent/two", server.url, ip="127.0.0.4")
    ca.give_token(member)
    with member.run() as joined:
        joined.wait_ready()
    context: ssl.SSLContext = member.context()
    with Caller2.secure(files.port, context) as caller:
        assert caller.call("POST", "/mcp", rpc("ping"), JSON).status == 200
        ca.cli("revoke", member.who)

        def refused() -> bool:
            # 403: it was under way when the list came.
            told = caller.call("POST", "/mcp", rpc("ping"), JSON)
            return told.status not in (200, 403) and b"was revoked" in told.body

        eventually(refused, "a no", patience=15)
        before = len(server)
        assert caller.call("POST", "/mcp", rpc("ping"), JSON).status == 401
        assert len(server) == before


def test_a_revoked_server_is_not_called_any_more_over_connections_that_are_open(
    ca: CaHost, files: Joined, server: Recorder, tmp_path: Path
) -> None:
    path = tmp_path / "files.sock"
    outbound = [{"listen": f"unix:{path}", "service": "files.mesh"}]
    near = Member(
        tmp_path / "near", ca, "agent/near", server.url, ip="127.0.0.4", outbound=outbound
    )
    (near.folder / "policies" / "service.yaml").write_text(entry([files.port]))
    ca.give_token(near)
    with near.run() as sidecar:
        sidecar.wait_ready()
        with local(path) as caller:
            assert caller.ask("POST", "/mcp", rpc("ping")).status == 200
            ca.cli("revoke", "mcp-prod/files")
            eventually(
                lambda: caller.ask("POST", "/mcp", rpc("ping")).status != 200, "a no", patience=15
            )
            before = len(server)
            assert caller.ask("POST", "/mcp", rpc("ping")).status in (502, 503)
            assert len(server) == before
        assert "revoked" in (near.folder / "access.log").read_text()


def test_a_trust_domain_that_is_taken_out_is_shut_out_of_open_connections(
    server: Recorder, tmp_path: Path
) -> None:
    mesh, foreign = Mesh(tmp_path), Mint(tmp_path / "foreign", "other.test")
    mesh.write("policy.yaml", POLICY)
    (tmp_path / "other.pem").write_bytes(foreign.root_pem)
    (tmp_path / "other.pem").chmod(0o644)
    bundles = {"other.test": "./other.pem"}
    with mesh.run({"mcp": {"to": server.url}}, trustBundles=bundles) as daemon:
        path = tmp_path / "sidecar.yaml"
        with daemon.caller(foreign.leaf("agent/eve")) as eve, daemon.caller("agent/alice") as alice:
            assert eve.ask("POST", "/mcp", rpc("ping")).status == 200
            document = json.loads(path.read_text())
            del document["spec"]["trustBundles"]
            path.write_text(json.dumps(document))
            daemon.reload()
            assert eve.ask("POST", "/mcp", rpc("ping")).status == 401
            assert alice.ask("POST", "/mcp", rpc("ping")).status == 200


def local(path: Path) -> Caller:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE)
    sock.connect(str(path))
    return Caller(sock)
