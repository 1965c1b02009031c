"""What a service manager hears and hands over, by a socket of its own in its place."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.systemd import Inherited, Manager, address_of


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        sock.bind(str(tmp_path / "notify"))
        yield sock


def manager_of(heard: socket.socket, **more: str) -> Manager:
    return Manager({"NOTIFY_SOCKET": heard.getsockname(), **more}, pid=7)


def test_ready_comes_with_a_status_of_one_line(heard: socket.socket) -> None:
    manager_of(heard).ready("fine,\nMAINPID=1")
    assert heard.recv(1024) == b"READY=1\nSTATUS=fine, MAINPID=1"


def test_a_reload_says_since_when(heard: socket.socket) -> None:
    manager_of(heard).reloading()
    first, _, second = heard.recv(1024).decode().partition("\n")
    assert first == "RELOADING=1"
    assert second.removeprefix("MONOTONIC_USEC=").isdigit()


def test_the_end_and_signs_of_life_are_told(heard: socket.socket) -> None:
    manager = manager_of(heard)
    manager.stopping("draining")
    manager.alive()
    assert heard.recv(1024) == b"STOPPING=1\nSTATUS=draining"
    assert heard.recv(1024) == b"WATCHDOG=1"


def test_an_abstract_address_is_heard_too() -> None:
    name = f"sidecar-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        sock.bind("\0" + name)
        Manager({"NOTIFY_SOCKET": "@" + name}).alive()
        assert sock.recv(64) == b"WATCHDOG=1"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/notify", "@" + "x" * 200])
def test_nobody_to_tell_is_no_fault(address: str) -> None:
    Manager({"NOTIFY_SOCKET": address}).ready("fine")


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_signs_of_life_are_due_at_half_the_time(
    heard: socket.socket, environment: dict[str, str], seconds: float
) -> None:
    assert manager_of(heard, **environment).watchdog == seconds


def test_nobody_waits_for_signs_of_life_without_a_socket_to_give_them_to() -> None:
    assert Manager({"WATCHDOG_USEC": "30000000"}, pid=7).watchdog == 0.0


@pytest.mark.parametrize(
    "environment", [{}, {"LISTEN_FDS": "1", "LISTEN_PID": "8"}, {"LISTEN_FDS": "x"}]
)
def test_no_socket_is_taken_that_was_not_handed_to_this_process(
    environment: dict[str, str],
) -> None:
    assert Manager(environment, pid=7).sockets() == []


def test_a_socket_that_was_handed_over_is_taken_by_its_address_once() -> None:
    code = (
        "import os; from sidecar.systemd import *;"
        "m = Manager({'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid())});"
        "i = Inherited(m.sockets()); import sys; a = sys.argv[1];"
        "s = i.take(a); print(address_of(s), s.get_inheritable(), i.take(a))"
    )
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address = address_of(sock)
        done = subprocess.run(
            [sys.executable, "-c", f"import os; os.dup2({sock.fileno()}, 3); {code}", address],
            pass_fds=[sock.fileno()],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    assert done.stdout.split() == [address, "False", "None"]


def test_what_nobody_took_is_closed_and_named() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    address = address_of(sock)
    inherited = Inherited([sock])
    assert inherited.take("127.0.0.1:1") is None
    assert inherited.close() == [address]
    assert sock.fileno() == -1
    assert inherited.close() == []


def test_an_address_is_written_as_a_bootstrap_writes_it(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        assert address_of(sock) == f"unix:{tmp_path}/s"
