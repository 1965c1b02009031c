"""A token is read strictly: what two readers could read differently is no token."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tokens import NOW, Issuer, Signer, b64

from sidecar.policy.tokens.jwks import parse_jwks
from sidecar.policy.tokens.token import CLOCK_SKEW, LONGEST_TOKEN, Fault, Token, parse_token

SIGNER = Signer()
CLAIMS = {"iss": "i", "sub": "s"}
HEADER = {"alg": "RS256", "kid": "one"}


def token(header: Any = HEADER, claims: Any = CLAIMS, signature: str = "AAAA") -> str:
    return ".".join((b64(header), b64(claims), signature))


def test_its_parts_are_found() -> None:
    claims = {**CLAIMS, "aud": ["a", "b"], "nbf": 5, "exp": 7.5, "iat": 6}
    found = parse_token(token(claims=claims))
    assert isinstance(found, Token)
    assert (found.algorithm, found.kid, found.issuer) == ("RS256", "one", "i")
    assert (found.audiences, found.not_before, found.expires) == (("a", "b"), 5.0, 7.5)
    assert found.claims == claims
    assert found.payload == b64(claims)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a.b",
        "a.b.c.d",
        "..",
        "TokenInvalid",
        token() + "\n",
        token() + "=",
        " " + token(),
        token(signature=""),
        token(signature="A"),
        token(signature="AB"),
        token(signature="A+/="),
        token(header="[]"),
        token(header='"x"'),
        token(header="{"),
        token(header={}),
        token(header={"alg": 5}),
        token(header={"alg": None}),
        token(header={**HEADER, "kid": 5}),
        token(header={**HEADER, "crit": ["exp"]}),
        token(header={**HEADER, "b64": False}),
        token(header='{"alg":"RS256","alg":"none"}'),
        token(header='{"alg":"RS256","x":NaN}'),
        token(claims="[]"),
        token(claims='{"sub":"a","sub":"root"}'),
        token(claims='{"a":{"b":1,"b":2}}'),
        token(claims='{"sub":"a\\u0000"}'),
        token(claims='\ufeff{"sub":"a"}'),
        token(claims={"iss": 5}),
        token(claims={"sub": ["root"]}),
        token(claims={"aud": 5}),
        token(claims={"aud": ["a", 5]}),
        token(claims={"aud": {"a": 1}}),
        token(claims={"exp": "9999999999"}),
        token(claims={"exp": True}),
        token(claims={"exp": -1}),
        token(claims={"exp": 1e300}),
        token(claims={"exp": None}),
        token(claims={"nbf": "0"}),
        token(claims={"iat": []}),
        token(claims="[" * 40 + "]" * 40),
        token(claims={"a": "x" * LONGEST_TOKEN}),
    ],
)
def test_what_is_no_token(text: str) -> None:
    assert parse_token(text) is Fault.MALFORMED


@pytest.mark.parametrize(
    "name",
    ["none", "None", "HS256", "HS384", "HS512", "ES256K", "RSA1_5", "rs256", "RS256 ", ""],
)
def test_an_algorithm_that_is_not_on_the_list_is_refused(name: str) -> None:
    assert parse_token(token(header={"alg": name})) is Fault.ALGORITHM


def test_an_unsigned_token_is_refused() -> None:
    assert parse_token(f"{b64({'alg': 'none'})}.{b64(CLAIMS)}.") is Fault.MALFORMED


def test_a_token_has_one_spelling() -> None:
    """The last character of a signature holds bits that say nothing: they must be zero."""
    good = SIGNER.sign(CLAIMS)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    keys = parse_jwks(Issuer("i", SIGNER).jwks().encode())
    accepted = []
    for last in alphabet:
        found = parse_token(good[:-1] + last)
        if isinstance(found, Token) and found.key_fault(keys) is None:
            accepted.append(last)
    assert accepted == [good[-1]]


@pytest.mark.parametrize(
    ("now", "wanted"),
    [
        (100 - CLOCK_SKEW - 1, Fault.NOT_YET_VALID),
        (100 - CLOCK_SKEW, None),
        (200 + CLOCK_SKEW, None),
        (200 + CLOCK_SKEW + 1, Fault.EXPIRED),
    ],
)
def test_clocks_may_differ_by_a_minute(now: float, wanted: Fault | None) -> None:
    found = parse_token(token(claims={"nbf": 100, "exp": 200}))
    assert isinstance(found, Token)
    assert found.time_fault(now) is wanted


def test_a_token_without_times_is_good_at_any_time() -> None:
    found = parse_token(token())
    assert isinstance(found, Token)
    assert found.time_fault(0) is None
    assert found.time_fault(NOW * 100) is None


def test_without_keys_nothing_is_signed() -> None:
    found = parse_token(SIGNER.sign(CLAIMS))
    assert isinstance(found, Token)
    assert found.key_fault(None) is Fault.NO_KEYS
    assert found.key_fault(parse_jwks(Issuer("i", Signer("other")).jwks().encode())) is (
        Fault.SIGNATURE
    )


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]{0,40}(\.[A-Za-z0-9_-]{0,40}){1,3}"))
def test_any_text_is_a_token_or_a_fault(text: str) -> None:
    assert isinstance(parse_token(text), Token | Fault)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(["alg", "kid", "iss", "sub", "aud", "exp", "nbf", "iat", "x"]),
)
def test_any_value_of_any_claim_is_read_or_refused(value: object, name: str) -> None:
    for text in (token(header={**HEADER, name: value}), token(claims={**CLAIMS, name: value})):
        assert isinstance(parse_token(text), Token | Fault)
