from __future__ import annotations

import pytest

from sidecar.config.problem import ConfigError, Level, Notes, Place, Problem, tally
from sidecar.errors import Where

SPOT = Place(Where("f", 3, 5), 4)


def some(errors: int, warnings: int) -> list[Problem]:
    levels = [Level.ERROR] * errors + [Level.WARNING] * warnings
    return [Problem(level, "SC0204", "x", Where("f")) for level in levels]


@pytest.mark.parametrize(
    ("errors", "warnings", "dropped", "line"),
    [
        (0, 0, 0, "no problems."),
        (1, 0, 0, "1 error."),
        (0, 1, 0, "1 warning."),
        (2, 1, 0, "2 errors, 1 warning."),
        (1, 3, 0, "1 error, 3 warnings."),
        (2, 0, 7, "2 errors, 7 more not shown."),
    ],
)
def test_the_closing_line_counts(errors: int, warnings: int, dropped: int, line: str) -> None:
    assert tally(some(errors, warnings), dropped) == line


def test_notes_keep_what_they_are_told() -> None:
    notes = Notes()
    notes.warning("SC0303", "later", SPOT)
    notes.error("SC0204", "unknown", SPOT, label="here", why="because", help="do this")
    later, unknown = notes.problems
    assert (later.level, later.code, later.is_error) == (Level.WARNING, "SC0303", False)
    assert unknown == Problem(
        Level.ERROR, "SC0204", "unknown", Where("f", 3, 5), 4, "here", "because", "do this"
    )
    assert notes.errors == 1


def test_notes_are_bounded_and_count_what_they_drop() -> None:
    notes = Notes(most=3)
    for _ in range(10):
        notes.error("SC0204", "x", SPOT)
    assert len(notes.problems) == 3
    assert (notes.errors, notes.dropped) == (10, 7)


def test_an_error_after_too_many_warnings_is_still_among_the_problems() -> None:
    notes = Notes(most=2)
    for _ in range(5):
        notes.warning("SC0303", "x", SPOT)
    notes.error("SC0204", "y", SPOT)
    assert [problem.is_error for problem in notes.problems] == [False, True]


def test_a_problem_is_plain_values_for_json() -> None:
    problem = Problem(Level.ERROR, "SC0204", "x", Where("f", 3, 5), 4, "label", "why", "help")
    assert problem.as_dict() == {
        "level": "error",
        "code": "SC0204",
        "message": "x",
        "file": "f",
        "line": 3,
        "column": 5,
        "why": "why",
        "help": "help",
    }


def test_a_config_error_says_how_many() -> None:
    error = ConfigError(some(2, 1))
    assert str(error) == "2 errors, 1 warning."
    assert len(error.problems) == 3


@pytest.mark.parametrize(
    ("why", "worded"),
    [
        ("Tokens are not verified.", "tokens are not verified"),
        ("A call would pass.", "a call would pass"),
        ("HTTP is carried.", "HTTP is carried"),
        ("`x` begins with it", "`x` begins with it"),
        ("", ""),
    ],
)
def test_why_is_worded_as_a_clause(why: str, worded: str) -> None:
    notes = Notes()
    notes.error("SC0304", "x", SPOT, why=why)
    assert notes.problems[0].why == worded
