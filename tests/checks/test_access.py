"""Whether access lines will find their file."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.checks.access import STREAMS, writable


@pytest.mark.parametrize("where", STREAMS)
def test_a_stream_is_always_there(where: str) -> None:
    assert writable(where).ok is None


def test_a_file_that_is_there_or_can_be_made_is_a_tick(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    assert writable(str(path)).ok
    path.touch()
    assert writable(str(path)).ok


@pytest.mark.parametrize("where", ["none/access.log", "folder", "file/access.log"])
def test_what_cannot_be_written_is_a_cross(tmp_path: Path, where: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    cross = writable(str(tmp_path / where))
    assert cross.ok is False
    assert cross.remedy
