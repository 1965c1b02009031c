"""A program behind a sidecar: the real SDK on both sides, and every caller with their own."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import PYTHON, free_port, issue, running
from support.sdk_env import legacy_python
from support.sdk_story import ALLOWED, POLICY, expect_modern, expect_same, sdk_client
from support.stdio_world import World, programs, said
from support.wire import rpc

HERE = Path(__file__).parents[1] / "support"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Run the SDK's own server over its standard streams, by the short form; URL and certs."""
    folder = tmp_path_factory.mktemp("stdio")
    (folder / "policy.yaml").write_text(
        POLICY.replace("namespace: mcp-prod", "namespace: default").replace(
            "  selector: {matchLabels: {app: mcp-server}}\n", ""
        )
    )
    port = free_port()
    argv = [PYTHON, "-m", "sidecar", "run", "--stdio", f"{PYTHON} {HERE / 'stdio_sdk.py'}"]
    argv += ["--listen", f"127.0.0.1:{port}", "--documents", "policy.yaml"]
    with running("sidecar", argv, folder) as process:
        while "sidecar: ready" not in process.stderr.read_text():
            assert process.is_alive(), process.said()
        yield f"https://127.0.0.1:{port}/mcp", str(issue(folder, "agent/alice"))
        process.signal(signal.SIGTERM)
        assert process.wait() == 0, process.said()
        assert "please report it" not in process.said()


def test_a_client_of_the_stateless_era_does_all_it_can(server: tuple[str, str]) -> None:
    url, certs = server
    with sdk_client("sdk_client.py") as client:
        expect_modern(client.tell(url, "--certs", certs, "--mode", "2026-07-28"), ALLOWED)


def test_a_client_of_the_1_x_line_has_a_whole_session(
    server: tuple[str, str], request: pytest.FixtureRequest
) -> None:
    url, certs = server
    python = legacy_python(request.config.cache.mkdir("mcp1"))
    with sdk_client("sdk_legacy.py", python) as client:
        story = client.tell(url, "--certs", certs)
        expect_same(story, ALLOWED)
        assert story["version"] == "2025-11-25"
        assert story["notified"] == ["notifications/tools/list_changed"]
        assert story["after_delete"] == 404
        call = ("--only", "forget", "--argument", '{"path": "x"}')
        denied = client.tell(url, "--certs", certs, *call)
        assert "403" in denied["failed"] + str(denied["errors"])


# -- what a small program shows better


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with programs(
        tmp_path_factory.mktemp("programs"),
        env={"MODE": "test"},
        inheritEnv=["WANTED"],
        childrenPerCaller=3,
    ) as world:
        yield world


def test_each_session_has_a_program_of_its_own(world: World) -> None:
    first, second = world.begin("agent/alice"), world.begin("agent/alice")
    assert first.call("whoami")["pid"] != second.call("whoami")["pid"]
    assert first.call("whoami")["pid"] == first.call("whoami")["pid"]
    for session in (first, second):
        assert session.use("DELETE").status == 200
        assert session.ask("whoami").status == 404


def test_nobody_has_the_session_of_somebody_else(world: World) -> None:
    mine = world.begin("agent/alice")
    body = mine.message("whoami")
    assert mine.post(body, who="agent/bob").status == 404
    assert mine.use("GET", who="agent/bob").status == 404
    assert mine.use("DELETE", who="agent/bob").status == 404
    assert said(mine.post(body))["pid"]
    assert mine.use("DELETE").status == 200


def test_calls_that_stand_alone_share_the_program_of_their_caller_alone(world: World) -> None:
    pids = [said(world.ask(f"agent/{who}", "whoami"))["pid"] for who in ("carol", "carol", "dave")]
    assert pids[0] == pids[1] != pids[2]


def test_a_program_knows_what_it_is_told_and_no_more(world: World) -> None:
    session = world.begin("agent/erin")
    env = session.call("whoami")["env"]
    assert env["MODE"] == "test"
    assert "PATH" in env
    assert not {"XDG_RUNTIME_DIR", "NOTIFY_SOCKET", "PYTEST_CURRENT_TEST"} & env.keys()
    session.use("DELETE")


