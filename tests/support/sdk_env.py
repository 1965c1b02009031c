"""An environment with the 1.x line of the MCP SDK, made once and kept in pytest's cache.

The two lines of the SDK have one import name, so they cannot share an
environment. Where it cannot be installed, the tests that need it are skipped
with pip's last words.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

REQUIREMENT = "mcp>=1.27,<2"
PATIENCE = 180.0


def legacy_python(cache: Path) -> Path:
    """Return the interpreter of the environment in *cache*, made if needed."""
    python, done = cache / "venv" / "bin" / "python", cache / "done"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (done.exists() and done.read_text() == REQUIREMENT and python.exists()):
            _install(cache / "venv", python)
            done.write_text(REQUIREMENT)
    return python


def _install(folder: Path, python: Path) -> None:
    _run(sys.executable, "-m", "venv", "--clear", str(folder))
    _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", REQUIREMENT)


def _run(*argv: str) -> None:
    try:
        subprocess.run(argv, check=True, capture_output=True, timeout=PATIENCE, text=True)
    except subprocess.TimeoutExpired:
        pytest.skip(f"mcp 1.x could not be installed within {PATIENCE:g} s")
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"mcp 1.x could not be installed: {last}")
