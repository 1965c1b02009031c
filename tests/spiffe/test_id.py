"""SPIFFE IDs: what is one, what is not and why, and which ones a matcher takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import IdentityError
from sidecar.spiffe.id import (
    MAX_ID,
    SpiffeId,
    check_segment,
    match_any,
    match_id,
    match_member_of,
    match_one_of,
    parse_trust_domain,
)

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors" / "spiffe_ids.json"
ABSENT = not VECTORS.exists()
CASES: dict[str, Any] = {} if ABSENT else json.loads(VECTORS.read_text())


def cases(table: str) -> list[Any]:
    """Return one parameter a vector, or a single one that skips by name."""
    if ABSENT:
        return [pytest.param({}, marks=pytest.mark.skip(reason=f"{VECTORS.name} is absent"))]
    return [pytest.param(case, id=f"{table}-{i}") for i, case in enumerate(CASES[table])]


def reason_of(read: Any, text: str) -> str | None:
    try:
        read(text)
    except IdentityError as error:
        return error.reason
    return None


@pytest.mark.parametrize("case", cases("spiffe_ids"))
def test_an_id_is_read_as_the_vectors_say(case: dict[str, Any]) -> None:
    assert reason_of(SpiffeId.parse, case["in"]) == (None if case["valid"] else case["reason"])
    if case["valid"]:
        identity = SpiffeId.parse(case["in"])
        assert (identity.trust_domain, identity.path) == (case["trustDomain"], case["path"])
        assert str(identity) == case["in"]


@pytest.mark.parametrize("case", cases("trust_domains"))
def test_a_trust_domain_is_read_as_the_vectors_say(case: dict[str, Any]) -> None:
    assert reason_of(parse_trust_domain, case["in"]) == (None if case["valid"] else case["reason"])


@pytest.mark.parametrize("case", cases("path_segments"))
def test_a_segment_is_read_as_the_vectors_say(case: dict[str, Any]) -> None:
    assert reason_of(check_segment, case["in"]) == (None if case["valid"] else case["reason"])


@pytest.mark.parametrize("case", cases("matchers"))
def test_a_matcher_takes_what_the_vectors_say(case: dict[str, Any]) -> None:
    factories: dict[str, Any] = {
        "any": lambda _: match_any(),
        "id": lambda arg: match_id(SpiffeId.parse(arg)),
        "oneOf": lambda arg: match_one_of([SpiffeId.parse(one) for one in arg]),
        "memberOf": match_member_of,
    }
    matcher = factories[case["matcher"]](case["arg"])
    assert matcher(SpiffeId.parse(case["id"])) is case["match"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("https://example.com/a", "scheme"),
        ("SPIFFE://example.com/a", "scheme"),
        ("spiffe:///a", "missing_trust_domain"),
        ("spiffe://Example.com/a", "trust_domain_charset"),
        ("spiffe://exämple.com/a", "trust_domain_charset"),
        ("spiffe://example.com:8443/a", "port"),
        ("spiffe://user@example.com/a", "userinfo"),
        ("spiffe://example.com/a?b=c", "query"),
        ("spiffe://example.com/a#b", "fragment"),
        ("spiffe://example.com/a/", "trailing_slash"),
        ("spiffe://example.com//a", "empty_segment"),
        ("spiffe://example.com/a/../b", "dot_segment"),
        ("spiffe://example.com/a\u0661", "path_charset"),
        ("spiffe://" + "a" * 256 + "/b", "trust_domain_too_long"),
        ("spiffe://a/" + "b" * (MAX_ID - 10), "too_long"),
    ],
)
def test_every_fault_has_its_own_word(text: str, reason: str) -> None:
    assert reason_of(SpiffeId.parse, text) == reason


def test_a_message_shows_foreign_text_bounded_and_printable() -> None:
    with pytest.raises(IdentityError) as raised:
        SpiffeId.parse("spiffe://a/" + "\x1b" * 500)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 500


def test_an_id_cannot_be_made_from_invalid_parts() -> None:
    with pytest.raises(IdentityError) as raised:
        SpiffeId("example.com", "no/slash")
    assert raised.value.reason == "leading_slash"
    with pytest.raises(IdentityError):
        SpiffeId("example.com/ns", "/x")


def test_the_longest_id_is_still_an_id() -> None:
    text = "spiffe://a/" + "b" * (MAX_ID - 11)
    assert len(text) == MAX_ID
    assert str(SpiffeId.parse(text)) == text


def test_the_short_form_stands_for_a_namespace_and_an_account() -> None:
    identity = SpiffeId.of_short("agent/alice", "cluster.local")
    assert str(identity) == "spiffe://cluster.local/ns/agent/sa/alice"
    assert (identity.namespace, identity.service_account) == ("agent", "alice")


def test_a_whole_id_is_taken_where_the_short_form_is() -> None:
    assert str(SpiffeId.of_short("spiffe://other.test/x", "cluster.local")) == (
        "spiffe://other.test/x"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("alice", "short_form"),
        ("ns/agent/sa/alice", "short_form"),
        ("", "short_form"),
        ("/alice", "empty_segment"),
        ("agent/", "trailing_slash"),
        ("../alice", "dot_segment"),
        ("agent/*", "path_charset"),
        ("https://a/b", "scheme"),
    ],
)
def test_what_is_neither_form_is_refused(text: str, reason: str) -> None:
    assert reason_of(SpiffeId.of_short, text) == reason


@pytest.mark.parametrize(
    "path", ["", "/ns/a", "/ns/a/sa", "/ns/a/sa/b/c", "/sa/a/ns/b", "/x/a/sa/b"]
)
def test_another_path_has_no_namespace_and_no_account(path: str) -> None:
    identity = SpiffeId("example.com", path)
    assert identity.namespace is None
    assert identity.service_account is None


def test_a_trust_domain_may_be_taken_from_a_whole_id() -> None:
    assert parse_trust_domain("spiffe://example.com/a") == "example.com"
    assert reason_of(parse_trust_domain, "") == "missing_trust_domain"


def test_equal_ids_are_one_key() -> None:
    one, other = SpiffeId.parse("spiffe://a.test/b"), SpiffeId("a.test", "/b")
    assert {one: 1}[other] == 1
    assert one != SpiffeId("a.test", "/B")


@given(st.text(max_size=40), st.text(max_size=40))
def test_what_is_read_is_written_back_byte_for_byte(domain: str, path: str) -> None:
    text = f"spiffe://{domain}/{path}"
    if reason_of(SpiffeId.parse, text) is None:
        assert str(SpiffeId.parse(text)) == text
        assert text.isascii()
