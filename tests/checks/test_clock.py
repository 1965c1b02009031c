"""The clock: behind what was written before, or far from the CA's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidecar.checks.clock import not_behind, skew


@pytest.mark.parametrize(("now", "ok"), [(1_000.0, True), (997.0, True), (900.0, False)])
def test_a_clock_behind_a_file_that_was_written_is_a_cross(
    tmp_path: Path, now: float, ok: bool
) -> None:
    for name, at in (("old", 500), ("new", 1_000)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (at, at))
    outcome = not_behind(now, [tmp_path / "old", tmp_path / "new", tmp_path / "none"])
    assert outcome.ok is ok
    assert ok or ("100 s behind" in outcome.said and outcome.remedy)


def test_without_files_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    assert not_behind(0.0, [tmp_path / "none"]).ok is None


@pytest.mark.parametrize(
    ("theirs", "ok", "word"),
    [(None, None, ""), (1_010.0, True, ""), (1_200.0, False, "behind"), (0.0, False, "ahead of")],
)
def test_a_clock_far_from_the_cas_is_a_cross(
    theirs: float | None, ok: bool | None, word: str
) -> None:
    outcome = skew(1_000.0, theirs)
    assert outcome.ok is ok
    assert word in outcome.said
