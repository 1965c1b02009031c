"""Programs that die, hang, flood or stay: their callers hear of it, and no process is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stdio_world import World, alive, children, command, gone, programs, said
from support.wire import eventually

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("ends")
    with programs(folder, lineBytes="64KiB", calls=3) as world:
        yield world


@pytest.mark.parametrize("how", ["die", "half", "long"])
def test_a_program_that_ends_in_a_call_fails_it_and_its_session_is_no_more(
    world: World, how: str
) -> None:
    session = world.begin()
    reply = session.ask(how, bytes=100_000)
    assert reply.status == 502
    error = reply.json()["error"]
    assert (error["code"], error["data"]["reason"]) == (-32009, "upstream")
    assert reply.json()["id"] == 2
    assert session.ask("whoami").status == 404
    assert world.begin().use("DELETE").status == 200


def test_a_program_that_is_killed_ends_the_streams_that_wait_for_it(world: World) -> None:
    session = world.begin()
    pid = session.call("whoami")["pid"]
    with session.stream("gate", name="never") as waiting, session.listen() as listening:
        waiting.next()
        os.kill(pid, signal.SIGKILL)
        assert waiting.next()[1]["error"]["code"] == -32009
        assert waiting.ended()
        assert listening.ended()
    assert session.ask("whoami").status == 404
    assert "was ended by signal 9" in world.daemon.said()


def test_the_next_call_that_stands_alone_gets_another_program(world: World) -> None:
    assert said(world.ask("agent/henry", "whoami"))["pid"]
    assert world.ask("agent/henry", "die").status == 502
    assert said(world.ask("agent/henry", "whoami"))["pid"]


def test_what_is_no_message_is_left_out(world: World) -> None:
    session, before = world.begin(), world.metric("lines_left_out_total")
    assert session.call("noise") == "quiet"
    assert world.metric("lines_left_out_total") == before + 1
    assert "what is meant for a person" in world.daemon.said()
    reply = session.ask("wrong")
    assert (reply.status, reply.json()["error"]["code"]) == (502, -32009)
    session.use("DELETE")


def test_a_flood_on_standard_error_hinders_nobody_and_fills_no_log(world: World) -> None:
    session = world.begin()
    assert session.call("flood") == "flooded"
    shown = [line for line in world.daemon.said().splitlines() if "] line " in line]
    assert 10 <= len(shown) < 500
    assert all("\\x1b[31m" in line for line in shown)
    session.use("DELETE")


def test_a_reader_that_does_not_read_stops_the_program_and_gets_all_in_the_end(
    world: World,
) -> None:
    session, before = world.begin(), peak(world)
    with session.stream("gush", events=1_000) as stream:
        first = stream.next()
        settled(world)
        grown = peak(world) - before
        messages = [first[1]] + [stream.next()[1] for _ in range(1_000)]
    assert messages[-1]["result"]["content"][0]["text"] == "gushed"
    assert grown < 25 << 20, "of 50 MB"
    session.use("DELETE")


def peak(world: World) -> int:
    """Return the most memory that the sidecar ever had, in bytes."""
    status = Path(f"/proc/{world.daemon.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def settled(world: World) -> None:
    """Wait until the sidecar takes nothing more of the program: its memory stays as it is."""
    last = -1
    while (now := peak(world)) != last:
        last = now
        time.sleep(0.3)


def test_more_calls_than_a_program_takes_are_refused(world: World) -> None:
    session = world.begin()
    callers = [world.daemon.caller("agent/alice") for _ in range(3)]
    try:
        for caller in callers:
            caller.send(_request(session.message("hang"), session.headers))
        # A call between them would take the place of one.
        eventually(lambda: _under_way(world) == 3, "three calls under way")
        eventually(lambda: session.ask("echo", text="x").status == 503, "a refusal")
        assert session.ask("echo", text="x").json()["error"]["code"] == -32008
    finally:
        for caller in callers:
            caller.sock.close()
    session.use("DELETE")


def _under_way(world: World) -> float:
    stats = world.daemon.stats()
    return sum(now for name, now in stats.items() if name.endswith(".upstream_rq_active"))


def _request(body: bytes, headers: tuple[tuple[str, str], ...]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    start = f"POST /mcp HTTP/1.1\r\nhost: x\r\n{lines}content-length: {len(body)}\r\n\r\n"
    return start.encode() + body


@pytest.mark.parametrize("stays", ["orphan", "stubborn"])
def test_the_end_of_a_session_is_the_end_of_all_it_started(world: World, stays: str) -> None:
    session = world.begin()
    pid = session.call("whoami")["pid"]
    other = session.call(stays)
    assert session.use("DELETE").status == 200
    gone(pid, other)


def test_a_program_that_nobody_uses_is_ended(tmp_path: Path) -> None:
    with programs(tmp_path, idleTimeout="300ms") as world:
        session = world.begin()
        with session.listen():
            pid = session.call("whoami")["pid"]
        gone(pid)
        assert session.ask("whoami").status == 404
        assert world.programs() == 0


def test_a_program_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    with programs(tmp_path, "--silent", startTimeout="200ms") as world:
        reply = world.ask("agent/alice", "whoami")
        assert (reply.status, reply.json()["error"]["code"]) == (504, -32010)


def test_a_program_that_does_not_start_is_not_started_for_ever(tmp_path: Path) -> None:
    with programs(tmp_path, "--fail") as world:
        replies = [world.ask("agent/alice", "whoami") for _ in range(4)]
        assert [one.status for one in replies] == [502, 503, 503, 503]
        assert replies[1].get("retry-after") == "1"
        assert world.metric("started_total") == 1
        assert world.ask("agent/bob", "whoami").status == 502


def test_a_program_that_is_not_there_is_said_at_the_start(tmp_path: Path) -> None:
    with programs(tmp_path, command=["no-such-program"]) as world:
        assert "there is no program `no-such-program`" in world.daemon.said()
        assert world.ask("agent/alice", "whoami").status == 502


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_program_outlives_the_sidecar(tmp_path: Path, number: signal.Signals) -> None:
    with programs(tmp_path) as world:
        session = world.begin()
        pids = [session.call("whoami")["pid"], session.call("orphan")]
        pids.append(said(world.ask("agent/bob", "stubborn")))
        assert all(alive(pid) for pid in pids)
        world.daemon.process.signal(number)
        world.daemon.process.wait()
        gone(*pids)


def test_a_guard_that_is_killed_is_replaced(tmp_path: Path) -> None:
    with programs(tmp_path) as world:
        pid = world.begin().call("orphan")
        parent = world.daemon.process.pid
        [guard] = [one for one in children(parent) if b"killpg" in command(one)]
        os.kill(guard, signal.SIGKILL)
        eventually(lambda: "is started again" in world.daemon.said(), "another guard")
        eventually(lambda: any(b"killpg" in command(x) for x in children(parent)), "its start")
        world.daemon.process.signal(signal.SIGKILL)
        world.daemon.process.wait()
        gone(pid)


def test_where_all_places_are_taken_the_next_caller_is_told_to_wait(tmp_path: Path) -> None:
    with programs(tmp_path, children=2, childrenPerCaller=2) as world:
        first = world.begin("agent/alice")
        world.begin("agent/alice")
        reply = world.ask("agent/bob", "whoami")
        assert (reply.status, reply.get("retry-after")) == (503, "1")
        assert first.use("DELETE").status == 200
        eventually(lambda: world.ask("agent/bob", "whoami").status == 200, "room")
        assert world.metric("refused_total") >= 1


def test_sessions_stay_over_a_reload_and_new_ones_have_what_is_written_now(tmp_path: Path) -> None:
    with programs(tmp_path, env={"MODE": "old"}) as world:
        session = world.begin()
        path = tmp_path / "sidecar.yaml"
        path.write_text(path.read_text().replace('"MODE": "old"', '"MODE": "new"'))
        assert "configuration reloaded" in world.daemon.reload()
        assert session.call("whoami")["env"]["MODE"] == "old"
        assert world.begin().call("whoami")["env"]["MODE"] == "new"
