"""CPU time and memory of a process and all its descendants, read from /proc.

CPU time is what the scheduler counted for every thread, in nanoseconds, so a
window of a second is exact enough. Processes that vanish while they are read
count as nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """Return *pid* and all its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found = [pid]
    for known in found:  # grows while it is walked; a process has one parent, so it ends
        found += children.get(known, [])
    return found


def _parents() -> Iterator[tuple[int, int]]:
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            stat = _text(entry / "stat")
            if stat:
                # The name in brackets may hold anything: fields begin after the last bracket.
                yield int(entry.name), int(stat[stat.rindex(")") + 2 :].split()[1])


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time that the living threads of *pids* have used, in seconds."""
    return sum(_thread_ns(task) for pid in pids for task in _tasks(pid)) / 1e9


def _tasks(pid: int) -> list[Path]:
    try:
        return list((_PROC / str(pid) / "task").iterdir())
    except OSError:
        return []


def _thread_ns(task: Path) -> int:
    fields = _text(task / "schedstat").split()
    return int(fields[0]) if fields else 0


def busy_seconds(cpus: Iterable[int]) -> float:
    """Return for how long *cpus* have been busy with whatever, in seconds, to a tick (10 ms)."""
    wanted = {f"cpu{number}" for number in cpus}
    lines = (line.split() for line in _text(_PROC / "stat").splitlines())
    return sum(_busy_ticks(fields) for fields in lines if fields[0] in wanted) / _TICKS


def _busy_ticks(fields: list[str]) -> int:
    user, nice, system, _idle, _iowait, *interrupts = (int(field) for field in fields[1:9])
    return user + nice + system + sum(interrupts)


def rss_bytes(pids: Iterable[int]) -> int:
    """Return the resident memory of *pids*, in bytes; pages they share count for each."""
    return sum(_rollup(pid, "Rss:") for pid in pids)


def _rollup(pid: int, key: str) -> int:
    for line in _text(_PROC / str(pid) / "smaps_rollup").splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
