"""Killed before any change to the disk, a CA is whole at its next start; nothing works twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

KILLING = Path(__file__).with_name("killing.py")


def states_of(what: str, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, KILLING, what, folder], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    return [line.split()[1] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("what", "order"),
    [
        # A token that is spent and not answered is lost: that is the price of once.
        ("join", ["free", "lost", "given"]),
        ("rotate", ["old", "new"]),
        ("revoke", ["old", "new"]),
        ("log", ["old", "new"]),
    ],
)
def test_a_kill_at_any_step_leaves_all_or_nothing(
    what: str, order: list[str], tmp_path: Path
) -> None:
    states = states_of(what, tmp_path)
    assert len(states) > 15
    assert states == sorted(states, key=order.index)
    assert set(states) == set(order)
