"""Two sidecars make a mesh: what the server is told, who may call, and what may change."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import PYTHON, free_port
from support.e2e import Daemon
from support.mint import Files
from support.two_sidecars import FILES, HOST, Near, Pair, entry
from support.wire import JSON, Caller, Heard, Recorder, eventually, rpc, tool

pytestmark = pytest.mark.timeout(120)

EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
NOBODY = 65534
# Run as another user: connects to a socket, asks, and prints the status line or the failure.
ANOTHER = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
with socket.socket(socket.AF_UNIX) as sock:
    try:
        sock.connect(sys.argv[1])
        sock.sendall(b"GET / HTTP/1.1\\r\\nhost: files\\r\\n\\r\\n")
        print(sock.recv(12).decode() or "closed")
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def mesh(server: Recorder, pair: Pair) -> Iterator[tuple[Near, Daemon]]:
    with pair.run(server.url) as running:
        yield running


def test_a_local_process_calls_in_plain_http_and_the_server_knows_who(
    mesh: tuple[Near, Daemon], server: Recorder
) -> None:
    near, far = mesh
    before = len(server)
    forged = [("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/agent/sa/root")]
    with near.local() as caller:
        assert caller.ask("POST", "/mcp?a=b", tool("search"), [*JSON, *forged]).status == 200
        assert caller.ask("GET", "/other").status == 200
    first, second = server.since(before)
    assert (first.body, first.path) == (tool("search"), "/mcp?a=b")
    told = first.get("x-forwarded-client-cert")
    assert told.startswith(f"By={FILES};")
    assert told.endswith("URI=spiffe://cluster.local/ns/agent/sa/alice")
    assert first.connection == second.connection
    line = near.record(far.event(path="/mcp", tool="search")["caller_request_id"])
    assert line["upstream"].endswith(str(far.port))
    assert (line["caller"], line["verdict"], line["tool"]) == ("", "allow", "search")
    assert line["peer"] == "local"


def test_what_the_far_side_refuses_comes_back_as_it_was_said(
    mesh: tuple[Near, Daemon], pair: Pair
) -> None:
    near, far = mesh
    denied = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
    denied += "metadata: {name: shut, namespace: mcp-prod}\n"
    denied += "spec: {action: DENY, rules: [{to: [{operation: {paths: [/no]}}]}]}\n"
    pair.far.write("deny.yaml", denied)
    assert "configuration reloaded" in far.reload()
    with near.local() as caller:
        reply = caller.ask("POST", "/no", rpc("ping"))
    assert reply.status == 403
    assert reply.json()["error"]["data"]["policy"] == "mcp-prod/shut"


def test_a_page_of_another_origin_has_no_browser_call_through_it(
    mesh: tuple[Near, Daemon], server: Recorder
) -> None:
    before = len(server)
    with mesh[0].local() as caller:
        reply = caller.ask("POST", "/mcp", rpc("ping"), [*JSON, ("origin", "https://evil.example")])
    assert reply.status == 403
    assert len(server) == before


def test_events_pass_both_as_they_come_and_who_leaves_is_missed_at_the_end(
    mesh: tuple[Near, Daemon], server: Recorder
) -> None:
    near, far = mesh

    def stream(heard: Heard) -> bytes:
        heard.socket.sendall(EVENTS + b"9\r\ndata: 1\n\n\r\n")
        left.append(heard.socket.recv(1))
        return b""

    left: list[bytes] = []
    server.answers["/events"] = stream
    caller = near.local()
    caller.send(b"GET /events HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n")
    head = caller.head()
    assert head is not None
    assert head.get("content-type") == "text/event-stream"
    assert caller.line() == b"9"
    assert not left
    caller.sock.close()
    eventually(lambda: left == [b""], "the end of the stream at the server")
    eventually(lambda: near.stats()["cluster.files.mesh.upstream_rq_active"] == 0)
    eventually(lambda: far.stats()["server.total_connections"] <= 1)


# -- who may call


def as_nobody(path: Path) -> str:
    argv = [sys.executable, "-c", ANOTHER, str(path)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True).stdout


def reachable(folder: Path) -> None:
    """Let another user get to *folder*."""
    for one in (folder, *folder.parents):
        if one.stat().st_uid == os.geteuid() and not one.stat().st_mode & 0o001:
            one.chmod(one.stat().st_mode | 0o011)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("written", "outcomes"),
    [
        ({}, {"PermissionError"}),
        ({"allowUids": [0, 4711]}, {"closed", "ConnectionResetError", "BrokenPipeError"}),
        ({"allowUids": [NOBODY]}, {"HTTP/1.1 200"}),
        ({"allowAnyLocalProcess": True}, {"HTTP/1.1 200"}),
    ],
    ids=["own", "others", "named", "any"],
)
def test_only_those_users_are_served_who_may_call(
    server: Recorder, tmp_path: Path, written: dict[str, Any], outcomes: set[str]
) -> None:
    with Pair(tmp_path).run(server.url, **written) as (near, _):
        reachable(near.sockets["files"].parent)
        assert as_nobody(near.sockets["files"]).strip() in outcomes
        if "closed" in outcomes:
            event = near.event(event="handshake_failed", reason="other_uid")
            assert event["peer"] == f"uid {NOBODY}"


def test_over_tcp_only_where_everybody_is_let_in_on_purpose(
    server: Recorder, tmp_path: Path
) -> None:
    pair, port = Pair(tmp_path), free_port()
    listen = f"127.0.0.1:{port}"
    pair.near.place([{"listen": listen, "service": HOST}], free_port())
    argv = [PYTHON, "-m", "sidecar", "validate", "sidecar.yaml"]
    done = subprocess.run(argv, cwd=pair.near.folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 78
    assert "SC0708" in done.stdout + done.stderr
    with (
        pair.run(server.url, listen=listen, allowAnyLocalProcess=True),
        Caller(Caller.dial(port)) as caller,
    ):
        assert caller.ask("POST", "/mcp", rpc("ping")).status == 200


# -- sockets that come and go


def test_the_socket_is_removed_at_the_end_and_a_stale_one_replaced(
    server: Recorder, tmp_path: Path
) -> None:
    pair = Pair(tmp_path)
    with pair.run(server.url) as (near, _):
        path = near.sockets["files"]
        near.process.signal(signal.SIGKILL)
        near.process.wait()
        assert path.is_socket()
        with pair.near.start() as again:
            near.process = again
            near.wait_ready()
            with near.local() as caller:
                assert caller.ask("POST", "/mcp", rpc("ping")).status == 200
            again.signal(signal.SIGTERM)
            assert again.wait() == 0
        assert not path.exists()


# -- what changes while it runs


def change(pair: Pair, near: Near, text: str) -> None:
    pair.near.write("service.yaml", text)
    assert "configuration reloaded" in near.reload()


def test_after_a_reload_nobody_is_called_who_may_not_answer_any_more(
    server: Recorder, tmp_path: Path
) -> None:
    pair = Pair(tmp_path)
    with pair.run(server.url) as (near, far), near.local() as caller:
        assert caller.ask("POST", "/mcp", rpc("ping")).status == 200
        change(pair, near, entry([far.port], ["spiffe://cluster.local/ns/mcp-prod/sa/mails"]))
        assert caller.ask("POST", "/mcp", rpc("ping")).status == 503
        assert near.event(event="upstream_handshake_failed")["reason"] == "other_identity"
        pair.near.write("service.yaml", entry([far.port], []))
        assert "stays in force" in near.reload()
        change(pair, near, entry([far.port]))
        assert caller.ask("POST", "/mcp", rpc("ping")).status == 200


def test_a_socket_comes_and_goes_with_a_reload(server: Recorder, tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    with pair.run(server.url) as (near, _):
        other = pair.near.folder / "other.sock"
        pair.near.place([{"listen": f"unix:{other}", "service": HOST}], near.admin)
        assert "configuration reloaded" in near.reload()
        assert other.is_socket()
        assert not near.sockets["files"].exists()
        near.sockets = {"files": other}
        with near.local() as caller:
            assert caller.ask("POST", "/mcp", rpc("ping")).status == 200


def replace(old: Files, new: Files) -> None:
    """Put the files of *new* in the place of those of *old*, each in one step."""
    for name in ("key", "cert", "bundle"):
        getattr(new, name).rename(getattr(old, name))


def hashes(heard: list[Heard]) -> set[str]:
    """The certificates that the server was told of."""
    told = (one.get("x-forwarded-client-cert") for one in heard)
    return {part for one in told for part in one.split(";") if part.startswith("Hash=")}


def test_both_identities_are_replaced_under_calls_and_none_is_lost(
    server: Recorder, tmp_path: Path
) -> None:
    pair, before = Pair(tmp_path), len(server)
    one_each = """\
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: one-each, namespace: agent}
spec:
  host: files.mesh
  trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 2}}}
