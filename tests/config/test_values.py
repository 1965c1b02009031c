from __future__ import annotations

from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.nodes import ListNode, Node
from sidecar.config.parse import parse
from sidecar.config.problem import Notes
from sidecar.config.schema import Form, Unread
from sidecar.config.values import (
    Duration,
    Flag,
    Malformed,
    Number,
    Read,
    Size,
    Text,
    Whole,
    Word,
)


class Colour(StrEnum):
    RED = "RED"
    GREEN = "GREEN"


def node(text: str) -> Node:
    (found,) = parse(text.encode(), "f").documents
    return found


def read(form: Form[object], text: str) -> object:
    """Return the value of *text*, or the only problem's code."""
    notes = Notes()
    try:
        return form.read(node(text), "spec.x", notes)
    except Unread:
        (problem,) = notes.problems
        assert "spec.x" in problem.message
        return problem.code


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("1ms", 0.001),
        ("1.5s", 1.5),
        ("1m30s", 90.0),
        ("1h", 3600.0),
        ("0.001s", 0.001),
        ("1000000ns", 0.001),
        ("1000us", 0.001),
        ('"1000µs"', 0.001),
        ("1h1ms", 3600.001),
        ("2.0000000s", 2.0),
        ("30", "SC0203"),
        ("[30s]", "SC0203"),
        ("true", "SC0203"),
        ('""', "SC0207"),
        ("s", "SC0207"),
        ("30 s", "SC0207"),
        ("-1s", "SC0207"),
        ("1d", "SC0207"),
        ("1s2", "SC0207"),
        ("2.000000005s", "SC0207"),
        ("1.5ms", "SC0207"),
        ("1ns", "SC0207"),
        ("0s", "SC0207"),
        ("0.0005s", "SC0207"),
        ("1.0000000001s", "SC0207"),
        ("1s" * 40, "SC0207"),
    ],
)
def test_durations_are_whole_milliseconds_and_at_least_one(text: str, seconds: object) -> None:
    assert read(Duration(), text) == seconds


def test_a_duration_may_be_zero_where_that_means_never() -> None:
    assert read(Duration(zero=True), "0s") == 0.0
    assert read(Duration(zero=True), "0.0001s") == "SC0207"


def test_a_duration_without_a_unit_is_told_with_one() -> None:
    notes = Notes()
    with pytest.raises(Unread):
        Duration().read(node("30"), "x", notes)
    assert notes.problems[0].help == "write the unit: `30s`"


@given(st.integers(1, 10**10))
def test_every_whole_millisecond_comes_out_exactly(milliseconds: int) -> None:
    assert read(Duration(), f"{milliseconds}ms") == pytest.approx(milliseconds / 1000, abs=0)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("65536", 65536),
        ("64KiB", 65536),
        ('"64KiB"', 65536),
        ("1MiB", 1 << 20),
        ("2GiB", 2 << 30),
        ("10B", 10),
        ("0", "SC0208"),
        ("0KiB", "SC0208"),
        ("-1", "SC0208"),
        ("64KB", "SC0208"),
        ("64 KiB", "SC0208"),
        ("many", "SC0208"),
        ("1.5", "SC0203"),
        ("true", "SC0203"),
        ("[1]", "SC0203"),
    ],
)
def test_sizes_are_bytes_or_have_a_binary_unit(text: str, size: object) -> None:
    assert read(Size(), text) == size


@pytest.mark.parametrize(
    ("form", "text", "value"),
    [
        (Text(), "a", "a"),
        (Text(), "1", "SC0203"),
        (Text(), "true", "SC0203"),
        (Text(), "[a]", "SC0203"),
        (Text(), '""', "SC0401"),
        (Text(empty=True), '""', ""),
        (Text(longest=2), "abc", "SC0210"),
        (Flag(), "true", True),
        (Flag(), "false", False),
        (Flag(), '"true"', "SC0203"),
        (Flag(), "1", "SC0203"),
        (Whole(), "5", 5),
        (Whole(), "-1", "SC0206"),
        (Whole(1, 3), "4", "SC0206"),
        (Whole(1, 3), "3", 3),
        (Whole(), "1.0", "SC0203"),
        (Whole(), "true", "SC0203"),
        (Whole(), '"5"', "SC0203"),
        (Word(Colour), "RED", Colour.RED),
        (Word(Colour), "red", "SC0205"),
        (Word(Colour), "BLUE", "SC0205"),
        (Word(Colour, refused=(("BLUE", "why"),)), "BLUE", "SC0304"),
        (Word(Colour), "1", "SC0203"),
    ],
)
def test_a_form_reads_its_values_and_nothing_else(
    form: Form[object], text: str, value: object
) -> None:
    found = read(form, text)
    assert found == value
    assert type(found) is type(value)


def test_a_number_for_text_is_told_with_its_quotes() -> None:
    notes = Notes()
    with pytest.raises(Unread):
        Text().read(node("8080"), "x", notes)
    assert notes.problems[0].help == 'put it in quotes: `"8080"`'


def test_a_word_in_another_case_is_told_in_its_own() -> None:
    notes = Notes()
    with pytest.raises(Unread):
        Word(Colour).read(node("red"), "x", notes)
    assert notes.problems[0].help.startswith("did you mean `RED`?")


def test_a_reader_of_ones_own_tells_what_it_dislikes() -> None:
    def even(text: str) -> int:
        if int(text) % 2:
            raise Malformed("odd", "write `2`", "SC0206", why="because")
        return int(text)

    notes = Notes()
    assert Read("even", even).read(node('"4"'), "x", notes) == 4
    with pytest.raises(Unread):
        Read("even", even).read(node('"3"'), "x", notes)
    (problem,) = notes.problems
    assert (problem.code, problem.message, problem.why, problem.help) == (
        "SC0206",
        "x: odd",
        "because",
        "write `2`",
    )


def test_what_was_broken_before_is_not_complained_of_again() -> None:
    parsed = parse(b"[yes]", "f")
    (listed,) = parsed.documents
    assert isinstance(listed, ListNode)
    notes = Notes()
    for form in (Text(), Flag(), Whole(), Duration(), Size(), Word(Colour)):
        with pytest.raises(Unread):
            form.read(listed.items[0], "x", notes)
    assert notes.problems == ()
    assert [problem.code for problem in parsed.problems] == ["SC0105"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("1.5", 1.5),
        ("10", 10.0),
        ("0.3", "SC0206"),
        ("10.1", "SC0206"),
        ("true", "SC0203"),
        ('"2"', "SC0203"),
        ("[2]", "SC0203"),
    ],
)
def test_a_number_may_have_a_fraction(text: str, value: float | str) -> None:
    assert read(Number(1, 10), text) == value
