"""`sidecar demo` as a person runs it: real processes, eight verdicts, nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import PYTHON, Process, running

pytestmark = pytest.mark.timeout(120)

VERDICTS = ["ALLOW", "ALLOW", "DENY", "DENY", "REFUSED", "BLOCKED", "BLOCKED", "EJECTED"]


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


def demo(temporary: Path, *more: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "TMPDIR": str(temporary), "NO_COLOR": "1"}
    argv = [PYTHON, "-m", "sidecar", "demo", *more]
    return subprocess.run(argv, capture_output=True, text=True, timeout=90, env=env, check=False)


def left_over(temporary: Path) -> list[str]:
    """What still runs in, or lies in, the temporary folder."""
    found = [str(path) for path in temporary.iterdir()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            folder = os.readlink(process / "cwd")
        except OSError:
            continue
        if folder.startswith(str(temporary)):
            found.append(f"pid {process.name}")
    return found


def wait_clean(temporary: Path) -> None:
    deadline = time.monotonic() + 10
    while left_over(temporary) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left_over(temporary) == []


def test_the_table_has_eight_rows_as_expected(temporary: Path) -> None:
    done = demo(temporary)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if re.match(r"[1-8]  ", line)]
    assert [row[42:51].strip() for row in rows] == VERDICTS
    assert "8 of 8 as expected" in done.stdout
    assert all(len(line) <= 100 for line in done.stdout.splitlines())
    assert "\x1b" not in done.stdout + done.stderr
    assert "server/readers#0" in rows[0]
    assert re.search(r"policy\.yaml:\d+", rows[0])
    assert "2 of 4 tools visible" in rows[1]
    assert "server/no-mallory#0" in rows[3]
    wait_clean(temporary)


def test_json_is_data_and_nothing_else(temporary: Path) -> None:
    done = demo(temporary, "-o", "json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["verdict"] for row in rows] == VERDICTS
    assert [row["expected"] for row in rows] == VERDICTS
    assert all(row["ms"] > 0 for row in rows)
    wait_clean(temporary)


@pytest.fixture
def kept(temporary: Path, tmp_path: Path) -> Iterator[Process]:
    argv = [PYTHON, "-m", "sidecar", "demo", "--keep", "-o", "json"]
    with running("demo", argv, tmp_path, {"TMPDIR": str(temporary)}) as process:
        yield process


def wait_kept(process: Process) -> str:
    deadline = time.monotonic() + 60
    while "Ctrl-C ends it" not in process.said():
        assert process.is_alive(), process.said()
        assert time.monotonic() < deadline, process.said()
        time.sleep(0.05)
    return process.said()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_keep_leaves_it_up_until_it_is_told(
    kept: Process, temporary: Path, number: signal.Signals
) -> None:
    said = wait_kept(kept)
    curl = re.search(r"^Try +(curl .*)$", said, re.MULTILINE)
    assert curl is not None
    done = subprocess.run(curl[1], shell=True, capture_output=True, text=True, check=False)
    names = [tool["name"] for tool in json.loads(done.stdout)["result"]["tools"]]
    assert names == ["list_files", "read_file"]
    kept.signal(number)
    assert kept.wait() == 0
    wait_clean(temporary)


def test_a_sidecar_that_dies_is_told_with_its_last_words(kept: Process, temporary: Path) -> None:
    wait_kept(kept)
    [folder] = temporary.iterdir()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"run" in arguments and str(folder / "sidecar.yaml").encode() in arguments:
            os.kill(int(process.name), signal.SIGKILL)
    assert kept.wait() == 1
    assert "`sidecar` ended with exit code -9" in kept.said()
    wait_clean(temporary)


@pytest.mark.parametrize("after", [0.3, 1.5])
def test_an_interrupt_at_any_time_leaves_nothing(
    tmp_path: Path, temporary: Path, after: float
) -> None:
    argv = [PYTHON, "-m", "sidecar", "demo"]
    with running("demo", argv, tmp_path, {"TMPDIR": str(temporary)}) as process:
        process_started(process)
        time.sleep(after)
        process.signal(signal.SIGINT)
        process.wait()
    wait_clean(temporary)


def process_started(process: Process) -> None:
    deadline = time.monotonic() + 30
    while "demo on 127.0.0.1" not in process.said() and time.monotonic() < deadline:
        time.sleep(0.01)
