"""A process that is forked is to whoever looks at it what one is that was started."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from support.daemon import Process, free_port, running
from support.e2e import Mesh
from support.warm import COLD
from support.wire import eventually

FORKED = ("sidecar.cli",)


def seen(folder: Path, argv: tuple[str, ...], env: dict[str, str]) -> tuple[int, str, str]:
    folder.mkdir()
    process = Process("one", argv, folder, env)
    code = process.wait()
    said = (process.stdout.read_text(), process.stderr.read_text())
    return (code, *(text.replace(str(folder), "HERE") for text in said))


@pytest.mark.parametrize(
    "line",
    [
        "--version",
        "no-such-command",
        "run -c nowhere.yaml",
        "run --to http://127.0.0.1:9 --as a/b/c",
        "validate nowhere.yaml",
        "ca list",
        "explain Sidecar",
        "check",
    ],
)
def test_it_says_and_returns_the_same(line: str, tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path), "TMPDIR": str(tmp_path), "SIDECAR_ADMIN": ""}
    forked = seen(tmp_path / "forked", (*FORKED, *line.split()), env)
    assert forked == seen(tmp_path / "started", (*COLD, *line.split()), env)
    assert forked[1] or forked[2]


def held(begin: tuple[str, ...], folder: Path, told: signal.Signals) -> tuple[object, ...]:
    """Return what a running sidecar has open, where it is, and how it ends."""
    folder.mkdir()
    mesh, port = Mesh(folder), free_port()
    mesh.bootstrap({"mcp": {"listen": f"127.0.0.1:{port}", "to": "http://127.0.0.1:9"}}, None)
    env = {"XDG_RUNTIME_DIR": str(folder), "RUNTIME_DIRECTORY": ""}
    with running("one", [*begin, "run", "-c", "sidecar.yaml"], folder, env) as process:
        eventually(lambda: "sidecar: ready" in process.stderr.read_text(), "readiness")
        proc = Path(f"/proc/{process.pid}")
        files = [os.readlink(one) for one in (proc / "fd").iterdir()]
        kinds = sorted(re.sub(r"\d+", "N", one.replace(str(folder), "HERE")) for one in files)
        assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid
        assert (proc / "cwd").resolve() == folder
        process.signal(told)
        return kinds, process.wait(), process.is_alive()


@pytest.mark.parametrize(
    ("told", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_its_files_its_session_and_its_end_are_its_own(
    told: signal.Signals, code: int, tmp_path: Path
) -> None:
    forked = held(FORKED, tmp_path / "forked", told)
    assert forked == held(COLD, tmp_path / "started", told)
    assert forked[1:] == (code, False)
