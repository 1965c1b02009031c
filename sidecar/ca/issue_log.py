"""The issue log on the disk: the file that is written, and full ones before it.

A file that has grown full is put aside under the number of its first entry, and the
chain goes on in a new one. The oldest is dropped once there are too many and it tells
of nothing that still matters; that this was done stands in the chain. Killed at any
moment, what is there follows from its first line to its last.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import StartError
from .files import PRIVATE, PUBLIC, install, read_public, settle, sync
from .log import MAX_LINE, PRUNED, LogBroken, digest, line_after, parse, rfc3339

LOG: Final = "issued.jsonl"
LIMITS: Final = "log.json"
FORGET_AFTER: Final = 30 * 86400.0  # seconds; no certificate is renewed that ended so long ago
LEAST_SIZE: Final = MAX_LINE
_PARTS: Final = "issued-*.jsonl"
_TAIL: Final = 2 * MAX_LINE  # bytes of the log's end: its last line, and one cut short


@dataclass(frozen=True, slots=True)
class LogLimits:
    """How many bytes a file of the log may have before the next begins, and how many full ones
    are kept."""

    size: int = 16 * 1024 * 1024
    keep: int = 16

    def __post_init__(self) -> None:
        if self.size < LEAST_SIZE or self.keep < 1:
            raise StartError(
                f"a log of {self.keep} files of {self.size} bytes is too small",
                help=f"keep at least 1 file, of at least {LEAST_SIZE} bytes",
            )


def read_limits(folder: Path) -> LogLimits:
    """Return the limits of the log of the CA in *folder*."""
    try:
        found = json.loads(read_public(folder / LIMITS))
        return LogLimits(int(found["size"]), int(found["keep"]))
    except FileNotFoundError:
        return LogLimits()
    except (ValueError, TypeError, KeyError) as error:
        raise StartError(f"`{folder / LIMITS}` cannot be read: {error}") from None


def set_limits(folder: Path, limits: LogLimits) -> None:
    """Have the log of the CA in *folder* keep within *limits*; the caller holds the lock."""
    text = json.dumps({"size": limits.size, "keep": limits.keep}).encode() + b"\n"
    install(folder, {LIMITS: (text, PUBLIC)}, replace=True)


def lines(folder: Path) -> Iterator[bytes]:
    """Yield the lines of the whole log of the CA in *folder*, newlines included."""
    # The last file is opened first: what is put aside from now on is still this one.
    with (folder / LOG).open("rb") as last:
        current = os.fstat(last.fileno())
        for part in _parts(folder):
            try:
                with part.open("rb") as file:
                    if not os.path.samestat(os.fstat(file.fileno()), current):
                        yield from file
            except FileNotFoundError:
                continue  # dropped since: the end of the log tells of it
        yield from last


def append(folder: Path, event: str, facts: Mapping[str, object], now: float) -> None:
    """Add an entry to the log of the CA in *folder* and sync it; the caller holds the lock."""
    limits = read_limits(folder)
    try:
        if not (_is_full(folder, limits) and _begin(folder, event, facts, now)):
            _add(folder / LOG, event, facts, now)
            return
        _prune(folder, limits, now)
    except LogBroken as error:
        raise StartError(
            f"`{folder / LOG}` is damaged at its end: {error}",
            help="restore it from a backup, or move it away and begin a new one "
            f"with `install -m 600 /dev/null {folder / LOG}`",
        ) from None


def _parts(folder: Path) -> list[Path]:
    """Return the full files, the oldest first."""
    return sorted(folder.glob(_PARTS))


def _is_full(folder: Path, limits: LogLimits) -> bool:
    path = folder / LOG
    if path.stat().st_size < limits.size:
        return False
    settle(folder, replace=True)  # the next may be ready, and its writer killed
    return path.stat().st_size >= limits.size


def _begin(folder: Path, event: str, facts: Mapping[str, object], now: float) -> bool:
    """Go on in a new file, if the last line of the old one was finished; return whether it was.

    Until the new one takes its place, the old one has two names.
    """
    path = folder / LOG
    first, last, torn = _ends(path)
    if torn or not first:
        return False
    following = line_after(last, event, facts, now)
    aside = folder / f"issued-{parse(first).number:012d}.jsonl"
    if not aside.exists():
        os.link(path, aside, follow_symlinks=False)
        sync(folder)
    elif not aside.samefile(path):
        raise StartError(f"`{aside}` stands in the way of the issue log: move it away")
    install(folder, {LOG: (following, PRIVATE)}, replace=True)
    return True


def _ends(path: Path) -> tuple[bytes, bytes, bytes]:
    """Return the first whole line of *path*, the last, and what follows it."""
    with path.open("rb") as file:
        first = file.readline(MAX_LINE + 1)
        file.seek(-min(_TAIL, file.seek(0, os.SEEK_END)), os.SEEK_END)
        whole, _, torn = file.read().rpartition(b"\n")
    return first.removesuffix(b"\n"), whole.rpartition(b"\n")[2], torn


def _prune(folder: Path, limits: LogLimits, now: float) -> None:
    """Drop the oldest files beyond those that are kept, once nothing they tell matters."""
    parts = _parts(folder)
    for part in parts[: -limits.keep]:
        if _matters(part, rfc3339(now - FORGET_AFTER)):
            return
        last = _ends(part)[1]
        # First it is written that it goes: a log that begins later must say why.
        facts: dict[str, object] = {"through": parse(last).number, "sha256": digest(last)}
        _add(folder / LOG, PRUNED, facts, now)
        part.unlink()
        sync(folder)


def _matters(part: Path, horizon: str) -> bool:
    """Whether anything in *part* was written, or ends, after *horizon*; LogBroken if unread."""
    with part.open("rb") as file:
        for line in file:
            entry = parse(line)
            if max(entry.time, str(entry.facts.get("not_after", ""))) > horizon:
                return True
    return False


def _add(path: Path, event: str, facts: Mapping[str, object], now: float) -> None:
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.fstat(handle).st_size
        tail = os.pread(handle, _TAIL, max(0, size - _TAIL))
        new, torn = _lines_after(tail, event, facts, now)
        if torn:
            os.ftruncate(handle, size - torn)
        _write_whole(handle, new, size - torn)
    finally:
        os.close(handle)


def _lines_after(
    tail: bytes, event: str, facts: Mapping[str, object], now: float
) -> tuple[bytes, int]:
    """Return what follows *tail*, and how many bytes of a line that was never finished to cut."""
    whole, newline, torn = tail.rpartition(b"\n")
    last = whole.rpartition(b"\n")[2]
    if not newline and len(tail) == _TAIL:
        raise LogBroken("its last line has no end")
    new = b""
    if torn:
        new = line_after(last, "mended", {"cut": len(torn)}, now)
        last = new.removesuffix(b"\n")
    return new + line_after(last, event, facts, now), len(torn)


def _write_whole(handle: int, new: bytes, size: int) -> None:
    """Append *new* to a file of *size* bytes, or leave it as it was."""
    try:
        if os.write(handle, new) != len(new):
            raise OSError("the issue log could not be written whole")
        os.fsync(handle)
    except OSError:
        os.ftruncate(handle, size)
        raise
