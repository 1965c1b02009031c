"""The demo's child processes: started together, watched, and always ended.

Each child leads a process group of its own, so a Ctrl-C at the terminal reaches
only the demo, which then ends every group it started. What a child writes goes
to files; if one dies, its last words are part of the error.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .. import __file__ as package_file
from ..errors import StartError

PATIENCE: Final = 20.0
LAST_LINES: Final = 15

_POLL: Final = 0.02
_GRACE: Final = 3.0


class Child:
    """One process; *name* is what errors call it."""

    def __init__(self, name: str, arguments: Sequence[str], folder: Path) -> None:
        self.name = name
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder.parent,
                env=_environment(),
                start_new_session=True,
            )

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until its output matches *pattern*; raise StartError if it dies or is silent."""
        deadline = time.monotonic() + PATIENCE
        while True:
            ended = self._process.poll() is not None
            found = re.search(pattern, self._out.read_text(errors="replace"))
            if found is not None:
                return found
            if ended:
                raise self.fault()
            self.patience(deadline)

    def wait_end(self) -> None:
        """Wait until it has ended; raise StartError unless it ended well."""
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise StartError(f"`{self.name}` did not end within {PATIENCE:g} s") from None
        if code:
            raise self.fault()

    def patience(self, deadline: float) -> None:
        """Sleep a moment; raise StartError once *deadline* has passed or it has died."""
        if self._process.poll() is not None:
            raise self.fault()
        if time.monotonic() > deadline:
            raise StartError(f"`{self.name}` was not ready in time\n{self._last_words()}")
        time.sleep(_POLL)

    def fault(self) -> StartError:
        """Return the error that tells of its death, with its last words."""
        code = self._process.poll()
        return StartError(f"`{self.name}` ended with exit code {code}\n{self._last_words()}")

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._signal(signal.SIGKILL)
        self._process.wait(_GRACE)

    def ask_to_end(self) -> None:
        self._signal(signal.SIGTERM)

    def end(self) -> None:
        """Wait for it to end as asked, then end what is left of its group."""
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            pass
        self._signal(signal.SIGKILL)
        self._process.wait(_GRACE)

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass

    def _last_words(self) -> str:
        lines = (self._err.read_text(errors="replace") or "(it said nothing)").splitlines()
        return "\n".join(f"  | {line}" for line in lines[-LAST_LINES:])


class Children:
    """All children of one demo, in the order they were started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[Child] = []

    def start(self, name: str, *arguments: str) -> Child:
        """Start `python *arguments*`; its output goes to the folder, it runs in the parent's."""
        child = Child(name, arguments, self._folder)
        self._children.append(child)
        return child

    def end(self) -> None:
        """End all of them: asked first, the youngest before those it depends on."""
        for child in reversed(self._children):
            child.ask_to_end()
        for child in reversed(self._children):
            child.end()


def _environment() -> dict[str, str]:
    """Our own environment, with this package found wherever the child runs."""
    home = str(Path(package_file).resolve().parent.parent)
    known = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([home, known]) if known else home
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
