"""`python3 debian_tree.py FOLDER`: a Debian below FOLDER, made by debootstrap unless it is there.

It is of the release that this machine runs, from the mirror that this machine uses, and has
Python, systemd and an empty environment in /opt/sidecar. Only one process makes it; others wait.
It needs nothing but Python, so that it can be made while tests are being installed.
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

PACKAGES = ("python3", "python3-venv", "ca-certificates", "systemd", "systemd-sysv", "dbus")
SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_FORM = "1"  # of the tree: another one is made when this changes
_LONGEST = 400  # seconds to fetch and unpack it


class Unavailable(Exception):
    """There can be no Debian here; it says why."""


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
        env={**os.environ, "PATH": SEARCHED},
        check=False,
    )
    assert done.returncode == 0, f"{argv}\n{done.stdout}"
    return done.stdout


def make(folder: Path) -> Path:
    """Return the tree below *folder*, which nobody changes: copy it. Raises Unavailable."""
    folder.mkdir(parents=True, exist_ok=True)
    release = _release()
    name = f"{release}-{platform.machine()}-{_FORM}"
    with _alone(folder):
        if not (folder / name).is_dir():
            _make(folder, name, release)
    return folder / name


def _make(folder: Path, name: str, release: str) -> None:
    for old in folder.iterdir():
        if old.is_dir():
            shutil.rmtree(old)
    tree = folder / f"{name}.new"
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    try:
        run(*command, release, tree, _mirror(), timeout=_LONGEST)
    except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
        shutil.rmtree(tree, ignore_errors=True)
        raise Unavailable(f"debootstrap made no Debian here: {str(error)[-300:]}") from None
    for left in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(tree / left, ignore_errors=True)
    run("chroot", tree, "python3", "-m", "venv", "/opt/sidecar")
    tree.rename(folder / name)


def _release() -> str:
    text = Path("/etc/os-release").read_text()
    release = re.search(r"^VERSION_CODENAME=(\w+)", text, re.MULTILINE)
    if release is None or not re.search(r"^ID=debian", text, re.MULTILINE):
        raise Unavailable("this is not a Debian whose release could be made again")
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
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))
