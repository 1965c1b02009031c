"""A sidecar that is told to stop takes nothing new and finishes what runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.e2e import Daemon, Mesh
from support.wire import Caller, Heard, Recorder, eventually, reply, request, rpc

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: agents, namespace: mcp-prod}
spec:
  rules:
  - from: [{source: {principals: ["cluster.local/ns/agent/sa/alice"]}}]
"""
SOON = 15.0  # well before the limit of a drain, also on a machine that is slow
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Held:
    """A server that holds the answers on `/held` until it is told, and streams on `/events`."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.server = Recorder()
        self.server.answers["/held"] = self._hold
        self.server.answers["/events"] = self._stream

    def _hold(self, _: Heard) -> bytes:
        self.release.wait(20)
        return reply()

    def _stream(self, heard: Heard) -> bytes:
        heard.socket.sendall(EVENTS + b'd\r\ndata: {"a":1}\r\n')
        heard.socket.sendall(b"4\r\n\n\n\n\n\r\n")
        self.release.wait(20)
        return b"0\r\n\r\n"


@pytest.fixture
def held() -> Iterator[Held]:
    one = Held()
    with one.server:
        try:
            yield one
        finally:
            one.release.set()


@contextmanager
def sidecar(held: Held, folder: Path, **spec: Any) -> Iterator[Daemon]:
    mesh = Mesh(folder)
    mesh.write("policy.yaml", POLICY)
    with mesh.run({"mcp": {"to": held.server.url}}, **spec) as running:
        yield running


@pytest.fixture
def daemon(held: Held, tmp_path: Path) -> Iterator[Daemon]:
    with sidecar(held, tmp_path) as running:
        yield running


def ask_held(daemon: Daemon, held: Held) -> Caller:
    """Return a caller whose call has reached the server and is not answered."""
    alice = daemon.caller("agent/alice")
    before = len(held.server)
    alice.send(request("POST", "/held", rpc("ping")))
    eventually(lambda: len(held.server) > before, "the call at the server")
    return alice


def tell_to_stop(daemon: Daemon) -> None:
    daemon.process.signal(signal.SIGTERM)
    eventually(lambda: "draining" in daemon.said(), "the drain")


def is_listening(daemon: Daemon) -> bool:
    try:
        daemon.dial().close()
    except ConnectionRefusedError:
        return False
    return True


def readiness(daemon: Daemon) -> int:
    """The status of `/readyz`, 0 if nobody answers."""
    try:
        return daemon.page("/readyz")[0]
    except OSError:
        return 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_without_calls_it_ends_at_once(daemon: Daemon, number: signal.Signals) -> None:
    assert readiness(daemon) == 200
    daemon.process.signal(number)
    assert daemon.process.wait(SOON) == 0
    assert not is_listening(daemon)


def test_a_call_under_way_is_finished(daemon: Daemon, held: Held) -> None:
    with ask_held(daemon, held) as alice:
        tell_to_stop(daemon)
        eventually(lambda: not is_listening(daemon), "a closed listener")
        assert readiness(daemon) in (503, 0)
        assert daemon.process.is_alive()
        held.release.set()
        answer = alice.reply()
        assert answer.status == 200
        assert answer.get("connection") == "close"
        assert alice.ended()
    assert daemon.process.wait(SOON) == 0
    assert [line["status"] for line in daemon.records() if "status" in line] == [200]


def test_who_was_accepted_is_let_in_and_served(daemon: Daemon, held: Held) -> None:
    """The order of accepting is that of connecting: once the second is served, the first is in."""
    first = daemon.dial()
    with ask_held(daemon, held) as other:
        tell_to_stop(daemon)
        eventually(lambda: not is_listening(daemon), "a closed listener")
        held.release.set()
        assert other.reply().status == 200
        context = daemon.mesh.context("agent/alice")
        with Caller(context.wrap_socket(first, server_hostname="127.0.0.1")) as alice:
            answer = alice.ask("POST", "/mcp", rpc("ping"))
            assert (answer.status, answer.get("connection")) == (200, "close")
            assert alice.ended()
    assert daemon.process.wait(SOON) == 0


def test_a_caller_that_does_not_close_its_side_holds_nothing_up(daemon: Daemon, held: Held) -> None:
    with ask_held(daemon, held) as alice:
        tell_to_stop(daemon)
        held.release.set()
        assert alice.reply().status == 200
        assert daemon.process.wait(SOON) == 0  # its socket is open until here


def test_readiness_is_the_first_to_go(daemon: Daemon, held: Held) -> None:
    with ask_held(daemon, held):
        tell_to_stop(daemon)
        status, body = daemon.page("/readyz")
        assert (status, body) == (503, "draining\n")
        assert daemon.page("/healthz")[0] == 200
        assert daemon.stats()["server.state"] == 1


def test_a_connection_without_a_call_is_closed(daemon: Daemon, held: Held) -> None:
    with daemon.caller("agent/alice") as idle, ask_held(daemon, held) as busy:
        assert idle.ask("POST", "/mcp", rpc("ping")).all("connection") == []
        tell_to_stop(daemon)
        assert idle.ended()
        held.release.set()
        assert busy.reply().status == 200


def test_of_calls_sent_together_the_first_is_the_last(daemon: Daemon, held: Held) -> None:
    with daemon.caller("agent/alice") as alice:
        alice.send(request("POST", "/held", rpc("ping")) * 3)
        eventually(lambda: len(held.server) == 1, "the first call at the server")
        tell_to_stop(daemon)
        held.release.set()
        answer = alice.reply()
        assert (answer.status, answer.get("connection")) == (200, "close")
        assert alice.ended()
    assert daemon.process.wait(SOON) == 0
    assert len(held.server) == 1


def test_a_second_signal_ends_it_at_once(daemon: Daemon, held: Held) -> None:
    with ask_held(daemon, held) as alice:
        tell_to_stop(daemon)
        daemon.process.signal(signal.SIGTERM)
        assert daemon.process.wait(SOON) == 1
        assert alice.reply_or_end() is None


def test_a_reload_during_the_drain_is_not_heard(daemon: Daemon, held: Held) -> None:
    with ask_held(daemon, held) as alice:
        tell_to_stop(daemon)
        daemon.process.signal(signal.SIGHUP)
        eventually(lambda: not is_listening(daemon), "a closed listener")
        held.release.set()
        assert alice.reply().status == 200
    assert daemon.process.wait(SOON) == 0
    assert "reloaded" not in daemon.said()


def test_what_does_not_end_is_cut_off_after_the_limit(held: Held, tmp_path: Path) -> None:
    with (
        sidecar(held, tmp_path, limits={"drainTimeout": "500ms"}) as daemon,
        ask_held(daemon, held) as alice,
    ):
        tell_to_stop(daemon)
        assert daemon.process.wait(SOON) == 0
        assert alice.reply_or_end() is None
        lines = [line for line in daemon.records() if "status" in line]
    assert len(lines) == 1, "a call that was cut off is written down too"


def test_a_stream_goes_on_until_the_limit_and_is_never_ended_as_if_it_were_whole(
    held: Held, tmp_path: Path
) -> None:
    with (
        sidecar(held, tmp_path, limits={"drainTimeout": "500ms"}) as daemon,
        daemon.caller("agent/alice") as alice,
    ):
        alice.send(request("GET", "/events", headers=()))
        head = alice.head()
        assert head is not None
        assert alice.take(int(alice.line(), 16)).startswith(b'data: {"a":1}')
        tell_to_stop(daemon)
        assert not alice.rest().endswith(b"0\r\n\r\n")
        assert daemon.process.wait(SOON) == 0


def test_it_stops_under_load_without_failing_a_call(daemon: Daemon, held: Held) -> None:
    failed: list[object] = []
    done: list[int] = []

    def keep_asking() -> None:
        try:
            while True:
                with daemon.caller("agent/alice") as alice:
                    ask_until_closed(alice, done, failed)
        except OSError:
            return  # it listens no more

    threads = [threading.Thread(target=keep_asking) for _ in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(done) > 100, "calls under way")
    daemon.process.signal(signal.SIGTERM)
    assert daemon.process.wait(10) == 0
    for thread in threads:
        thread.join(10)
    assert not failed
    answered = [line for line in daemon.records() if line.get("status") == 200]
    assert len(answered) >= len(done)


def ask_until_closed(alice: Caller, done: list[int], failed: list[object]) -> None:
    """Ask one after the other; a connection closed between two calls is no failure."""
    while True:
        answer = alice.ask_or_end("POST", "/mcp", rpc("ping"))
        if answer is None:
            return
        if answer.status != 200:
            failed.append(answer)
        done.append(answer.status)
        if answer.get("connection") == "close":
            return
