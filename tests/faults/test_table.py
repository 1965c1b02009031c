"""The page of faults and the tests agree: every row is shown, and every test is of a row."""

from __future__ import annotations

import re
from pathlib import Path

from support.pages import ROOT

PAGE = ROOT / "docs" / "reference" / "faults.md"
LINES = re.findall(r"^\| (\d+) \|(.*)\|$", PAGE.read_text(), re.MULTILINE)
ROWS = {int(row): re.findall(r"`(tests/[\w/]+\.py::test_\w+)`", rest) for row, rest in LINES}
OWN = Path(__file__).parent.relative_to(ROOT).as_posix()


def names_in(path: str) -> set[str]:
    """The tests of one file, as the page names them."""
    text = (ROOT / path).read_text()
    return {f"{path}::{name}" for name in re.findall(r"^(?:async )?def (test_\w+)", text, re.M)}


def test_rows_1_to_34_are_each_shown_by_a_test_of_their_name() -> None:
    assert len(ROWS) == len(LINES), "a row stands twice"
    assert set(range(1, 35)) <= set(ROWS)
    for row in range(1, 35):
        assert ROWS[row], row
        assert all(f"::test_row_{row:02}_" in one for one in ROWS[row]), row


def test_every_test_that_is_named_exists() -> None:
    named = {one for tests in ROWS.values() for one in tests}
    known = {one for path in {one.partition("::")[0] for one in named} for one in names_in(path)}
    assert named - known == set()


def test_every_test_of_a_row_is_on_the_page() -> None:
    paths = [f"{OWN}/{file.name}" for file in Path(__file__).parent.glob("test_*.py")]
    written = {one for path in paths for one in names_in(path) if "::test_row_" in one}
    listed = {one for tests in ROWS.values() for one in tests if one.startswith(OWN)}
    assert written == listed
