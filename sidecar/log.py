"""Where access lines go: a file, stdout or stderr, written beside the loop and never in its way.

A write that stalls or fails costs lines, which are counted, and never a call.
"""

from __future__ import annotations

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from .errors import StartError
from .observe.journal import Journal

_EVERY: Final = 0.1  # seconds between two batches


class Log:
    """Writes what a journal holds to where `log.access` says."""

    def __init__(self, access: str) -> None:
        self._access = access
        self._owned = False
        self._fd = self._open(access)
        # One thread: batches stay in order, and a stalled one holds the next back.
        self._thread = ThreadPoolExecutor(1, "access-log")

    def _open(self, access: str) -> int:
        if access == "stdout":
            return sys.stdout.fileno()
        if access in ("stderr", "none"):
            return sys.stderr.fileno()
        try:
            fd = os.open(access, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise StartError(
                f"the access log `{access}` cannot be written: {error}",
                help="set `log: {access: stdout}` or a file that this user may write",
            ) from None
        self._owned = True
        return fd

    def reopen(self) -> None:
        """Open the file anew, for whoever has renamed it away.

        Raises StartError if it can't be opened; the old one is then written on.
        """
        if self._owned:
            old, self._fd = self._fd, self._open(self._access)
            self._thread.submit(os.close, old)  # behind the batch that may be under way

    async def run(self, journal: Journal) -> None:
        """Write a batch ten times a second until cancelled."""
        while True:
            await asyncio.sleep(_EVERY)
            await self.flush(journal)

    async def flush(self, journal: Journal) -> None:
        """Write what waits."""
        lines = journal.take()
        if lines:
            loop = asyncio.get_running_loop()
            lost = await loop.run_in_executor(self._thread, _write, self._fd, lines)
            journal.metrics.lost_lines += lost

    def close(self) -> None:
        """Write no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self._owned:
            os.close(self._fd)


def _write(fd: int, lines: bytes) -> int:
    """Write *lines* to *fd*; return how many could not be written."""
    rest = memoryview(lines)
    try:
        while rest:
            rest = rest[os.write(fd, rest) :]
    except OSError:
        return bytes(rest).count(b"\n")
    return 0
