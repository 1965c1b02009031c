"""The demo's children are watched while they live and gone when it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.demo import children as module
from sidecar.demo.children import Children
from sidecar.errors import StartError

SLEEP = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
PARENT = (
    "import subprocess, sys, time; "
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    "print('pid', child.pid, flush=True); time.sleep(60)"
)


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    (tmp_path / "logs").mkdir()
    started = Children(tmp_path / "logs")
    yield started
    started.end()


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_what_a_child_says_is_waited_for(children: Children) -> None:
    child = children.start(
        "talker", "-c", "print('port 42', flush=True); import time; time.sleep(60)"
    )
    assert child.wait_for(r"port (\d+)")[1] == "42"
    assert child.is_alive()


def test_a_child_that_dies_is_an_error_with_its_last_words(children: Children) -> None:
    child = children.start("victim", "-c", "import sys; sys.exit('address already in use')")
    with pytest.raises(StartError) as caught:
        child.wait_for("never")
    assert "`victim` ended with exit code 1" in str(caught.value)
    assert "address already in use" in str(caught.value)


def test_a_child_that_says_nothing_is_given_up(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    child = children.start("silent", "-c", "import time; time.sleep(60)")
    with pytest.raises(StartError, match="not ready in time"):
        child.wait_for("never")
    with pytest.raises(StartError, match="did not end"):
        child.wait_end()


def test_an_exit_code_that_is_not_zero_is_an_error(children: Children) -> None:
    children.start("good", "-c", "pass").wait_end()
    with pytest.raises(StartError, match="exit code 3"):
        children.start("bad", "-c", "raise SystemExit(3)").wait_end()


def test_a_grandchild_ends_with_its_group(children: Children) -> None:
    parent = children.start("parent", "-c", PARENT)
    grandchild = int(parent.wait_for(r"pid (\d+)")[1])
    assert is_running(grandchild)
    children.end()
    assert not parent.is_alive()
    deadline = time.monotonic() + 10
    while is_running(grandchild) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(grandchild)


def test_one_that_does_not_listen_is_killed(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GRACE", 0.3)
    child = children.start("stubborn", "-c", STUBBORN)
    child.wait_for("up")
    child.ask_to_end()
    child.end()
    assert not child.is_alive()


def test_children_find_this_package_from_any_folder(children: Children) -> None:
    code = "import sidecar, os; print(sidecar.__file__, os.getcwd(), flush=True)"
    child = children.start("importer", "-c", code)
    child.wait_end()
    package, folder = child.wait_for(r"(\S+) (\S+)").groups()
    assert package.endswith(os.path.join("sidecar", "__init__.py"))
    assert not package.startswith(folder)
