"""The tutorial of three machines goes as it says: a folder and a loopback address for each."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.daemon import Process, free_port, running
from support.pages import ROOT, Folder
from support.wire import eventually

PAGE = ROOT / "docs" / "tutorial" / "three-machines.md"
ADDRESSES = {"10.0.0.1": "127.0.0.11", "10.0.0.2": "127.0.0.12", "10.0.0.3": "127.0.0.13"}
NAMES = {"ca": "10.0.0.1", "files": "10.0.0.2", "agent": "10.0.0.3"}
PORTS = ("8444", "8443", "9000")
# What stands in for ssh: the command is run in the folder of that machine.
SSH = '#!/bin/sh\ncd "{top}/$1" && exec sh -c "$2"\n'


class Machine(Folder):
    """One machine: its folder, and its commands with addresses of loopback."""

    def __init__(self, top: Path, address: str, ports: dict[str, int]) -> None:
        path = top / ADDRESSES[address]
        path.mkdir()
        super().__init__(path, ports)
        self.env |= {"PATH": f"{top}/bin:/usr/local/bin:/usr/bin:/bin"}
        self.sidecar: Process | None = None

    def placed(self, text: str) -> str:
        for written, used in ADDRESSES.items():
            text = text.replace(written, used)
        text = text.replace("number: 8443", f"number: {self._ports['8443']}")
        return super().placed(text)


class Reader:
    """Somebody who follows the page, machine by machine."""

    def __init__(self, top: Path, stack: ExitStack) -> None:
        shim = top / "bin" / "ssh"
        shim.parent.mkdir()
        shim.write_text(SSH.format(top=top))
        shim.chmod(0o755)
        ports = {port: free_port() for port in PORTS}
        self._stack = stack
        self._machines = {name: Machine(top, NAMES[name], ports) for name in NAMES}
        self._count = 0

    def follow(self, where: str, command: str) -> str:
        """Do on *where* what a block says; return what it printed."""
        machine = self._machines[where]
        if "sidecar.demo.server" in command:
            self._start(machine, command).wait_for("listening")
        elif "ca serve" in command:
            self._hears(self._start(machine, command), "sidecar ca: ready\n")
        elif "sidecar run" in command:
            if machine.sidecar is not None:
                machine.sidecar.stop()
            machine.sidecar = self._start(machine, command)
            self._hears(machine.sidecar, "sidecar: ready\n")
        else:
            return machine.run(command)
        return ""

    def _start(self, machine: Machine, command: str) -> Process:
        self._count += 1
        argv = ["bash", "-c", machine.placed(command)]
        name = f"process-{self._count}"
        return self._stack.enter_context(running(name, argv, machine.path, machine.env))

    def _hears(self, process: Process, text: str) -> None:
        eventually(lambda: text in process.said() or not process.is_alive(), text)
        assert text in process.said()


def steps(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield the blocks of the page: on which machine, of which kind, and what."""
    where = ""
    for name, kind, body in re.findall(
        r"[Oo]n `(\w+)`|^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL
    ):
        where = name or where
        if kind:
            yield where, kind, body


@pytest.mark.timeout(120)
def test_the_tutorial_of_three_machines_goes_as_it_says(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    compared, said = 0, ""
    with ExitStack() as stack:
        reader = Reader(tmp_path, stack)
        for where, kind, body in steps(PAGE.read_text()):
            if kind == "sh":
                said = reader.follow(where, body)
            elif kind == "json":
                assert json.loads(said) == json.loads(body)
                compared += 1
            else:
                assert said == body
                compared += 1
    assert compared == 3
