from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.problem import Level, Problem
from sidecar.config.report import columns, render, visible
from sidecar.errors import Where

FILE = "/etc/sidecar/files.yaml"
LINE = "            tool: [read_file]"
LINES = {FILE: ("",) * 13 + (LINE,)}
UNKNOWN = Problem(
    Level.ERROR,
    "SC0204",
    "unknown field `tool` in operation",
    Where(FILE, 14, 13),
    4,
    label="not a known field",
    why="an unknown field would be ignored, and this rule would then match every tool",
    help="did you mean `tools`?",
)


def test_a_problem_is_shown_with_excerpt_carets_why_and_help() -> None:
    assert render([UNKNOWN], LINES) == (
        "error[SC0204]: unknown field `tool` in operation\n"
        "  --> /etc/sidecar/files.yaml:14:13\n"
        "   |\n"
        "14 |             tool: [read_file]\n"
        "   |             ^^^^ not a known field\n"
        "   = why: an unknown field would be ignored, and this rule would then match every tool\n"
        "   = help: did you mean `tools`?\n"
        "\n"
        "1 error.\n"
    )


def test_parts_that_are_empty_are_left_out() -> None:
    problem = Problem(Level.WARNING, "SC0303", "no effect yet", Where("gone", 3, 1))
    assert render([problem], {}) == (
        "warning[SC0303]: no effect yet\n --> gone:3:1\n\n1 warning.\n"
    )


def test_problems_are_apart_by_an_empty_line() -> None:
    assert render([UNKNOWN, UNKNOWN], LINES).count("\n\nerror[") == 1


def test_nothing_wrong_is_said() -> None:
    assert render([], {}) == "no problems.\n"


def test_colour_adds_only_colour() -> None:
    plain = render([UNKNOWN], LINES)
    painted = render([UNKNOWN], LINES, color=True)
    assert painted != plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == plain


def test_a_tab_and_wide_characters_keep_the_carets_below_their_text() -> None:
    problem = Problem(Level.ERROR, "SC0204", "x", Where("f", 1, 6), 2)
    shown = render([problem], {"f": ("\t漢é: ab",)}).splitlines()
    line, carets = shown[3], shown[4]
    assert columns(line[: line.index("ab")]) == columns(carets[: carets.index("^")])
    assert carets.count("^") == 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("é漢", "é漢"),
        ("a\tb", "a  b"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\u202eb", "a\\u202eb"),
        ("a\u200bb", "a\\u200bb"),
        ("a\rb\n", "a\\x0db\\x0a"),
        ("\U000e0041", "\\U000e0041"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_what_cannot_be_seen_is_made_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_nothing_that_a_file_holds_reaches_the_terminal_raw() -> None:
    evil = "\x1b]0;owned\x07\u202e"
    problem = Problem(
        Level.ERROR, "SC0204", f"x {evil}", Where(f"f{evil}", 1, 2), 3, evil, evil, evil
    )
    shown = render([problem], {f"f{evil}": (f"a{evil}b",)})
    assert not [char for char in shown if char not in "\n" and not char.isprintable()]


@given(
    line=st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=300),
    column=st.integers(1, 320),
    length=st.integers(1, 320),
    label=st.text(max_size=120),
    width=st.integers(60, 140),
)
def test_excerpts_fit_the_width_whatever_the_line(
    line: str, column: int, length: int, label: str, width: int
) -> None:
    problem = Problem(Level.ERROR, "SC0204", "x", Where("f", 1, column), length, label)
    shown = render([problem], {"f": (line,)}, width=width).splitlines()
    excerpt = [row for row in shown if row.startswith(("1 |", "  |"))]
    assert len(excerpt) >= 3
    assert max(columns(row) for row in excerpt) <= width
    assert any("^" in row for row in excerpt[2:])


def test_what_is_marked_behind_a_line_that_fills_the_room_still_fits() -> None:
    problem = Problem(Level.ERROR, "SC0204", "x", Where("f", 1, 57), 1)
    shown = render([problem], {"f": ("x" * 56,)}, width=60).splitlines()
    assert max(columns(row) for row in shown) <= 60


def test_a_long_line_is_cut_around_what_is_marked() -> None:
    line = "x" * 200 + "HERE" + "y" * 200
    problem = Problem(Level.ERROR, "SC0204", "x", Where("f", 1, 201), 4)
    shown = render([problem], {"f": (line,)}).splitlines()
    start = shown[4].index("^")
    assert shown[3][start : start + 4] == "HERE"
    assert shown[3].count("…") == 2


def test_a_long_line_of_wide_characters_is_cut_by_columns() -> None:
    line = "漢" * 200 + "HERE" + "漢" * 200
    problem = Problem(Level.ERROR, "SC0204", "x", Where("f", 1, 201), 4)
    shown = render([problem], {"f": (line,)}).splitlines()
    before = shown[3][: shown[3].index("HERE")]
    assert columns(before) == shown[4].index("^")
    assert columns(shown[3]) <= 100


def test_a_label_that_does_not_fit_stands_below() -> None:
    problem = Problem(Level.ERROR, "SC0204", "x", Where("f", 1, 1), 4, label="漢" * 30)
    shown = render([problem], {"f": ("HERE",)}, width=60).splitlines()
    assert shown[4] == "  | ^^^^"
    assert shown[5].startswith("  | 漢")
    assert columns(shown[5]) <= 60


def test_long_texts_are_wrapped_and_indented() -> None:
    problem = Problem(Level.ERROR, "SC0204", "m" + " word" * 40, Where("f"), why="because " * 30)
    shown = render([problem], {}).splitlines()
    assert max(map(len, shown)) <= 100
    assert shown[1].startswith("  word")
