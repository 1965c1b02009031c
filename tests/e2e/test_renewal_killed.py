"""`kill -9` of the CA, the sidecar or a command, at any moment: each start finds all whole.

How often is bounded here for time; SIDECAR_LONG_TESTS=1 asks for the full number.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.ca_host import CaHost, Joined, Member
from support.daemon import PYTHON
from support.wire import Recorder

from sidecar.ca.ledger import entries
from sidecar.ca.store import open_ca
from sidecar.ca.tokens import Token

KILLS = 200 if os.environ.get("SIDECAR_LONG_TESTS") else 6


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


class Mesh:
    """A CA and a sidecar that are killed, and come back."""

    def __init__(self, folder: Path, server: Recorder, chance: random.Random) -> None:
        self.ca = CaHost(folder / "ca")
        self.member = Member(folder / "files", self.ca, "mcp-prod/files", server.url)
        self.tokens: list[str] = []
        self.chance = chance
        self._sidecar = ExitStack()
        self.sidecar: Joined | None = None

    def begin(self) -> None:
        """Start what does not run."""
        if not hasattr(self.ca, "process") or not self.ca.process.is_alive():
            self.ca.begin("--ttl", "2s", "--refresh", "1s")
        if self.sidecar is None:
            self.sidecar = self._sidecar.enter_context(self.member.run())

    def forget(self) -> None:
        """Have the sidecar join anew."""
        shutil.rmtree(self.member.certs, ignore_errors=True)
        self.give_token()

    def give_token(self) -> None:
        token = self.ca.token(self.member.who)
        self.tokens.append(token)
        self.member.put_token(token)

    def kill_sidecar(self) -> None:
        assert self.sidecar is not None
        self.sidecar.process.signal(signal.SIGKILL)
        self.sidecar.process.wait()
        self._sidecar.close()
        self.sidecar = None

    def kill_command(self) -> None:
        """Begin a rotation, and kill it on its way."""
        argv = [PYTHON, "-m", "sidecar", "ca", "rotate"]
        command = subprocess.Popen(argv, cwd=self.ca.folder, stderr=subprocess.DEVNULL)
        time.sleep(self.chance.uniform(0.1, 0.4))
        command.kill()
        command.wait()

    def end(self) -> None:
        self._sidecar.close()
        self.ca.process.stop()

    def check(self) -> None:
        """Hold what is on the CA's disk now against its promises."""
        open_ca(self.ca.ca).record("looked", {}, time.time())
        issued = [one.facts for one in entries(self.ca.ca) if one.event == "issued"]
        serials = [one["serial"] for one in issued]
        assert len(set(serials)) == len(serials), "a serial was issued twice"
        by_token = [one["token"] for one in issued if one.get("by") == "token"]
        assert len(set(by_token)) == len(by_token), "a token has worked twice"


@pytest.mark.timeout(900)
def test_whatever_is_killed_at_whatever_moment_all_is_whole_again(
    server: Recorder, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    mesh = Mesh(tmp_path, server, chance)
    try:
        mesh.forget()
        for number in range(KILLS):
            mesh.begin()
            time.sleep(chance.uniform(0.0, 1.2))
            match number % 3:
                case 0:
                    mesh.ca.kill()
                case 1:
                    mesh.kill_sidecar()
                    if chance.random() < 0.5:
                        mesh.forget()
                case _:
                    mesh.kill_command()
            mesh.check()
        mesh.begin()
        if not (mesh.member.certs / "svid.pem").exists():
            mesh.give_token()  # one was spent on a certificate that nobody lived to keep
        assert mesh.sidecar is not None
        mesh.sidecar.wait_ready()
        spent = {one["token"] for one in mesh.ca.events("issued") if one.get("by") == "token"}
        assert spent
        for token in mesh.tokens:
            opened = Token.parse(token)
            if opened.hash[:16] in spent:
                assert not (mesh.ca.ca / "tokens" / f"{opened.hash}.open").exists()
        assert "whole" in mesh.ca.cli("log", "verify")
    finally:
        mesh.end()
