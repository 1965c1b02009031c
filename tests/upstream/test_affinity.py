from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.upstream.affinity import By, HashOn, cookie, nearest, point
from sidecar.upstream.route import Asked

NAMES = [f"10.0.0.{number}:80" for number in range(5)]
EVEN = [(name, name, 1.0) for name in NAMES]


def asked(query: str = "", **headers: str) -> Asked:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Asked("GET", "/", query, "a", 80, pairs, "cluster.local/ns/a/sa/b", "10.0.0.9")


@pytest.mark.parametrize(
    ("on", "call", "key"),
    [
        (HashOn(By.HEADER, "x-user"), asked(x_user="ann"), b"ann"),
        (HashOn(By.HEADER, "x-user"), asked(), None),
        (HashOn(By.HEADER, "x-user"), asked(x_user=""), None),
        (HashOn(By.COOKIE, "who"), asked(cookie="a=b; who=ann; c=d"), b"ann"),
        (HashOn(By.COOKIE, "who"), asked(cookie="whole=ann"), None),
        (HashOn(By.QUERY, "who"), asked("a=1&who=ann&who=bob"), b"ann"),
        (HashOn(By.QUERY, "who"), asked("a=1"), None),
        (HashOn(By.SOURCE_IP), asked(), b"10.0.0.9"),
        (HashOn(By.PRINCIPAL), asked(), b"cluster.local/ns/a/sa/b"),
    ],
)
def test_a_key_is_made_of_what_the_rule_names(on: HashOn, call: Asked, key: bytes | None) -> None:
    assert on.key(call) == key


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (None, None),
        ("", None),
        ("a", None),
        ("a=", ""),
        ("a=1", "1"),
        ('b=2; a="1"', "1"),
        ("a=1; a=2", "1"),
        ("ab=1", None),
        ("b=a=1", None),
    ],
)
def test_a_cookie_is_found_by_its_whole_name(header: str | None, value: str | None) -> None:
    assert cookie(header, "a") == value


def test_a_cookie_is_given_with_its_life_and_path() -> None:
    assert HashOn(By.COOKIE, "who", 60.0, "/mcp").set_cookie("x") == (
        b"who=x; Max-Age=60; Path=/mcp; HttpOnly"
    )
    assert HashOn(By.COOKIE, "who", 0.0).set_cookie("x") == b"who=x; HttpOnly"


def test_keys_spread_over_the_endpoints_by_weight() -> None:
    weighted = [(name, name, 3.0 if name == NAMES[0] else 1.0) for name in NAMES]
    found = Counter(nearest(b"%d" % number, weighted) for number in range(7_000))
    assert 2_700 < found[NAMES[0]] < 3_300
    assert all(800 < found[name] < 1_200 for name in NAMES[1:])


def test_who_leaves_moves_only_its_own_keys() -> None:
    for number in range(500):
        key = b"%d" % number
        before = nearest(key, EVEN)
        left = [one for one in EVEN if one[0] != NAMES[2]]
        if before != NAMES[2]:
            assert nearest(key, left) == before


@given(st.binary(max_size=64), st.permutations(EVEN))
def test_the_order_of_endpoints_says_nothing(
    key: bytes, order: list[tuple[str, str, float]]
) -> None:
    assert nearest(key, order) == nearest(key, EVEN)
    assert 0.0 <= point(key) < 1.0
