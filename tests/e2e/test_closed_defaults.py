"""Closed where Istio is open: no policy, a selector with a typing mistake, policies that vanish.

And open where Istio's defaults are asked for in so many words. What a running sidecar
does, `sidecar authz check` says beforehand.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.authz import Check
from support.e2e import Daemon, Mesh
from support.wire import Recorder, tool

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: anyone, namespace: mcp-prod}}
spec:
  selector: {{matchLabels: {{app: {app}}}}}
  rules: [{{}}]
"""
OURS, TYPO = POLICY.format(app="mcp-server"), POLICY.format(app="mcp-sever")


def calls(daemon: Daemon) -> int:
    """Return the status of a call."""
    with daemon.caller("agent/alice") as alice:
        return alice.ask("POST", "/mcp", tool("read_file")).status


def foretold(folder: Path, *argv: str) -> int:
    """Return the status that `authz check` foretells for the same call."""
    check = Check(folder)
    (answer,) = check.answers(
        *("--policy", str(folder / "sidecar.yaml"), "--as", "agent/alice"),
        *("--tool", "read_file", "-o", "json", *argv),
    )
    return int(answer["status"])


@pytest.mark.parametrize("policy", [None, TYPO], ids=["no policy", "a selector with a typo"])
def test_where_no_policy_is_for_the_workload_nobody_may_call(
    policy: str | None, tmp_path: Path
) -> None:
    mesh = Mesh(tmp_path)
    if policy is not None:
        mesh.write("policy.yaml", policy)
    with Recorder() as server, mesh.run({"mcp": {"to": server.url}}) as daemon:
        assert calls(daemon) == foretold(tmp_path) == 403
        assert server.heard == []
        said = daemon.said()
        assert "nobody may call: no ALLOW policy is for this workload" in said
        # A selector that selects nothing is told, with what the labels are.
        assert ("warning[SC0901]" in said) is (policy is not None)
        assert ("app=mcp-server" in said) is (policy is not None)


def test_a_folder_that_is_emptied_before_a_reload_takes_no_policy_back(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    written = mesh.write("policy.yaml", OURS)
    with Recorder() as server, mesh.run({"mcp": {"to": server.url}}) as daemon:
        assert calls(daemon) == foretold(tmp_path) == 200
        written.unlink()
        said = daemon.reload()
        assert "no ALLOW policy would be left for this workload" in said
        assert "allowEmpty: true" in said
        assert calls(daemon) == 200


def test_a_folder_that_is_emptied_on_purpose_closes_the_server(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    written = mesh.write("policy.yaml", OURS)
    with (
        Recorder() as server,
        mesh.run({"mcp": {"to": server.url}}, allowEmpty=True) as daemon,
    ):
        assert calls(daemon) == 200
        written.unlink()
        assert "configuration reloaded" in daemon.reload()
        assert calls(daemon) == foretold(tmp_path) == 403


@pytest.mark.parametrize("policy", [None, TYPO], ids=["no policy", "a selector with a typo"])
def test_with_istios_defaults_whoever_is_not_refused_may_call(
    policy: str | None, tmp_path: Path
) -> None:
    mesh = Mesh(tmp_path)
    if policy is not None:
        mesh.write("policy.yaml", policy)
    with (
        Recorder() as server,
        mesh.run({"mcp": {"to": server.url}}, compat="istio") as daemon,
        daemon.plain() as nobody,
    ):
        assert calls(daemon) == foretold(tmp_path) == 200
        assert nobody.ask("POST", "/mcp", tool("read_file")).status == 200
        assert len(server.heard) == 2


def test_with_istios_defaults_an_allow_policy_closes_all_the_same(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    mesh.write("policy.yaml", OURS.replace("rules: [{}]", "rules: []"))
    with (
        Recorder() as server,
        mesh.run({"mcp": {"to": server.url}}, compat="istio") as daemon,
    ):
        assert calls(daemon) == foretold(tmp_path) == 403
        assert server.heard == []


def test_the_flag_opens_what_the_bootstrap_keeps_closed(tmp_path: Path) -> None:
    Mesh(tmp_path).bootstrap({"mcp": {"listen": "127.0.0.1:8443", "to": "http://127.0.0.1:9"}}, 1)
    assert foretold(tmp_path) == 403
    assert foretold(tmp_path, "--compat", "istio") == 200
