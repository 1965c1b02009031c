"""A Debian in a folder, made by debootstrap once and kept in pytest's cache: the base of machines.

It is of the release that this machine runs, from the mirror that this machine uses, and has
Python, systemd and an empty environment in /opt/sidecar. Where it cannot be had, tests skip by
name.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PACKAGES = ("python3", "python3-venv", "ca-certificates", "systemd", "systemd-sysv", "dbus")
_FORM = "1"  # of the tree: another one is made when this changes
_LONGEST = 400  # seconds to fetch and unpack it


def needs(*tools: str) -> pytest.MarkDecorator:
    """Return what skips a test where one of *tools* is not here, or not root to use them."""
    missing = [tool for tool in tools if shutil.which(tool, path=_path()) is None]
    if os.geteuid() != 0:
        missing.insert(0, "root")
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def run(*argv: str | Path, timeout: float = 60) -> str:
    """Run a command that must succeed; return all it says."""
    done = subprocess.run(
        [str(part) for part in argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
        env={**os.environ, "PATH": _path()},
        check=False,
    )
    assert done.returncode == 0, f"{argv}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="session")
def debian(request: pytest.FixtureRequest) -> Path:
    """Return the tree, which nobody changes: copy it."""
    cache = request.config.cache.mkdir("debian")
    name = f"{_release()}-{platform.machine()}-{_FORM}"
    with _alone(cache):
        if not (cache / name).is_dir():
            _make(cache, name)
    return cache / name


def _make(cache: Path, name: str) -> None:
    for old in cache.iterdir():
        if old.is_dir():
            shutil.rmtree(old)
    tree = cache / f"{name}.new"
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    try:
        run(*command, _release(), tree, _mirror(), timeout=_LONGEST)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        shutil.rmtree(tree, ignore_errors=True)
        pytest.skip(f"debootstrap could not make a Debian here: {str(error)[-300:]}")
    shutil.rmtree(tree / "var/cache/apt", ignore_errors=True)
    shutil.rmtree(tree / "var/lib/apt/lists", ignore_errors=True)
    run("chroot", tree, "python3", "-m", "venv", "/opt/sidecar")
    tree.rename(cache / name)


def _release() -> str:
    text = Path("/etc/os-release").read_text()
    release = re.search(r"^VERSION_CODENAME=(\w+)", text, re.MULTILINE)
    if release is None or not re.search(r"^ID=debian", text, re.MULTILINE):
        pytest.skip("this is not a Debian whose release could be made again")
    return release[1]


def _mirror() -> str:
    """Return where this machine gets its packages."""
    lists = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("debian*")]
    text = "\n".join(one.read_text() for one in lists if one.is_file())
    found = re.search(
        r"^(?:URIs:|deb(?: \[.*?\])?)\s+(https?://\S+/debian)/?\s", text, re.MULTILINE
    )
    return found[1] if found else "http://deb.debian.org/debian"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold *folder*: of tests that run side by side, one makes the tree."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return this project's wheel, as pip builds it."""
    root, folder = Path(__file__).parents[2], tmp_path_factory.mktemp("wheel")
    run_pip("wheel", "-q", "--no-deps", "-w", folder, root)
    [built] = folder.glob("*.whl")
    return built


def run_pip(*argv: str | Path) -> None:
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", *argv, timeout=120)
