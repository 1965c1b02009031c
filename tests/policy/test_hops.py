"""Only what trusted proxies wrote into `X-Forwarded-For` says where a call came from."""

from __future__ import annotations

import pytest

from sidecar.policy.hops import remote_address


@pytest.mark.parametrize(
    ("trusted", "lines", "found"),
    [
        (0, [], ""),
        (0, ["10.0.0.1"], ""),
        (1, [], ""),
        (1, ["10.0.0.1"], "10.0.0.1"),
        (1, ["6.6.6.6, 10.0.0.1"], "10.0.0.1"),
        (1, ["6.6.6.6,10.0.0.1"], "10.0.0.1"),
        (1, ["6.6.6.6", "10.0.0.1"], "10.0.0.1"),
        (1, ["10.0.0.1", "6.6.6.6"], "6.6.6.6"),
        (2, ["10.0.0.1"], ""),
        (2, ["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        (2, ["6.6.6.6, 10.0.0.1,10.0.0.2"], "10.0.0.1"),
        (2, ["6.6.6.6, 10.0.0.1", "10.0.0.2"], "10.0.0.1"),
        (1, ["2001:db8::1"], "2001:db8::1"),
        (1, ["unknown"], ""),
        (1, ["10.0.0.1:80"], ""),
        (1, [""], ""),
        (1, ["10.0.0.1,"], ""),
        (1, ["10.0.0.\xe9"], ""),
    ],
)
def test_the_outermost_trusted_proxy_says_where_a_call_came_from(
    trusted: int, lines: list[str], found: str
) -> None:
    headers = [(b"accept", b"*/*")]
    headers += [(b"x-forwarded-for", line.encode("latin-1")) for line in lines]
    assert remote_address(headers, trusted) == found


def test_no_length_of_forgery_costs_more_than_its_length() -> None:
    forged = b",".join([b"6.6.6.6"] * 2000)
    assert remote_address([(b"x-forwarded-for", forged + b", 10.0.0.1")], 1) == "10.0.0.1"
