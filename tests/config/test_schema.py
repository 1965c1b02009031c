from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from sidecar.config.nodes import MapNode
from sidecar.config.parse import parse
from sidecar.config.problem import Notes, Problem
from sidecar.config.schema import (
    DROPPED,
    Field,
    Form,
    ListOf,
    MapOf,
    Struct,
    Support,
    Unread,
    Unused,
    camel,
    closest,
    quoted,
    snake,
)
from sidecar.config.values import Text, Whole
from sidecar.errors import Where


@dataclass(frozen=True)
class Inner:
    max_size: int = 1


@dataclass(frozen=True)
class Outer:
    name: str
    tools: tuple[str, ...] = ()
    inner: Inner | None = None
    numbers: Mapping[str, int] | None = None
    at: Where | None = None


def no_twins(outer: Outer, node: MapNode, path: str, notes: Notes) -> None:
    if len(set(outer.tools)) < len(outer.tools):
        notes.error("SC0502", "twins", node.key("tools"))


INNER = Struct("Inner", Inner, (Field("maxSize", Whole(), "A size."),))
OUTER = Struct(
    "Outer",
    Outer,
    (
        Field("name", Text(), "Its name.", required=True),
        Field("tools", ListOf(Text(), least=1, most=3), "Tools."),
        Field("inner", INNER, "More."),
        Field("numbers", MapOf(Text(), Whole(), most=2), "Numbers."),
        Field("checked", Whole(), "Checked.", attr=DROPPED),
        Unused("quiet", Support.INERT, "Nothing."),
        Unused("soon", Support.LATER, "it is early."),
        Unused("never", Support.REFUSED, "all would pass."),
    ),
    check=no_twins,
    why_unknown="it would be ignored",
    located=True,
)


def read(text: str, form: Form[object] = OUTER) -> tuple[object, tuple[Problem, ...]]:
    (node,) = parse(text.encode(), "f").documents
    notes = Notes()
    try:
        return form.read(node, "spec", notes), notes.problems
    except Unread:
        return None, notes.problems


def codes(text: str) -> list[str]:
    return [problem.code for problem in read(text)[1]]


def test_a_mapping_becomes_its_class() -> None:
    value, problems = read("name: x\ntools: [a, b]\ninner: {maxSize: 3}\nnumbers: {k: 1}\n")
    assert problems == ()
    assert value == Outer("x", ("a", "b"), Inner(3), {"k": 1}, Where("f", 1, 1))


def test_fields_not_written_have_the_classs_defaults() -> None:
    value, _ = read("name: x\ninner: {}\n")
    assert value == Outer("x", (), Inner(1), None, Where("f", 1, 1))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{}", ["SC0202"]),
        ("tools: [a]", ["SC0202"]),
        ("x", ["SC0203"]),
        ("[x]", ["SC0203"]),
        ("{name: x, nome: y}", ["SC0204"]),
        ("{name: 1}", ["SC0203"]),
        ("{name: }", ["SC0209"]),
        ("{name: ~}", ["SC0209"]),
        ("{name: x, tools: []}", ["SC0210"]),
        ("{name: x, tools: [a, b, c, d]}", ["SC0210"]),
        ("{name: x, tools: a}", ["SC0203"]),
        ("{name: x, tools: [a, a]}", ["SC0502"]),
        ("{name: x, numbers: {a: 1, b: 2, c: 3}}", ["SC0210"]),
        ("{name: x, numbers: {a: x}}", ["SC0203"]),
        ("{name: x, inner: []}", ["SC0203"]),
        ("{name: x, quiet: [1, {}]}", []),
        ("{name: x, soon: 1}", ["SC0303"]),
        ("{name: x, never: 1}", ["SC0304"]),
        ("{name: x, checked: 1}", []),
        ("{name: x, checked: a}", ["SC0203"]),
    ],
)
def test_what_does_not_fit_is_noted(text: str, found: list[str]) -> None:
    assert codes(text) == found


def test_all_problems_of_a_mapping_are_noted_in_one_pass() -> None:
    text = "tools: [1, a, true]\ninner: {maxSize: x, other: 1}\nnumbers: {a: b, c: d}\nodd: 1\n"
    assert codes(text) == [
        "SC0203",
        "SC0203",
        "SC0203",
        "SC0204",
        "SC0203",
        "SC0203",
        "SC0204",
        "SC0202",
    ]


def test_an_unknown_field_is_told_with_its_path_place_and_consequence() -> None:
    _, (problem,) = read("name: x\ninner:\n  maxsize: 3\n")
    assert problem.message == "unknown field `maxsize` in spec.inner"
    assert (problem.where, problem.width) == (Where("f", 3, 3), 7)
    assert problem.label == "not a known field"
    assert problem.help == "did you mean `maxSize`?"


@pytest.mark.parametrize(
    ("word", "help_text"),
    [
        ("tool", "did you mean `tools`?"),
        ("Tools", "did you mean `tools`?"),
        ("to_ols", "did you mean `tools`?"),
        ("maxSize", "did you mean `inner.maxSize`?"),
        ("zebra", "known here: `name`, `tools`"),
        ("z" * 5000, "known here: `name`, `tools`"),
    ],
)
def test_an_unknown_field_is_told_what_was_probably_meant(word: str, help_text: str) -> None:
    _, (problem,) = read(f"name: x\n? {word}\n: 1\n")
    assert problem.code == "SC0204"
    assert problem.help.startswith(help_text)


def test_a_missing_field_is_told_what_it_is_for() -> None:
    _, (problem,) = read("tools: [a]")
    assert problem.help == "add `name:`, its name"


def test_one_value_where_a_list_belongs_is_told_as_a_list() -> None:
    _, (problem,) = read("{name: x, tools: a}")
    assert problem.help == 'write `["a"]`'


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("maxConnections", "max_connections"),
        ("consecutive5xxErrors", "consecutive_5xx_errors"),
        ("http1MaxPendingRequests", "http1_max_pending_requests"),
        ("h2UpgradePolicy", "h2_upgrade_policy"),
        ("notIpBlocks", "not_ip_blocks"),
        ("name", "name"),
        ("blocked_patterns", "blocked_patterns"),
    ],
)
def test_names_become_attributes(name: str, attribute: str) -> None:
    assert snake(name) == attribute
    if "5xx" not in name and "_" not in name:
        assert camel(attribute) == name


def test_the_closest_name_is_near_or_none() -> None:
    known = {"principals": 1, "namespaces": 1}
    assert closest("principal", known) == "principals"
    assert closest("PRINCIPALS", known) == "principals"
    assert closest("hosts", known) == ""


def test_text_is_quoted_as_yaml_reads_it_back() -> None:
    text = 'a"b\\c'
    parsed = parse(f"- {quoted(text)}".encode(), "f")
    assert parsed.problems == ()
    assert parsed.documents[0].items[0].value == text  # type: ignore[union-attr]
