"""Child processes for tests: started in a group of their own, output kept, always ended.

A `Process` writes to files, so a chatty child never blocks; `wait_for` polls
for a line and fails with everything the child said if it dies or stays silent.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PYTHON = sys.executable
PATIENCE = 30.0


class Process:
    """One child: *name* names its output files in *folder*."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        folder: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.stdout, self.stderr = folder / f"{name}.out", folder / f"{name}.err"
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self._child = subprocess.Popen(
                [str(part) for part in argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    def said(self) -> str:
        """Return all it has written so far, both streams."""
        return (
            f"--- {self.name} stdout\n{self.stdout.read_text(errors='replace')}"
            f"--- {self.name} stderr\n{self.stderr.read_text(errors='replace')}"
        )

    def wait_for(self, pattern: str, patience: float = PATIENCE) -> re.Match[str]:
        """Return the first match of *pattern* in its stdout; fail if it dies before."""
        deadline = time.monotonic() + patience
        while True:
            ended = self._child.poll() is not None
            found = re.search(pattern, self.stdout.read_text(errors="replace"))
            if found:
                return found
            assert not ended, f"{self.name} ended with {self._child.returncode}\n{self.said()}"
            assert time.monotonic() < deadline, f"{self.name} never said {pattern}\n{self.said()}"
            time.sleep(0.02)

    def wait(self, patience: float = PATIENCE) -> int:
        """Wait for its end and return the exit code."""
        return self._child.wait(patience)

    def signal(self, number: int) -> None:
        self._child.send_signal(number)

    def is_alive(self) -> bool:
        return self._child.poll() is None

    def stop(self) -> int:
        """End it and its group: SIGTERM, then SIGKILL; return the exit code."""
        if self.is_alive():
            self.signal(signal.SIGTERM)
            try:
                self._child.wait(5)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self._child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return self._child.wait(5)


@contextmanager
def running(
    name: str,
    argv: Sequence[str],
    folder: Path,
    env: Mapping[str, str] | None = None,
) -> Iterator[Process]:
    """Run *argv* in *folder* for the time of the block."""
    process = Process(name, argv, folder, env)
    try:
        yield process
    finally:
        process.stop()
