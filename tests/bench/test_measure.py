"""CPU and memory are those of a whole process tree."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from race import measure

# A parent that works a little, and starts a child that works as well.
_FAMILY = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c",
    "x = sum(range(3_000_000)); print('worked', flush=True); import time; time.sleep(30)"])
import time; time.sleep(30)
"""


@pytest.fixture
def family() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", _FAMILY], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"worked\n"
    pids = measure.tree(process.pid)
    yield process.pid
    for pid in pids:
        os.kill(pid, 9)
    process.wait()
    process.stdout.close()


def test_a_tree_holds_the_process_and_its_children(family: int) -> None:
    pids = measure.tree(family)
    assert pids[0] == family
    assert len(pids) == 2


def test_the_child_is_counted_with_its_parent(family: int) -> None:
    parent, child = measure.tree(family)
    both = measure.cpu_seconds([parent, child])
    assert both > measure.cpu_seconds([parent]) > 0
    assert measure.rss_bytes([parent, child]) > measure.rss_bytes([parent]) > 1 << 20


def test_a_cpu_is_busy_while_this_process_works_on_it() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    before = measure.busy_seconds(cpus)
    begin = time.process_time()
    while time.process_time() - begin < 0.1:
        pass
    assert measure.busy_seconds(cpus) > before
    assert measure.busy_seconds([]) == 0


def test_a_process_that_is_gone_counts_as_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert measure.cpu_seconds([process.pid]) == 0
    assert measure.rss_bytes([process.pid]) == 0
    assert measure.tree(process.pid) == [process.pid]
