"""A machine of its own with a real systemd, for the time of a boot: systemd-nspawn(1).

with Machine(debian, wheel, folder) as machine:
    machine.boot("first")   # what the steps of that boot found, as JSON
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from .debian import passing
from .debian_tree import run

ROOT = Path(__file__).parents[2]
STEPS = Path(__file__).parent / "machine"
PROGRAM = Path(__file__).parent / "stdio_program.py"
PAGE = ROOT / "docs" / "how-to" / "run-as-a-service.md"
PATIENCE = 100.0  # seconds of one boot, all its steps included

_STEPS_UNIT = """\
[Unit]
After=multi-user.target
SuccessAction=poweroff
FailureAction=poweroff
[Service]
Type=oneshot
Environment=PYTHONPATH=/opt/steps
ExecStart=/bin/sh -c 'exec /opt/sidecar/bin/python -m machine "$(cat /opt/steps/boot)"'
TimeoutStartSec=90
[Install]
WantedBy=multi-user.target
"""


class Machine:
    """A copy of *tree* below *folder*, with *wheel* installed as its administrator would."""

    def __init__(self, tree: Path, wheel: Path, folder: Path) -> None:
        self.tree = folder / "tree"
        self._name = f"sidecar-test-{os.getpid()}"
        self._debian, self._wheel = tree, wheel
        self._kept = ExitStack()

    def __enter__(self) -> Machine:
        self.tree.mkdir()
        with ExitStack() as kept:
            kept.enter_context(passing(self.tree))
            self._install()
            self._kept = kept.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()

    def _install(self) -> None:
        run("cp", "-a", "--reflink=auto", f"{self._debian}/.", self.tree)
        self._may_start()
        site = self._site()
        for distribution in dependencies("mcp-sidecar"):
            _copy(distribution, site)
        shutil.copy(self._wheel, self.tree / "opt")
        pip = ("/opt/sidecar/bin/pip", "install", "-q", "--no-deps", "--no-index")
        run("chroot", self.tree, *pip, f"/opt/{self._wheel.name}")
        self._furnish()

    def _may_start(self) -> None:
        try:
            run(*self._nspawn(), "/bin/true", timeout=30)
        except AssertionError as error:
            pytest.skip(f"systemd-nspawn starts nothing here: {str(error)[-300:]}")

    def _site(self) -> Path:
        [site] = (self.tree / "opt/sidecar/lib").glob("python3*/site-packages")
        ours = f"python3.{sys.version_info.minor}"
        if site.parent.name != ours:
            pytest.skip(f"the machine's {site.parent.name} cannot use packages of {ours}")
        return site

    def _furnish(self) -> None:
        units = self.tree / "etc/systemd/system"
        for unit in (ROOT / "systemd").iterdir():
            shutil.copy(unit, units)
        (units / "steps.service").write_text(_STEPS_UNIT)
        wanted = units / "multi-user.target.wants"
        wanted.mkdir(exist_ok=True)
        (wanted / "steps.service").symlink_to("/etc/systemd/system/steps.service")
        shutil.copytree(STEPS, self.tree / "opt/steps/machine")
        shutil.copy(PAGE, self.tree / "opt/steps/page.md")
        shutil.copy(PROGRAM, self.tree / "opt/steps/program.py")
        (self.tree / "etc/machine-id").write_text("")

    def _nspawn(self) -> list[str]:
        how = ["--register=no", "--keep-unit", "--private-network", "--console=pipe"]
        return ["systemd-nspawn", "-q", "-D", str(self.tree), "-M", self._name, *how]

    def boot(self, name: str) -> dict[str, Any]:
        """Boot, do the steps of boot *name*, power off; return what they found."""
        (self.tree / "opt/steps/boot").write_text(name)
        found = self.tree / f"opt/steps/{name}.json"
        console = self.tree.parent / f"{name}.console"
        with console.open("wb") as out:
            child = subprocess.Popen(
                [*self._nspawn(), "-b"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
            try:
                child.wait(PATIENCE)
            finally:
                self._end(child)
        assert found.exists(), f"boot {name} found nothing\n{console.read_text(errors='replace')}"
        facts: dict[str, Any] = json.loads(found.read_text())
        return facts

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)  # nspawn ends what is in it with itself
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait(10)
        for left in Path("/run/systemd/nspawn/propagate").glob(self._name):
            left.rmdir()


def dependencies(name: str) -> Iterator[metadata.Distribution]:
    """Yield the distributions that *name* needs to run, as they are installed here."""
    seen, todo = {_plain(name)}, [name]
    while todo:
        for wanted in metadata.requires(todo.pop()) or []:
            needed = _plain(re.split(r"[^\w.-]", wanted, maxsplit=1)[0])
            if "extra ==" in wanted or needed in seen:
                continue
            seen.add(needed)
            try:
                yield metadata.distribution(needed)
            except metadata.PackageNotFoundError:
                continue  # for another system or an older Python
            todo.append(needed)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _copy(distribution: metadata.Distribution, site: Path) -> None:
    for file in distribution.files or []:
        source = Path(str(distribution.locate_file(file)))
        if ".." in file.parts or "__pycache__" in file.parts or not source.is_file():
            continue
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
