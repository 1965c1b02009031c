from __future__ import annotations

import pytest
import yaml

from sidecar.config import parse as module
from sidecar.config.parse import parse
from sidecar.config.problem import Problem
from sidecar.errors import Where

LOADERS = [yaml.SafeLoader, *([yaml.CSafeLoader] if yaml.__with_libyaml__ else [])]


@pytest.fixture(params=LOADERS, ids=lambda loader: str(loader.__name__), autouse=True)
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test with libyaml and with PyYAML's own reader."""
    monkeypatch.setattr(module, "LOADER", request.param)


def complaint(text: str) -> Problem:
    (problem,) = parse(text.encode(), "f").problems
    return problem


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "said"),
    [
        ("a:\n\tb: 1\n", "SC0103", 2, 1, "a tab is used for indentation"),
        ("a: @x\n", "SC0102", 1, 4, "a value cannot begin with this character"),
        ("a: `x`\n", "SC0102", 1, 4, "a value cannot begin with this character"),
        ("a: b: c\n", "SC0102", 1, 5, "a second `: ` in one line"),
        ("a: 1\n b: 2\n", "SC0102", 2, 3, "a line that is indented too far"),
        ("a: [1,\nb: 2\n", "SC0102", 1, 4, "a `{` or `[` is not closed"),
        ("a: {b: 1\nc: 2\n", "SC0102", 1, 4, "a `{` or `[` is not closed"),
        ("- a\nb: 1\n", "SC0102", 2, 1, "this line is no part of the list above it"),
        ("a: 1\n- b\n", "SC0102", 2, 1, "this line does not fit the lines above it"),
        ("a: 'x\n", "SC0102", 1, 4, "a quote is opened and never closed"),
        ('a: "\\q"\n', "SC0102", 1, None, "an escape in double quotes is not one YAML knows"),
        ("a: 1\n...\njunk: 1\n", "SC0102", 3, 1, "a new document needs a line `---`"),
        ("a\nb: 1\n", "SC0102", None, None, None),
    ],
)
def test_broken_yaml_is_told_in_words_at_its_place(
    text: str, code: str, line: int | None, column: int | None, said: str | None
) -> None:
    problem = complaint(text)
    assert problem.code == code
    assert problem.message.startswith("this is not YAML: ")
    assert "the rest of this file was not read" in problem.why
    assert said is None or said in problem.message
    assert line is None or problem.where.line == line
    assert column is None or problem.where.column == column
    assert problem.help


@pytest.mark.parametrize(
    ("line", "quoted", "dotted"),
    [
        (
            "- {key: request.headers[x-env], values: [a]}",
            "request.headers[x-env]",
            "request.headers.x-env",
        ),
        ("- {values: [a], key: mcp.arguments[a][b]}", "mcp.arguments[a][b]", "mcp.arguments.a.b"),
    ],
)
def test_brackets_between_braces_have_a_hint_of_their_own(
    line: str, quoted: str, dotted: str
) -> None:
    problem = complaint(f"when:\n{line}\n")
    assert problem.code == "SC0111"
    assert problem.where == Where("f", 2, line.index("[", line.index("key")) + 1)
    assert f'"{quoted}"' in problem.help
    assert f"`{dotted}`" in problem.help


def test_an_unclosed_bracket_elsewhere_is_no_key_in_brackets() -> None:
    assert complaint("a: {b: c[d}\n").code == "SC0102"


def test_a_fault_far_below_its_cause_names_the_line_of_the_cause() -> None:
    problem = complaint("a:\n  b: 1\n c: 2\n")
    assert "begins in line" in problem.why
