"""A real sidecar counts calls: callers apart, the denied not at all, and on through a reload."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.e2e import Daemon, Mesh
from support.wire import Recorder, Reply, tool

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: agents, namespace: mcp-prod}
spec:
  rules:
  - from: [{source: {namespaces: [agent]}}]
    to: [{operation: {methods: [POST], tools: ["read_*", "quick"]}}]
"""
# So slow that no token comes while a test runs, but for `quick`.
LIMITS = """\
apiVersion: sidecar/v1
kind: RateLimit
metadata: {name: calls, namespace: mcp-prod}
spec:
  limits:
  - match: {tools: ["read_*"]}
    per: [principal]
    rate: 3/h
  - match: {tools: [quick]}
    rate: 1/s
"""
READ = tool("read_file")


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture
def daemon(server: Recorder, tmp_path: Path) -> Iterator[Daemon]:
    mesh = Mesh(tmp_path)
    mesh.write("policy.yaml", POLICY)
    mesh.write("limits.yaml", LIMITS)
    with mesh.run({"mcp": {"to": server.url}}) as running:
        yield running


def asked(daemon: Daemon, who: str, body: bytes = READ, times: int = 1) -> list[Reply]:
    with daemon.caller(who) as caller:
        return [caller.ask("POST", "/mcp", body) for _ in range(times)]


def statuses(daemon: Daemon, who: str, body: bytes = READ, times: int = 1) -> list[int]:
    return [reply.status for reply in asked(daemon, who, body, times)]


def test_one_caller_is_limited_and_another_is_not(daemon: Daemon, server: Recorder) -> None:
    before = len(server)
    assert statuses(daemon, "agent/alice", times=5) == [200, 200, 200, 429, 429]
    assert statuses(daemon, "agent/alice") == [429]  # on another connection, too
    assert len(server) == before + 3
    assert statuses(daemon, "agent/bob", times=4) == [200, 200, 200, 429]


def test_the_refusal_is_a_jsonrpc_error_that_says_when_to_come_again(daemon: Daemon) -> None:
    refusal = asked(daemon, "agent/alice", times=4)[-1]
    assert refusal.status == 429
    seconds = int(refusal.get("retry-after"))
    assert 1100 <= seconds <= 1200
    error = refusal.json()["error"]
    assert (error["code"], error["data"]["reason"]) == (-32007, "rate_limited")
    assert (error["data"]["retryAfter"], error["data"]["policy"]) == (seconds, "mcp-prod/calls")
    line = daemon.event(reason="rate_limited")
    assert line["rule"] == "mcp-prod/calls#0"
    assert line["at"].endswith("limits.yaml:6")
    metrics = daemon.page("/metrics")[1]
    assert 'sidecar_rate_limited_total{rule="mcp-prod/calls#0"} 1.0' in metrics
    assert 'sidecar_rate_limited_total{rule="mcp-prod/calls#1"} 0.0' in metrics
    assert "sidecar_rate_limit_buckets 1.0" in metrics
    assert daemon.stats()["http.inbound.http_local_rate_limit.rate_limited"] == 1


def test_who_is_denied_draws_from_nobodys_bucket(daemon: Daemon) -> None:
    # One bucket for all: whoever could draw from it without leave could close it to others.
    daemon.mesh.write("limits.yaml", LIMITS.replace("    per: [principal]\n", ""))
    daemon.reload()
    assert statuses(daemon, "batch/mallory", times=10) == [403] * 10
    assert statuses(daemon, "agent/alice", times=2) == [200, 200]
    assert statuses(daemon, "batch/mallory", times=3) == [403] * 3
    assert statuses(daemon, "agent/bob", times=2) == [200, 429]


def test_a_reload_keeps_what_was_drawn_and_a_changed_limit_begins_anew(daemon: Daemon) -> None:
    assert statuses(daemon, "agent/alice", times=4) == [200, 200, 200, 429]
    daemon.mesh.write("limits.yaml", "# a comment moves the lines\n" + LIMITS)
    assert "configuration reloaded" in daemon.reload()
    assert statuses(daemon, "agent/alice") == [429]
    daemon.mesh.write("limits.yaml", LIMITS.replace("3/h", "2/h"))
    daemon.reload()
    assert statuses(daemon, "agent/alice", times=3) == [200, 200, 429]
    (daemon.mesh.policies / "limits.yaml").unlink()
    daemon.reload()
    assert statuses(daemon, "agent/alice", times=6) == [200] * 6


def test_whoever_waits_as_told_is_let_through(daemon: Daemon) -> None:
    refusal = asked(daemon, "agent/alice", tool("quick"), times=2)[-1]
    assert (refusal.status, refusal.get("retry-after")) == (429, "1")
    time.sleep(1.0)
    assert statuses(daemon, "agent/alice", tool("quick")) == [200]


def test_a_rate_that_is_none_is_told_with_its_place_and_the_fix(daemon: Daemon) -> None:
    daemon.mesh.write("limits.yaml", LIMITS.replace("3/h", "3 per day"))
    said = daemon.reload()
    assert "SC0212" in said
    assert "limits.yaml:8:11" in said
    assert "write" in said
    assert "stays in force" in said
