"""A caller shows its request id, and whoever runs the sidecar learns which rule it met."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import free_port
from support.e2e import Daemon, Mesh
from support.wire import Recorder, eventually, tool

from sidecar import cli
from sidecar.cli.why import told

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: mcp-prod}
spec:
  rules:
  - from: [{source: {principals: ["cluster.local/ns/agent/sa/alice"]}}]
    to: [{operation: {paths: [/mcp], tools: ["read_*"]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-secrets, namespace: mcp-prod}
spec:
  action: DENY
  rules:
  - to: [{operation: {tools: [read_secret]}}]
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    mesh = Mesh(tmp_path_factory.mktemp("why"))
    mesh.write("policy.yaml", POLICY)
    with Recorder() as server, mesh.run({"mcp": {"to": server.url}}) as started:
        yield started


def refused(daemon: Daemon, name: str) -> str:
    """Call a tool as alice; return the request id that the caller sees."""
    with daemon.caller("agent/alice") as alice:
        said = alice.ask("POST", "/mcp", tool(name))
    if said.status == 200:
        return ""
    return str(json.loads(said.body)["error"]["data"]["requestId"])


def why(daemon: Daemon, *argv: str) -> int:
    return cli.main(["why", "--admin", f"127.0.0.1:{daemon.admin}", *argv])


def test_a_denial_by_default_names_the_nearest_rule(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    request_id = refused(daemon, "delete_file")
    assert why(daemon, request_id) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"request   {request_id}  at 20")
    assert said[1].startswith("caller    spiffe://cluster.local/ns/agent/sa/alice, from 127.0.0.1:")
    place = daemon.mesh.policies.name + "/policy.yaml:6"
    assert said[2:-1] == [
        "asked     POST /mcp tools/call delete_file",
        "verdict   deny 403 denied",
        f"why       no rule allows it; nearest mcp-prod/readers#0 at {place}: "
        "`tools` must be `read_*`, here it is `delete_file`",
        "server    never heard of it",
    ]
    assert said[-1].endswith(" ms in the sidecar")
    assert daemon.record(request_id)["why"].startswith("no rule allows it; nearest")


def test_a_denial_by_a_rule_names_the_rule(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert why(daemon, refused(daemon, "read_secret")) == 0
    assert "rule      mcp-prod/no-secrets#0 at policies/policy.yaml:15\n" in capsys.readouterr().out


def test_what_was_allowed_is_told_too_and_as_json(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(daemon, "read_file") == ""
    line = daemon.event(tool="read_file")
    assert why(daemon, line["request_id"], "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == line


def test_an_id_that_is_not_known_is_told_with_how_many_are(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(daemon, "delete_file")
    for unknown in ("0-1", '"&id=é\n', "x" * 200):
        assert why(daemon, unknown) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert "no such request among the last " in said.err
        assert "among the last 0" not in said.err


def test_where_no_sidecar_answers_the_code_is_69(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.delenv("SIDECAR_ADMIN", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert cli.main(["why", "1-2"]) == 69
    (tmp_path / "sidecar").mkdir()
    (tmp_path / "sidecar" / "dead.sock").touch()
    assert cli.main(["why", "1-2"]) == 69
    monkeypatch.setenv("SIDECAR_ADMIN", f"127.0.0.1:{free_port()}")
    assert cli.main(["why", "1-2"]) == 69
    assert capsys.readouterr().err.count("--admin") == 3


def test_without_an_address_every_socket_there_is_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    mesh = Mesh(tmp_path)
    mesh.write("policy.yaml", POLICY)
    sockets = tmp_path / "sidecar"
    sockets.mkdir(mode=0o700)
    (sockets / "dead.sock").touch()
    port = free_port()
    inbound = {"mcp": {"to": "http://127.0.0.1:9", "listen": f"127.0.0.1:{port}"}}
    mesh.bootstrap(inbound, None)
    with mesh.start() as process:
        daemon = Daemon(mesh, process, {"mcp": port}, 0)
        eventually(lambda: "sidecar: ready" in daemon.said(), "readiness")
        request_id = refused(daemon, "delete_file")
        assert cli.main(["why", request_id]) == 0
        assert request_id in capsys.readouterr().out
        assert cli.main(["why", "1-2"]) == 1


LINE: dict[str, Any] = {
    **{"ts": "now", "request_id": "1-2", "peer": "127.0.0.1:9", "caller": ""},
    **{"http_method": "", "path": "", "mcp_method": "", "tool": "", "verdict": "error"},
    **{"reason": "", "rule": "", "at": "", "status": 0, "upstream": "", "overhead_ms": 0.1},
}


@pytest.mark.parametrize(
    ("line", "name", "text"),
    [
        ({}, "caller", "nobody that proved who it is, from 127.0.0.1:9"),
        ({}, "asked", "nothing that could be read"),
        (
            {"http_method": "POST", "batch": ["ping", "tools/call a"]},
            "asked",
            "POST batch: ping, tools/call a",
        ),
        (
            {"reason": "denied"},
            "why",
            "no rule allows it; too many were denied at once to say which came nearest",
        ),
        ({"rule": "a/b", "at": ""}, "rule", "a/b"),
        ({"detail": "pattern `x`"}, "detail", "pattern `x`"),
        ({"finding": "x"}, "finding", "x"),
        ({"audit": ["a/b#0", "a/c#1"]}, "audit", "a/b#0, a/c#1"),
        ({"shadow": "deny", "shadow_rule": ""}, "dry run", "deny"),
        ({"upstream": "127.0.0.1:1"}, "server", "127.0.0.1:1"),
    ],
)
def test_everything_that_is_known_is_told(line: dict[str, Any], name: str, text: str) -> None:
    assert dict(told({**LINE, **line}))[name] == text


def test_what_is_not_known_is_left_out() -> None:
    assert [name for name, _ in told(LINE)] == [
        *("request", "caller", "asked", "verdict", "server", "time")
    ]