def test_rules_hold_as_they_do_before_any_server(world: World) -> None:
    session = world.begin("agent/erin")
    assert session.ask("forbidden").status == 403
    assert session.post(session.message("whoami"), who="other/mallory").status == 403
    session.use("DELETE")


def test_an_event_passes_before_the_next_one_exists_in_both_eras(world: World) -> None:
    session = world.begin("agent/erin")
    with session.stream("gate", name="old") as stream:
        assert stream.next()[1]["params"]["message"] == "waiting"
        assert session.call("opens", name="old") == "opened"
        assert stream.next()[1]["result"]["content"][0]["text"] == "passed"
        assert stream.ended()
    session.use("DELETE")
    who, body = "agent/erin", world.alone("gate", id=7, token="t", name="new")
    with world.stream(who, "POST", body, world.mirrors("gate")) as stream:
        progress = stream.next()[1]
        assert progress["params"] == {"progressToken": "t", "progress": 1, "message": "waiting"}
        # With an id that is under way already: each is the caller's own all the same.
        assert said(world.ask(who, "opens", id=7, name="new")) == "opened"
        answer = stream.next()[1]
        assert (answer["id"], answer["result"]["content"][0]["text"]) == (7, "passed")


def test_who_leaves_cancels_in_the_stateless_era_alone(world: World) -> None:
    who = "agent/frank"
    body = world.alone("gate", token="t", name="left")
    with world.stream(who, "POST", body, world.mirrors("gate")) as stream:
        stream.next()
    while not said(world.ask(who, "ledger")):
        pass
    session = world.begin(who)
    with session.stream("gate", name="kept") as stream:
        seen, _ = stream.next()
    assert session.call("ledger") == []
    assert session.call("opens", name="kept") == "opened"
    with session.listen(seen) as stream:
        assert stream.next()[1]["result"]["content"][0]["text"] == "passed"
        assert stream.ended()
    session.use("DELETE")


def test_the_program_may_ask_and_is_answered(world: World) -> None:
    session = world.begin("agent/erin")
    with session.stream("ask") as stream:
        _, question = stream.next()
        assert question["method"] == "elicitation/create"
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"answer": "a cat"}}
        assert session.post(json.dumps(answer).encode()).status == 202
        assert stream.next()[1]["result"]["content"][0]["text"] == "a cat"
    session.use("DELETE")


def test_what_is_of_no_call_waits_for_who_listens(world: World) -> None:
    session = world.begin("agent/erin")
    assert session.call("news") == "soon"
    with session.listen() as stream:
        id, news = stream.next()
        assert news["method"] == "notifications/tools/list_changed"
    assert session.call("news") == "soon"
    with session.listen(id) as stream:
        assert stream.next()[1]["method"] == "notifications/tools/list_changed"
    session.use("DELETE")


def test_who_needs_one_too_many_loses_the_one_that_is_idle_longest(world: World) -> None:
    sessions = [world.begin("agent/greta") for _ in range(3)]
    sessions[0].call("whoami")
    sessions.append(world.begin("agent/greta"))
    assert [one.ask("whoami").status for one in sessions] == [200, 404, 200, 200]
    for one in sessions:
        one.use("DELETE")


@pytest.mark.parametrize(
    ("method", "headers", "body", "status", "code"),
    [
        ("POST", (), rpc("tools/list"), 400, -32600),
        ("POST", (("mcp-session-id", "0" * 32),), rpc("tools/list"), 404, -32001),
        ("GET", (), b"", 400, -32600),
        ("GET", (("mcp-protocol-version", "2026-07-28"),), b"", 405, -32600),
        ("DELETE", (("mcp-session-id", "0" * 32),), b"", 404, -32001),
        ("PUT", (), rpc("tools/list"), 403, -32004),
    ],
)
def test_what_nobody_can_answer_is_refused_in_json_rpc(
    world: World,
    method: str,
    headers: tuple[tuple[str, str], ...],
    body: bytes,
    status: int,
    code: int,
) -> None:
    with world.daemon.caller("agent/alice") as caller:
        kind = (("content-type", "application/json"),) if body else ()
        reply = caller.ask(method, "/mcp", body, (*kind, *headers))
    assert (reply.status, reply.json()["error"]["code"]) == (status, code)
