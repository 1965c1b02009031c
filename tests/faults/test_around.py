"""Rows 35, 45 and 54: a full disk, a kill, and a port that somebody else has."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from support.daemon import free_port
from support.e2e import Daemon, Mesh
from support.raw_caller import Caller
from support.raw_upstream import RawUpstream
from support.wire import eventually

from .world import ALLOWED, started


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_row_35_a_log_that_takes_no_more_holds_no_call_up_and_is_counted(tmp_path: Path) -> None:
    with (
        started(tmp_path, {"mcp": RawUpstream()}, log={"access": "/dev/full"}) as world,
        world.caller() as alice,
    ):
        for _ in range(200):
            assert alice.ask("GET", "/").body == b"ok"
        eventually(lambda: world.stat("access_log.lines_lost") >= 200, "lost lines counted")
        assert alice.ask("GET", "/").body == b"ok"
        assert world.stat("server.internal_faults") == 0
        assert len(world.daemon.said().splitlines()) < 100, "it is not told line by line"


class Placed:
    """A sidecar before *server* on fixed ports, to be started more than once."""

    def __init__(self, folder: Path, server: RawUpstream) -> None:
        self.mesh = Mesh(folder)
        self.port, self.admin = free_port(), free_port()
        self.mesh.write("policy.yaml", ALLOWED.format(plain=free_port()))
        door = {"listen": f"127.0.0.1:{self.port}", "to": server.url}
        self.mesh.bootstrap({"mcp": door}, self.admin)
        self.certs = self.mesh.mint.leaf("agent/alice").folder

    def serves(self) -> bool:
        with Caller(self.port, self.certs) as alice:
            return alice.ask("GET", "/").body == b"ok"


def test_row_45_after_a_kill_it_has_its_port_again_at_once(tmp_path: Path) -> None:
    with RawUpstream() as server:
        placed = Placed(tmp_path, server)
        for _ in range(2):
            with placed.mesh.start() as process:
                daemon = Daemon(placed.mesh, process, {"mcp": placed.port}, placed.admin)
                daemon.wait_ready()
                with Caller(placed.port, placed.certs) as open_one:
                    assert open_one.ask("GET", "/").body == b"ok"
                    assert placed.serves()
                    process.signal(signal.SIGKILL)
                    assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("which", [lambda one: one.port, lambda one: one.admin])
def test_row_54_a_port_that_is_taken_is_told_and_ends_it(
    tmp_path: Path, which: Callable[[Placed], int]
) -> None:
    with RawUpstream() as server:
        placed = Placed(tmp_path, server)
        with socket.create_server(("127.0.0.1", which(placed))), placed.mesh.start() as process:
            assert process.wait() not in (0, None)
            said = process.said()
            assert f"127.0.0.1:{which(placed)}" in said
            assert "address already in use" in said.lower()
            assert "Traceback" not in said
