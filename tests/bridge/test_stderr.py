"""What programs say to a person: bounded, printable, and never a flood."""

from __future__ import annotations

import pytest

from sidecar.bridge.stderr import Stderr


@pytest.mark.parametrize(
    ("written", "logged"),
    [
        (b"hello\n", ["hello"]),
        (b"one\r\n\n  \ntwo\n", ["one", "two"]),
        (b"no end", []),
        (b"red \x1b[31m\x00\n", ["red \\x1b[31m\\x00"]),
        (b"bad \xff utf\n", ["bad � utf"]),
        (b"gr\xc3\xbc\xc3\x9fe\n", ["grüße"]),
        (b"x" * 2_000 + b"\n", ["x" * 1_000 + " ..."]),
    ],
)
def test_lines_are_fit_for_a_log(written: bytes, logged: list[str]) -> None:
    assert Stderr().feed(written, 0.0) == logged


def test_a_line_may_come_in_pieces() -> None:
    stderr = Stderr()
    assert stderr.feed(b"one", 0.0) + stderr.feed(b" two\nthr", 0.0) == ["one two"]
    assert stderr.feed(b"ee\n", 0.0) == ["three"]


def test_a_line_without_end_takes_no_memory() -> None:
    stderr = Stderr()
    for _ in range(1_000):
        stderr.feed(b"x" * 10_000, 0.0)
    assert stderr.feed(b"\n", 0.0) == ["x" * 1_000 + " ..."]


def test_of_a_flood_some_lines_are_left_and_the_rest_is_counted() -> None:
    stderr = Stderr()
    first = stderr.feed(b"again\n" * 500, 0.0)
    assert len(first) == 50
    assert stderr.left_out == 450
    assert stderr.feed(b"later\n", 1.0) == ["(450 lines left out)", "later"]