"""
    with pair.run(server.url, more=one_each) as (near, far), near.local() as caller:

        def calls_until(said: str, daemon: Daemon) -> None:
            deadline = time.monotonic() + 20
            while said not in daemon.said():
                assert time.monotonic() < deadline
                assert caller.ask("POST", "/mcp", rpc("ping")).status == 200
            for _ in range(4):
                assert caller.ask("POST", "/mcp", rpc("ping")).status == 200

        calls_until("ready", near)
        first = hashes(server.since(before))
        assert len(first) == 1
        fresh = pair.mint.leaf("agent/alice", folder=tmp_path / "fresh")
        replace(pair.near.own, fresh)
        calls_until("new identity loaded", near)
        both = hashes(server.since(before))
        assert len(both) == 2
        replace(pair.far.own, pair.mint.leaf("mcp-prod/files", folder=tmp_path / "fresher"))
        calls_until("new identity loaded", far)
        assert hashes(server.since(before)) == both


def test_a_server_whose_roots_are_taken_away_is_left_at_once(
    server: Recorder, tmp_path: Path
) -> None:
    pair = Pair(tmp_path)
    with pair.run(server.url) as (near, _), near.local() as caller:
        assert caller.ask("POST", "/mcp", rpc("ping")).status == 200
        assert near.stats()["cluster.files.mesh.upstream_cx_active"] == 1
        stranger = Pair(folder(tmp_path / "stranger"))
        replace(pair.near.own, stranger.mint.leaf("agent/alice", folder=tmp_path / "fresh"))
        eventually(
            lambda: near.stats()["cluster.files.mesh.upstream_cx_active"] == 0,
            "the end of the connection to whom nobody vouches for",
        )
        assert caller.ask("POST", "/mcp", rpc("ping")).status == 503
        assert near.event(event="upstream_handshake_failed")["reason"] == "unknown_ca"


def folder(path: Path) -> Path:
    path.mkdir()
    return path
