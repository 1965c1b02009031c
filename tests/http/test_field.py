"""One header line: what is no line, what a line means, and what is remembered of none."""

from __future__ import annotations

import pytest

from sidecar.http.field import KEPT, Field, field_of, is_length, is_value, judge_line
from sidecar.http.shapes import (
    BAD_HOST,
    CODING,
    CONNECTION,
    DROP,
    EXPECT,
    HOST,
    LENGTH,
    MIRROR,
    OPTIONS,
    ORIGIN,
    PASS,
    REQUEST_ID,
    TYPE,
)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"Host: a", HOST),
        (b"Host: a, b", BAD_HOST),
        (b"Content-Length: 1", LENGTH),
        (b"Transfer-Encoding: chunked", CODING),
        (b"Connection: Close", CONNECTION),
        (b"Connection: close, x", OPTIONS),
        (b"Content-Type: a/b", TYPE),
        (b"Expect: x", EXPECT),
        (b"Origin: null", ORIGIN),
        (b"Mcp-Name: a", MIRROR),
        (b"Mcp-Param-X: a", MIRROR),
        (b"X-Original-URL: /", MIRROR),
        (b"X-Request-Id: 1", REQUEST_ID),
        (b"X_Any: 1", DROP),
        (b"X-Client-Cert-Hash: 1", DROP),
        (b"TE: trailers", DROP),
        (b"X-Any: 1", PASS),
    ],
)
def test_a_request_line_means_what_its_name_says(line: bytes, kind: int) -> None:
    field = judge_line(line, request=True)
    assert field is not None
    assert field.kind == kind


@pytest.mark.parametrize("line", [b"Host: a", b"Mcp-Name: a", b"X_Any: 1", b"Expect: x"])
def test_in_a_reply_these_mean_nothing(line: bytes) -> None:
    field = judge_line(line, request=False)
    assert field is not None
    assert field.kind == PASS


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b":", b": v", b"A", b"A B: c", b" A: b", b"A : b", b"A\x00: b"),
        *(b"A: b\x00", b"A: b\rc", b"A: b\nc", b"A: b\x7f", b"A: \x1b"),
        *(b"Content-Length: +1", b"Content-Length: 1, 1", b"Content-Length:"),
        b"Content-Length: " + b"1" * 16,
    ],
)
def test_what_the_grammar_does_not_know_is_left_to_h11(line: bytes) -> None:
    assert judge_line(line, request=True) is None


def test_a_field_keeps_how_it_was_written_but_for_the_space_around_its_value() -> None:
    field = judge_line(b"X-Any:  a\tb \t", request=True)
    assert field == Field(PASS, b"x-any", b"a\tb", b"X-Any: a\tb\r\n", (b"x-any", b"a\tb"))
    assert field == field_of(b"X-Any", b"a\tb", request=True)


@pytest.mark.parametrize("value", [b"a", b"a b", b"a\tb", b"\x80\xff", b"00-aa-01"])
def test_a_value_is_visible_at_both_ends(value: bytes) -> None:
    assert is_value(value)
    for space in (b" ", b"\t"):
        assert not is_value(value + space)
        assert not is_value(space + value)


@pytest.mark.parametrize("value", [b"", b"\x00", b"a\x00b", b"a\rb", b"a\nb", b"\x7f", b"a\x1bb"])
def test_a_value_holds_no_control_character(value: bytes) -> None:
    assert not is_value(value)


def test_a_length_is_at_most_fifteen_digits() -> None:
    assert is_length(b"0")
    assert is_length(b"9" * 15)
    assert not any(map(is_length, (b"", b"9" * 16, b"-1", "\u0663".encode(), b"1 ")))


def test_nothing_that_may_be_a_secret_is_remembered() -> None:
    secrets = {b"authorization", b"cookie", b"mcp-session-id", b"proxy-authorization", b"x-api-key"}
    assert not KEPT & secrets
