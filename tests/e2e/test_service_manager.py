"""A sidecar under a service manager: what it is told, and sockets that outlive a restart."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..support.daemon import PATIENCE, free_port
from ..support.e2e import Mesh
from ..support.wire import Caller, Recorder, eventually

RULES = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: agents, namespace: mcp-prod}
spec: {rules: [{from: [{source: {principals: ["cluster.local/ns/agent/sa/alice"]}}]}]}
"""
# In the place of a service manager: hand the socket over as the first descriptor.
HAND_OVER = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "sidecar", "run", "-c", "sidecar.yaml"])
"""


class Ear:
    """The service manager's end of NOTIFY_SOCKET, open for the time of a block."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self._sock.settimeout(PATIENCE)
        self.path = path

    def __enter__(self) -> Ear:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def wait_for(self, word: str) -> str:
        """Return the first message from now on that has *word*."""
        while True:
            message = self._sock.recv(4096).decode()
            if word in message.splitlines():
                return message


@contextmanager
def started(mesh: Mesh, ear: Ear, listening: socket.socket) -> Iterator[subprocess.Popen[bytes]]:
    with (mesh.folder / "sidecar.err").open("ab") as err:
        child = subprocess.Popen(
            [sys.executable, "-c", HAND_OVER, str(listening.fileno())],
            cwd=mesh.folder,
            stderr=err,
            stdout=err,
            pass_fds=[listening.fileno()],
            env={**os.environ, "NOTIFY_SOCKET": str(ear.path), "WATCHDOG_USEC": "200000"},
        )
    try:
        yield child
    finally:
        child.kill()
        child.wait(10)


def test_it_says_when_it_is_ready_alive_reloading_and_ending_and_keeps_its_socket(
    tmp_path: Path,
) -> None:
    mesh = Mesh(tmp_path)
    mesh.write("rules.yaml", RULES)
    with (
        Ear(tmp_path / "notify") as ear,
        Recorder() as server,
        socket.create_server(("127.0.0.1", 0)) as listening,
    ):
        port = listening.getsockname()[1]
        mesh.bootstrap({"mcp": {"listen": f"127.0.0.1:{port}", "to": server.url}}, free_port())
        for _ in range(2):  # the second finds the socket that the first left behind
            with started(mesh, ear, listening) as child:
                ready = ear.wait_for("READY=1")
                assert "STATUS=ready, 1 inbound, certificate for " in ready
                ear.wait_for("WATCHDOG=1")
                ear.wait_for("WATCHDOG=1")
                assert asked(mesh, port) == 200

                child.send_signal(signal.SIGHUP)
                assert "MONOTONIC_USEC=" in ear.wait_for("RELOADING=1")
                ear.wait_for("READY=1")
                mesh.write("broken.yaml", "kind: [")
                child.send_signal(signal.SIGHUP)
                ear.wait_for("RELOADING=1")
                assert "the last reload was refused" in ear.wait_for("READY=1")
                (mesh.policies / "broken.yaml").unlink()

                child.send_signal(signal.SIGTERM)
                assert "STATUS=draining" in ear.wait_for("STOPPING=1")
                assert child.wait(PATIENCE) == 0
            # Nobody is there, and still nobody is refused: the connection waits.
            with socket.create_connection(("127.0.0.1", port), 5):
                pass


def asked(mesh: Mesh, port: int) -> int:
    context = mesh.context("agent/alice")
    sock = context.wrap_socket(Caller.dial(port), server_hostname="127.0.0.1")
    with Caller(sock) as alice:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode()
        return alice.ask("POST", "/mcp", body).status


def test_a_socket_that_no_inbound_uses_is_said(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    with (
        Ear(tmp_path / "notify") as ear,
        Recorder() as server,
        socket.create_server(("127.0.0.1", 0)) as listening,
    ):
        port = listening.getsockname()[1]
        mesh.bootstrap(
            {"mcp": {"listen": f"127.0.0.1:{free_port()}", "to": server.url}}, free_port()
        )
        with started(mesh, ear, listening):
            ear.wait_for("READY=1")
            said = f"a socket on 127.0.0.1:{port} was handed over, and nothing listens there"
            eventually(lambda: said in (tmp_path / "sidecar.err").read_text(), "the unused socket")
