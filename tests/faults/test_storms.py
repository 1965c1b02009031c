"""Rows 32 to 34: more connections, more handshakes, and more sockets than there is room for."""

from __future__ import annotations

import resource
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from support.raw_caller import Caller
from support.raw_upstream import RawUpstream

from .world import MIB, World, started

ROOM = 40  # for callers
LIMITS = {"connections": ROOM, "handshakes": 64, "handshakeTimeout": "1s", "idleTimeout": "20s"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("storms")
    servers = {"mcp": RawUpstream(), "other": RawUpstream()}
    with started(folder, servers, EJECTING, limits=LIMITS) as running:
        with running.caller() as alice:
            assert alice.ask("GET", "/").body == b"ok"
        yield running


class Storm:
    """Connections that come and say `opening`, or nothing; they stay until it is over."""

    def __init__(self, port: int, opening: bytes = b"") -> None:
        self._port = port
        self._opening = opening
        self._all: list[socket.socket] = []

    def __enter__(self) -> Storm:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._all:
            one.close()

    def add(self, count: int) -> None:
        for _ in range(count):
            one = socket.socket()
            self._all.append(one)
            one.settimeout(15)
            try:
                one.connect(("127.0.0.1", self._port))
                if self._opening:
                    one.sendall(self._opening)
            except OSError:
                pass  # refused, which is an answer

    def left(self) -> int:
        """How many of them the sidecar has not closed; the others are forgotten."""
        kept = []
        for one in self._all:
            if is_open(one):
                kept.append(one)
            else:
                one.close()
        self._all = kept
        return len(kept)


def is_open(sock: socket.socket) -> bool:
    try:
        sock.settimeout(0)
        while sock.recv(4096):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def refused(world: World) -> bool:
    """Whether a new caller is not let in."""
    try:
        with world.caller() as caller:
            caller.send("GET", "/")
            return caller.ends()
    except (OSError, ssl.SSLError):
        return True


def is_served(caller: Caller) -> bool:
    return caller.ask("GET", "/").body == b"ok"


# -- 32


def test_row_32_beyond_the_limit_connections_are_closed_and_those_inside_are_served(
    world: World,
) -> None:
    with ExitStack() as stack:
        inside = [stack.enter_context(world.caller()) for _ in range(ROOM)]
        assert all(is_served(one) for one in inside)
        for _ in range(5):
            assert refused(world)
        assert all(is_served(one) for one in inside)
        inside.pop().close()
        assert world.server.until(lambda: world.stat("server.total_connections") == ROOM - 1)
        assert is_served(stack.enter_context(world.caller()))


def test_row_32_a_storm_of_connections_ends_no_call_and_leaves_nothing(world: World) -> None:
    """Five thousand, while an honest caller asks again and again."""
    before = world.memory()
    with world.caller() as honest, Storm(world.daemon.port) as storm:
        ended = threading.Event()

        def blow() -> None:
            for _ in range(50):
                storm.add(100)
                storm.left()
            ended.set()

        blowing = threading.Thread(target=blow)
        blowing.start()
        worst = 0.0
        while not ended.is_set():
            begun = time.monotonic()
            assert is_served(honest)
            worst = max(worst, time.monotonic() - begun)
        blowing.join()
        assert worst < 2, "the honest one had to wait"
        assert world.server.until(lambda: storm.left() == 0, 10), "the silent ones stay"
        assert is_served(honest)
    assert not refused_for_long(world)
    assert world.memory() - before < 16 * MIB


def refused_for_long(world: World) -> bool:
    return not world.server.until(lambda: not refused(world), 15)


# -- 33


def test_row_33_handshakes_that_never_end_are_reaped_and_honest_callers_come_in(
    world: World,
) -> None:
    """40 say nothing, 20 say something else than TLS, and 20 are honest."""
    failures = "listener.ssl.connection_error"
    before = world.stat(failures)
    silent, garbage = Storm(world.daemon.port), Storm(world.daemon.port, b"\x16\x03\1\0\5hello")
    with silent, garbage, ExitStack() as stack:
        silent.add(40)
        garbage.add(20)
        honest = [stack.enter_context(world.caller()) for _ in range(20)]
        assert all(is_served(one) for one in honest)
        assert world.server.until(lambda: silent.left() == garbage.left() == 0, 10)
        assert world.server.until(lambda: world.stat(failures) == before + 60)
    assert world.server.until(lambda: reasons(world).count("timeout") >= 40, 5), reasons(world)


def reasons(world: World) -> list[str]:
    return [one["reason"] for one in world.daemon.records() if one.get("reason")]


# -- 34

EJECTING = """\
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: other, namespace: mcp-prod}
spec:
  host: other
  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}}
"""


def test_row_34_what_we_have_not_is_no_fault_of_a_server(world: World) -> None:
    pid = world.daemon.process.pid
    usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with world.caller("other") as alice, world.caller() as honest:
        assert is_served(honest)
        try:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (10, usual[1]))
            assert alice.ask("GET", "/").status == 503
            assert is_served(honest)
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
        assert world.of("other", "upstream_cx_connect_fail") > 0
        assert world.of("other", "membership_healthy") == 1
        assert is_served(alice)


def test_row_34_without_descriptors_it_serves_on_and_recovers(world: World) -> None:
    pid = world.daemon.process.pid
    usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with world.caller() as honest:
        assert is_served(honest)
        at_once = time.monotonic(), world.busy()
        try:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (world.descriptors() + 4, usual[1]))
            with Storm(world.daemon.port) as storm:
                storm.add(30)
                for _ in range(20):
                    assert is_served(honest)
                    time.sleep(0.05)
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
        spent = world.busy() - at_once[1]
        assert spent < 0.5 * (time.monotonic() - at_once[0]) + 0.3, "it spins"
        assert not refused_for_long(world)
    assert world.server.until(lambda: "out_of_descriptors" in reasons(world), 15)
    assert reasons(world).count("out_of_descriptors") < 30, "once for each pause"
    assert len(world.daemon.said().splitlines()) < 100
