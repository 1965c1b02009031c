"""Floods over HTTP/2: each is told GOAWAY, and an honest caller beside it is served throughout."""

from __future__ import annotations

import select
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from support import floods
from support.e2e import Daemon, Mesh
from support.speaker import Caller2
from support.wire import Recorder, eventually

ANYBODY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: anybody, namespace: mcp-prod}
spec: {rules: [{}]}
"""
LONGEST = 12.0  # seconds of one flood
LEAST = 0.4  # seconds for which it comes again on a new connection
MOST = 8 << 20  # bytes of one flood
LIMITS = {"requestHeadTimeout": "1s", "requestBodyTimeout": "1s", "idleTimeout": "1s"}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    mesh = Mesh(tmp_path_factory.mktemp("floods"))
    mesh.write("anybody.yaml", ANYBODY)
    return mesh


@pytest.fixture(scope="module")
def daemon(mesh: Mesh) -> Iterator[Daemon]:
    with Recorder() as server, mesh.run({"mcp": {"to": server.url}}, limits=LIMITS) as daemon:
        yield daemon


class Attack:
    """One connection that floods: what it was told, whole frames of it."""

    def __init__(self, daemon: Daemon, mesh: Mesh) -> None:
        context = mesh.context("agent/mallory")
        context.set_alpn_protocols(["h2"])
        self._sock = context.wrap_socket(daemon.dial(), server_hostname="127.0.0.1")
        assert self._sock.selected_alpn_protocol() == "h2"
        self._sock.setblocking(False)
        self._told = b""
        self.closed = False

    def run(self, pieces: Iterator[bytes]) -> None:
        """Send *pieces* until the other side ends it, or says GOAWAY, or the bounds are met."""
        deadline, sent, waiting = time.monotonic() + LONGEST, 0, b""
        with self._sock:
            while time.monotonic() < deadline and not self.closed and not self.goaway:
                if not waiting and sent < MOST:
                    waiting = next(pieces, b"")
                    sent += len(waiting)
                waiting = self._send(waiting)
                self._hear()

    def _send(self, data: bytes) -> bytes:
        if not data:
            select.select([self._sock], [], [], 0.05)
            return data
        try:
            return data[self._sock.send(data) :]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            select.select([self._sock], [self._sock], [], 0.05)
        except OSError:
            self._hear()
            self.closed = True
        return data

    def _hear(self) -> None:
        try:
            while data := self._sock.recv(65_536):
                self._told += data
            self.closed = True
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            self.closed = True

    @property
    def goaway(self) -> bool:
        """Whether GOAWAY was said."""
        at = 0
        while len(self._told) - at >= 9:
            if self._told[at + 3] == floods.GOAWAY:
                return True
            at += 9 + int.from_bytes(self._told[at : at + 3])
        return False


class Honest(threading.Thread):
    """A caller that asks one thing after the other; `waits` is how long each answer took."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__(daemon=True)
        self._port, self._context = port, context
        self._stop_asking = threading.Event()
        self.waits: list[float] = []
        self.wrong: list[object] = []

    def run(self) -> None:
        with Caller2.secure(self._port, self._context) as caller:
            while not self._stop_asking.is_set():
                begun = time.monotonic()
                told = caller.call("GET", "/mcp")
                self.waits.append(time.monotonic() - begun)
                if told.status != 200:
                    self.wrong.append(told)
                    return
                time.sleep(0.002)

    def finish(self) -> None:
        self._stop_asking.set()
        self.join(30)


@contextmanager
def beside(daemon: Daemon, mesh: Mesh) -> Iterator[Honest]:
    """An honest caller for the time of the block; it must have been served throughout."""
    honest = Honest(daemon.port, mesh.context("agent/alice"))
    honest.start()
    eventually(lambda: honest.waits, "an honest answer")
    try:
        yield honest
    finally:
        honest.finish()
    assert not honest.is_alive()
    assert not honest.wrong
    print(f"worst wait {max(honest.waits) * 1e3:.0f} ms of {len(honest.waits)}")


@pytest.mark.parametrize("flood", floods.FLOODS, ids=lambda flood: flood.__name__)
def test_a_flood_is_told_to_go_away(
    daemon: Daemon, mesh: Mesh, flood: Callable[[], Iterator[bytes]]
) -> None:
    attacks = []
    with beside(daemon, mesh):
        until = time.monotonic() + LEAST
        while not attacks or time.monotonic() < until:
            attacks.append(Attack(daemon, mesh))
            attacks[-1].run(chained(flood))
    assert all(attack.goaway for attack in attacks)
    assert daemon.process.is_alive()


@pytest.mark.parametrize("slow", floods.SLOW, ids=lambda slow: slow.__name__)
def test_who_begins_and_never_ends_is_told_to_go_away(
    daemon: Daemon, mesh: Mesh, slow: Callable[[], bytes]
) -> None:
    attack = Attack(daemon, mesh)
    with beside(daemon, mesh):
        attack.run(iter([slow()]))
    assert attack.goaway


def chained(flood: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
    yield floods.GREETING
    yield from flood()


def test_each_is_written_down(daemon: Daemon) -> None:
    line = daemon.event(event="connection_broken")
    assert line["detail"].startswith("HTTP/2: ")


def test_nothing_is_left_behind_and_no_bug_was_met(daemon: Daemon) -> None:
    deadline = time.monotonic() + 30
    while daemon.stats()["server.total_connections"] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert daemon.stats()["server.total_connections"] == 0
    assert "a fault in" not in daemon.said()
