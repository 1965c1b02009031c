"""Messages on a pipe: whole lines out of whatever pieces come."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import MessageError
from sidecar.mcp.lines import LineSplitter, as_line


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([b"one\ntwo\n"], [b"one", b"two"]),
        ([b"o", b"n", b"e\n"], [b"one"]),
        ([b"one\r\n", b"\n \n", b"two\r", b"\n"], [b"one", b"two"]),
        ([b"no end"], []),
        ([b""], []),
        ([b"exactly ten"[:10], b"\n"], [b"exactly te"]),
    ],
)
def test_lines_are_cut_where_they_end(pieces: list[bytes], lines: list[bytes]) -> None:
    splitter = LineSplitter(10)
    assert [line for piece in pieces for line in splitter.feed(piece)] == lines


@given(st.lists(st.binary(max_size=8)), st.lists(st.integers(1, 5)))
def test_it_does_not_matter_how_bytes_come(lines: list[bytes], cuts: list[int]) -> None:
    data = b"\n".join(lines) + b"\n"
    whole = LineSplitter(100).feed(data)
    splitter, found = LineSplitter(100), []
    for size in cuts:
        found += splitter.feed(data[:size])
        data = data[size:]
    assert found + splitter.feed(data) == whole


@pytest.mark.parametrize("pieces", [[b"12345678901"], [b"123456", b"78901"], [b"12345678901\n"]])
def test_a_line_that_is_too_long_is_never_given_out(pieces: list[bytes]) -> None:
    splitter = LineSplitter(10)
    for piece in pieces[:-1]:
        assert splitter.feed(piece) == []
    with pytest.raises(MessageError, match="longer than 10 bytes"):
        splitter.feed(pieces[-1])


def test_what_waits_is_bounded_by_the_longest_line() -> None:
    splitter = LineSplitter(10)
    splitter.feed(b"one\nseven")
    assert splitter.waiting == 5


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5)), st.sampled_from(["\r\n", "\r"]))
def test_a_message_is_one_line_and_means_the_same(value: dict[str, str], end: str) -> None:
    written = json.dumps(value, indent=1).replace("\n", end).encode()
    line = as_line(written)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert b"\r" not in line
    assert json.loads(line) == value
