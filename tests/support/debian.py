"""A Debian in pytest's cache, and this project's wheel: what machines and images are made of.

Where they cannot be had, tests skip by name.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .debian_tree import SEARCHED, Unavailable, make, run

ROOT = Path(__file__).parents[2]
ROOM = 2 * 1024**3  # bytes: more than a machine or an image needs


def needs(*tools: str) -> pytest.MarkDecorator:
    """Return what skips a test where one of *tools* is not here, or not root to use them."""
    missing = [tool for tool in tools if shutil.which(tool, path=SEARCHED) is None]
    if os.geteuid() != 0:
        missing.insert(0, "root")
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


@pytest.fixture(scope="session")
def debian(request: pytest.FixtureRequest) -> Path:
    """Return the tree, which nobody changes: copy it."""
    try:
        return make(request.config.cache.mkdir("debian"))
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return this project's wheel, as pip builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    run_pip("wheel", "-q", "--no-deps", "-w", folder, ROOT)
    [built] = folder.glob("*.whl")
    return built


@contextmanager
def passing(folder: Path) -> Iterator[None]:
    """Let *folder* be for the time of the block, in memory where there is plenty of it.

    A disk takes longer to write and to remove thousands of files than all that is done with them.
    """
    in_memory = _is_plenty() and _mounted(folder)
    try:
        yield
    finally:
        if in_memory:
            run("umount", folder)
        shutil.rmtree(folder)


def _is_plenty() -> bool:
    found = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return found is not None and int(found[1]) * 1024 > 4 * ROOM


def _mounted(folder: Path) -> bool:
    try:
        run("mount", "-t", "tmpfs", "-o", f"size={ROOM},mode=0700", "tmpfs", folder)
    except AssertionError:
        return False
    return True


def run_pip(*argv: str | Path) -> None:
    """Run this interpreter's pip, which asks whom its user told it to."""
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", *argv, timeout=120)
