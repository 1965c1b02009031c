"""The issue log: each line follows the one before, and a break shows where it is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.ca.log import MAX_LINE, PRUNED, LogBroken, digest, line_after, read_log, rfc3339

NOW = 1_790_000_000.0


def written(count: int) -> list[bytes]:
    lines: list[bytes] = []
    for number in range(count):
        last = lines[-1].rstrip(b"\n") if lines else b""
        lines.append(line_after(last, "issued", {"serial": f"{number:x}"}, NOW + number))
    return lines


def broken_at(lines: list[bytes]) -> int:
    with pytest.raises(LogBroken) as raised:
        list(read_log(lines))
    return raised.value.line


def test_what_was_written_is_read_in_order() -> None:
    entries = list(read_log(written(3)))
    assert [entry.number for entry in entries] == [1, 2, 3]
    assert [entry.facts["serial"] for entry in entries] == ["0", "1", "2"]
    assert entries[0].time == rfc3339(NOW) == "2026-09-21T14:13:20Z"
    assert entries[0].event == "issued"


def test_an_empty_log_is_whole() -> None:
    assert list(read_log([])) == []


def test_a_changed_line_shows() -> None:
    lines = written(4)
    lines[1] = lines[1].replace(b'"serial":"1"', b'"serial":"f"')
    assert broken_at(lines) == 3


def test_a_removed_line_shows() -> None:
    lines = written(4)
    del lines[2]
    assert broken_at(lines) == 3


def test_two_lines_changing_places_show() -> None:
    lines = written(4)
    lines[1], lines[2] = lines[2], lines[1]
    assert broken_at(lines) == 2


def test_a_log_that_begins_in_the_middle_shows() -> None:
    assert broken_at(written(4)[1:]) == 1


def pruned(lines: list[bytes], through: int, sha256: str) -> list[bytes]:
    """What is left of *lines* without the first *through*, and a line that says so."""
    last = lines[-1].rstrip(b"\n")
    told = line_after(last, PRUNED, {"through": through, "sha256": sha256}, NOW)
    return [*lines[through:], told]


def test_it_may_begin_in_the_middle_where_a_later_line_says_why() -> None:
    lines = written(4)
    left = pruned(lines, 2, digest(lines[1].rstrip(b"\n")))
    assert [entry.number for entry in read_log(left)] == [3, 4, 5]


@pytest.mark.parametrize(("through", "of"), [(1, 1), (2, 0), (2, 2), (3, 1)])
def test_a_line_that_tells_of_others_does_not_excuse_it(through: int, of: int) -> None:
    lines = written(4)
    told = pruned(lines, through, digest(lines[of].rstrip(b"\n")))[-1]
    assert broken_at([*lines[2:], told]) == 1


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b"null", b"{" * 5000, b'{"n":"x"}', b"\xff"])
def test_a_line_that_is_no_entry_shows(line: bytes) -> None:
    assert broken_at([*written(2), line + b"\n"]) == 3
    if line:
        with pytest.raises(LogBroken):
            line_after(line, "issued", {}, NOW)


def test_an_entry_has_a_greatest_length() -> None:
    with pytest.raises(ValueError, match="too long"):
        line_after(b"", "issued", {"names": "x" * MAX_LINE}, NOW)


def test_a_fact_cannot_begin_a_line_of_its_own() -> None:
    line = line_after(b"", "issued", {"name": "a\nb"}, NOW)
    assert line.count(b"\n") == 1
    assert json.loads(line)["name"] == "a\nb"


@given(st.integers(0, 3), st.integers(0, 400), st.integers(1, 255))
def test_any_changed_byte_but_the_last_lines_shows(row: int, column: int, flip: int) -> None:
    lines = written(5)
    place = column % (len(lines[row]) - 1)
    damaged = bytearray(lines[row])
    damaged[place] ^= flip
    lines[row] = bytes(damaged)
    found = broken_at(lines)
    # Where the first line has another number, the others are counted from that.
    assert found in (row + 1, row + 2) or (row == 0 and found)
