"""Where tokens stand, all of them; and the head of a call without them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.tokens.places import ACCESS_TOKEN, BEARER, Edit, Kind, Place

TOKEN = Place(Kind.HEADER, "x-token")
COOKIE = Place(Kind.COOKIE, "jwt")


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], []),
        ([b"Bearer a.b.c"], ["a.b.c"]),
        ([b"Bearer   a.b.c"], ["a.b.c"]),
        ([b"Bearer a.b.c x"], ["a.b.c x"]),
        ([b"Basic x, Bearer a"], ["a"]),
        ([b"Bearer a", b"Bearer b"], ["a", "b"]),
        ([b"Basic a"], []),
        ([b"bearer a"], []),
        ([b"Bearera"], []),
        ([b"Bearer "], [""]),
        ([b"Bearer \xe9a"], ["a"]),
    ],
)
def test_a_token_stands_behind_its_prefix(values: list[bytes], found: list[str]) -> None:
    fields = [(b"authorization", value) for value in values]
    assert BEARER.find([*fields, (b"other", b"Bearer no")], "") == found


def test_without_a_prefix_it_is_the_whole_value() -> None:
    fields = [(b"x-token", b"a"), (b"x-token", b" b")]
    assert TOKEN.find(fields, "") == ["a", " b"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", []),
        ("a=1", []),
        ("access_token=a.b", ["a.b"]),
        ("access_token=a&x=1&access_token=b", ["a", "b"]),
        ("acces%73_token=a%2Eb", ["a.b"]),
        ("access_token", [""]),
        ("ACCESS_TOKEN=a", []),
        ("xaccess_token=a", []),
    ],
)
def test_a_parameter_is_found_however_it_is_escaped(query: str, found: list[str]) -> None:
    assert ACCESS_TOKEN.find([], query) == found


@pytest.mark.parametrize(
    ("cookies", "found"),
    [
        ([b"jwt=a"], ["a"]),
        ([b'x=1; jwt="a"; y=2'], ["a"]),
        ([b"jwt=a;jwt=b", b"jwt=c"], ["a", "b", "c"]),
        ([b"JWT=a; xjwt=b"], []),
        ([b"jwt"], [""]),
    ],
)
def test_a_cookie_is_found_among_others(cookies: list[bytes], found: list[str]) -> None:
    assert COOKIE.find([(b"cookie", value) for value in cookies], "") == found


def test_a_place_names_itself() -> None:
    assert [str(one) for one in (BEARER, ACCESS_TOKEN, COOKIE)] == [
        "header `authorization`",
        "query parameter `access_token`",
        "cookie `jwt`",
    ]


EDIT = Edit.of([BEARER, ACCESS_TOKEN, COOKIE], frozenset({b"x-out"}), [(b"x-out", b"ours")])


def test_headers_go_whatever_their_spelling_and_ours_come_last() -> None:
    lines = [
        b"Authorization: Bearer a\r\n",
        b"authorization: Basic b\r\n",
        b"X-Out: theirs\r\n",
        b"x_out: theirs\r\n",
        b"x-out-more: stays\r\n",
        b"Cookie: a=1; jwt=x; b=2\r\n",
        b"cookie: jwt=x\r\n",
        b"cookie: c=3;d=4\r\n",
    ]
    assert EDIT.lines(lines) == [
        b"x-out-more: stays\r\n",
        b"Cookie: a=1; b=2\r\n",
        b"cookie: c=3;d=4\r\n",
        b"x-out: ours\r\n",
    ]
    pairs = [
        (name.lower(), value)
        for name, _, value in (line.strip().partition(b": ") for line in lines)
    ]
    assert EDIT.fields(pairs) == [
        (b"x-out-more", b"stays"),
        (b"cookie", b"a=1; b=2"),
        (b"cookie", b"c=3;d=4"),
        (b"x-out", b"ours"),
    ]


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("", ""),
        ("a=%20&&b", "a=%20&&b"),
        ("access_token=x", ""),
        ("a=%20&access_token=x&b=+", "a=%20&b=+"),
        ("acces%73_token=x&access_token=y&a", "a"),
    ],
)
def test_parameters_go_and_the_rest_stays_byte_for_byte(query: str, left: str) -> None:
    assert EDIT.query(query) == left


def test_an_edit_of_nothing_changes_nothing() -> None:
    nothing = Edit()
    lines = [b"Cookie: jwt=x;\r\n", b"a:  b \r\n"]
    assert nothing.lines(lines) == lines
    assert nothing.fields([(b"cookie", b"jwt=x;")]) == [(b"cookie", b"jwt=x;")]
    assert nothing.query("access_token=x") == "access_token=x"


NAMES = st.sampled_from(["X-Out", "x_out", "x-out", "Authorization", "AUTHORIZATION", "a", "x-o"])


@given(st.lists(st.tuples(NAMES, st.text("abc ;=", max_size=5)), max_size=8))
def test_no_spelling_of_a_header_escapes_and_no_other_is_touched(
    fields: list[tuple[str, str]],
) -> None:
    wires = [f"{name}: {value.strip()}\r\n".encode() for name, value in fields]
    gone = {"x-out", "authorization"}
    kept = [
        wire
        for wire, (name, _) in zip(wires, fields, strict=True)
        if name.lower().replace("_", "-") not in gone
    ]
    assert EDIT.lines(wires) == [*kept, b"x-out: ours\r\n"]


@given(st.lists(st.sampled_from(["jwt=x", "a=1", " jwt = x ", "b", "", "jwt"]), max_size=6))
def test_a_cookie_that_is_taken_out_is_found_no_more(pairs: list[str]) -> None:
    line = b"Cookie: " + ";".join(pairs).encode() + b"\r\n"
    (*left, _) = EDIT.lines([line])
    values = [(b"cookie", one.partition(b":")[2].strip()) for one in left]
    assert COOKIE.find(values, "") == []
    others = [pair.strip() for pair in pairs if pair.strip() in ("a=1", "b")]
    found = b";".join(value for _, value in values).decode().split(";")
    assert [pair.strip() for pair in found if pair.strip() in ("a=1", "b")] == others
