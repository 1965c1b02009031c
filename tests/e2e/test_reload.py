"""A configuration is taken whole or not at all, at the start and while calls are under way."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import free_port
from support.e2e import Daemon, Mesh
from support.wire import Heard, Recorder, eventually, reply, request, rpc, tool

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: agents
  namespace: mcp-prod
spec:
  action: ALLOW
  rules:
  - from:
    - source:
        principals: ["cluster.local/ns/agent/sa/alice"]
    to:
    - operation:
        methods: ["POST"]
        tools: ["read_*"]
"""
# Three mistakes: a field that is not one, a word that is not one, a type that is none.
BROKEN = (
    POLICY.replace("namespace: mcp-prod", "namespace: mcp-prod\n  lables: {a: b}")
    .replace("action: ALLOW", "action: ALOW")
    .replace('tools: ["read_*"]', "tool: [read_*]")
)
MISTAKES = {"lables": (6, 3, "labels"), "ALOW": (8, 11, "ALLOW"), "tool`": (16, 9, "tools")}
ANYONE = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: anyone, namespace: mcp-prod}
spec:
  rules:
  - to: [{operation: {paths: [/mcp]}}]
"""
READ, DROP = tool("read_file"), tool("drop_table")


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def started(server: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    mesh = Mesh(tmp_path_factory.mktemp("reload"))
    mesh.write("policy.yaml", POLICY)
    with mesh.run({"mcp": {"to": server.url}}) as running:
        yield running


@pytest.fixture
def daemon(started: Daemon, server: Recorder) -> Iterator[Daemon]:
    """The one sidecar of this module; what a test has changed is put back."""
    yield started
    for file in started.mesh.policies.iterdir():
        file.unlink()
    started.mesh.write("policy.yaml", POLICY)
    rewrite(started, server)
    assert "configuration reloaded" in started.reload()


def rewrite(daemon: Daemon, server: Recorder, **spec: object) -> None:
    """Write the bootstrap anew, with the listener that it has and *spec*."""
    one = {"listen": f"127.0.0.1:{daemon.port}", "to": server.url}
    daemon.mesh.bootstrap({"mcp": one}, daemon.admin, **spec)


def expect_mistakes(said: str) -> None:
    """Each mistake has its place, its line with a caret below, and what to write instead."""
    reports = said.split("error[")[1:]
    assert len(reports) == 3, said
    for word, (line, column, fix) in MISTAKES.items():
        [report] = [one for one in reports if word in one.splitlines()[0]]
        assert f"policies/policy.yaml:{line}:{column}" in report
        assert re.search(rf"^{line} \| .*{word.strip('`')}", report, re.MULTILINE), report
        assert "^" in report
        assert re.search(rf"help: .*`{fix}`", report), report


def judged(daemon: Daemon) -> tuple[int, int]:
    """How the policy judges a tool that it allows and one that it does not."""
    with daemon.caller("agent/alice") as alice:
        return alice.ask("POST", "/mcp", READ).status, alice.ask("POST", "/mcp", DROP).status


# -- mistakes


def test_all_mistakes_are_told_at_the_start_and_nothing_is_served(
    server: Recorder, tmp_path: Path
) -> None:
    mesh = Mesh(tmp_path)
    mesh.write("policy.yaml", BROKEN)
    mesh.bootstrap({"mcp": {"listen": "127.0.0.1:0", "to": server.url}}, free_port())
    with mesh.start() as process:
        assert process.wait() == 78
        expect_mistakes(process.stderr.read_text())
        assert process.stdout.read_text() == ""


def test_a_broken_file_changes_nothing_until_it_is_mended(daemon: Daemon) -> None:
    assert judged(daemon) == (200, 403)
    daemon.mesh.write("policy.yaml", BROKEN)
    said = daemon.reload()
    expect_mistakes(said)
    assert "stays in force" in said
    assert daemon.event(event="reload_refused")["why"].startswith("error[")
    assert daemon.stats()["server.config_last_reload_successful"] == 0
    assert "sidecar_config_last_reload_successful 0.0" in daemon.page("/metrics")[1]
    assert daemon.page("/readyz")[0] == 200
    assert judged(daemon) == (200, 403)
    daemon.mesh.write("policy.yaml", POLICY.replace("read_*", "drop_*"))
    assert "configuration reloaded" in daemon.reload()
    assert daemon.stats()["server.config_last_reload_successful"] == 1
    assert "sidecar_config_last_reload_successful 1.0" in daemon.page("/metrics")[1]
    assert judged(daemon) == (403, 200)


@pytest.mark.parametrize("text", ["", "\0", "a: [", "- 1", "kind: Nothing", POLICY[:-30]])
def test_no_bytes_of_a_file_open_anything(daemon: Daemon, text: str) -> None:
    daemon.mesh.write("policy.yaml", text)
    daemon.reload()
    assert daemon.stats()["server.config_last_reload_successful"] == 0
    assert judged(daemon) == (200, 403)


def test_a_file_that_others_may_write_is_refused(daemon: Daemon) -> None:
    daemon.mesh.write("policy.yaml", POLICY.replace("read_*", "*")).chmod(0o666)
    assert "policy.yaml" in daemon.reload()
    assert judged(daemon) == (200, 403)


def test_a_file_that_is_gone_is_not_a_policy_that_is_gone(daemon: Daemon) -> None:
    (daemon.mesh.policies / "policy.yaml").unlink()
    said = daemon.reload()
    assert "no ALLOW policy would be left" in said
    assert "allowEmpty" in said
    assert judged(daemon) == (200, 403)


def test_whoever_means_to_allow_nobody_says_so(daemon: Daemon, server: Recorder) -> None:
    (daemon.mesh.policies / "policy.yaml").unlink()
    rewrite(daemon, server, allowEmpty=True)
    assert "configuration reloaded" in daemon.reload()
    assert judged(daemon) == (403, 403)


# -- under load


def test_reloads_under_load_fail_no_call(daemon: Daemon, server: Recorder) -> None:
    stop = threading.Event()
    failed: list[object] = []
    done = [0, 0, 0]

    def keep_asking(number: int) -> None:
        try:
            while not stop.is_set():
                with daemon.caller("agent/alice") as alice:
                    for _ in range(10):
                        status = alice.ask("POST", "/mcp", READ).status
                        done[number] += 1
                        if status != 200:
                            failed.append(status)
        except (AssertionError, OSError) as error:
            failed.append(error)

    reloads = daemon.said().count("configuration reloaded")
    threads = [threading.Thread(target=keep_asking, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for number in range(10):
        daemon.mesh.write("policy.yaml", POLICY.replace("read_*", f'read_*", "more_{number}'))
        before = sum(done)
        daemon.reload()
        eventually(lambda before=before: sum(done) > before + 5 or failed, "calls between reloads")
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not failed
    assert daemon.said().count("configuration reloaded") == reloads + 10


def test_a_signal_during_a_reload_is_not_lost(daemon: Daemon) -> None:
    # Enough documents that the first reload, which has read the policy, is still
    # under way when the policy changes again.
    for number in range(400):
        daemon.mesh.write(f"z-{number}.yaml", POLICY.replace("agents", f"agents-{number}"))
    began = time.monotonic()
    daemon.reload()
    whole = time.monotonic() - began
    daemon.process.signal(signal.SIGHUP)
    time.sleep(whole / 2)
    daemon.mesh.write("policy.yaml", POLICY.replace("read_*", "drop_*"))
    daemon.process.signal(signal.SIGHUP)
    eventually(lambda: judged(daemon)[1] == 200, "the last edit in force")


# -- what a reload changes


def test_a_call_under_way_keeps_what_it_began_with(daemon: Daemon, server: Recorder) -> None:
    begun, release = threading.Event(), threading.Event()

    def hold(_: object) -> bytes:
        begun.set()
        release.wait(20)
        return reply()

    server.answers["/held"] = hold
    with daemon.caller("agent/alice") as alice:
        thread = threading.Thread(target=lambda: statuses.append(ask_held()))
        statuses: list[int] = []

        def ask_held() -> int:
            return alice.ask("POST", "/held", READ).status

        thread.start()
        begun.wait(20)
        daemon.mesh.write("policy.yaml", POLICY.replace("read_*", "drop_*"))
        daemon.reload()
        release.set()
        thread.join(20)
        assert statuses == [200]
        assert alice.ask("POST", "/mcp", READ).status == 403


def test_a_stream_that_would_no_longer_be_allowed_ends_soon(
    daemon: Daemon, server: Recorder
) -> None:
    done = threading.Event()

    def stream(heard: Heard) -> bytes:
        heard.socket.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        done.wait(20)
        return b""

    server.answers["/events"] = stream
    try:
        with daemon.caller("agent/alice") as alice:
            alice.send(request("POST", "/events", READ))
            assert alice.head() is not None
            daemon.mesh.write("policy.yaml", POLICY.replace("read_*", "drop_*"))
            daemon.reload()
            alice.sock.settimeout(15)
            alice.rest()  # a timeout here: the stream goes on
    finally:
        done.set()


def test_listeners_come_and_go_and_the_others_stay(daemon: Daemon, server: Recorder) -> None:
    mesh, kept, added = daemon.mesh, daemon.port, free_port()
    one = {"listen": f"127.0.0.1:{kept}", "to": server.url}
    other = {"listen": f"127.0.0.1:{added}", "to": server.url}
    with daemon.caller("agent/alice") as alice:
        assert alice.ask("POST", "/mcp", READ).status == 200
        mesh.bootstrap({"one": one, "other": other}, daemon.admin)
        daemon.reload()
        daemon.ports = {"mcp": kept, "other": added}
        with daemon.caller("agent/alice", "other") as second:
            assert second.ask("POST", "/mcp", READ).status == 200
            mesh.bootstrap({"one": one}, daemon.admin)
            daemon.reload()
            with pytest.raises(ConnectionRefusedError):
                daemon.dial("other")
            late = second.ask("POST", "/mcp", READ)
            assert late.status == 503
        assert alice.ask("POST", "/mcp", READ).status == 200


def test_a_listener_that_cannot_be_had_changes_nothing(daemon: Daemon, server: Recorder) -> None:
    one = {"listen": f"127.0.0.1:{daemon.port}", "to": server.url}
    taken = {"listen": f"127.0.0.1:{server.port}", "to": server.url}
    daemon.mesh.write("policy.yaml", POLICY.replace("read_*", "drop_*"))
    daemon.mesh.bootstrap({"one": one, "taken": taken}, daemon.admin)
    assert f"cannot listen on `127.0.0.1:{server.port}`" in daemon.reload()
    assert judged(daemon) == (200, 403)
    rewrite(daemon, server)
    daemon.reload()
    assert judged(daemon) == (403, 200)


def test_the_size_of_a_body_may_change(daemon: Daemon, server: Recorder) -> None:
    relimit(daemon, server, requestBodyBytes="1KiB")
    with daemon.caller("agent/alice") as alice:
        assert alice.ask("POST", "/mcp", tool("read_file", pad="a" * 1024)).status == 413


def test_the_time_of_a_handshake_may_change(daemon: Daemon, server: Recorder) -> None:
    relimit(daemon, server, handshakeTimeout="200ms")
    with daemon.plain() as silent:
        silent.sock.settimeout(8)  # not until a handshake ends by itself
        assert silent.ended()


def test_the_number_of_connections_may_change(daemon: Daemon, server: Recorder) -> None:
    relimit(daemon, server, connections=2)
    with (
        daemon.caller("agent/alice") as first,
        daemon.caller("agent/alice") as second,
        daemon.plain() as third,
    ):
        assert first.ask("POST", "/mcp", READ).status == 200
        assert second.ask("POST", "/mcp", READ).status == 200
        third.sock.settimeout(8)
        assert third.ended()
        event = daemon.event(event="handshake_failed", peer=third.address)
        assert event["reason"] == "too_many_connections"


def relimit(daemon: Daemon, server: Recorder, **limits: object) -> None:
    """Reload with these limits."""
    rewrite(daemon, server, limits=limits)
    assert "configuration reloaded" in daemon.reload()


def test_a_mode_that_became_strict_holds_for_connections_that_are_open(
    server: Recorder, tmp_path: Path
) -> None:
    mesh = Mesh(tmp_path)
    mesh.write("policy.yaml", ANYONE)
    with (
        mesh.run({"mcp": {"to": server.url}}, mtls="PERMISSIVE") as daemon,
        daemon.plain() as caller,
    ):
        assert caller.ask("POST", "/mcp", READ).status == 200
        rewrite(daemon, server, mtls="STRICT")
        daemon.reload()
        before = len(server)
        caller.send(request("POST", "/mcp", READ))
        answer = caller.reply_or_end("POST")
        assert answer is None or answer.status in (401, 403)
        assert len(server) == before


def test_an_unknown_bootstrap_is_refused_at_the_start(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    (tmp_path / "sidecar.yaml").write_text(POLICY)
    (tmp_path / "sidecar.yaml").chmod(0o644)
    with mesh.start() as process:
        assert process.wait() == 78
        assert "kind `Sidecar`" in process.stderr.read_text()


def test_pings_are_judged_by_the_rule_that_names_tools(daemon: Daemon) -> None:
    with daemon.caller("agent/alice") as alice:
        assert alice.ask("POST", "/mcp", rpc("ping")).status == 200
