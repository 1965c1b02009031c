"""What a rule's values mean: strings, identities, addresses, ports, path templates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy import match
from sidecar.policy.match import Paths, Strings, address

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors"


def vectors(file: str, name: str) -> list[Any]:
    path = VECTORS / file
    if not path.exists():
        pytest.skip(f"{file} is not here")
    return list(json.loads(path.read_text())[name])


@pytest.mark.parametrize(
    ("value", "holds", "fails"),
    [
        ("abc", ["abc"], ["", "ab", "abcd", "ABC"]),
        ("ab*", ["ab", "abc", "ab*"], ["", "a", "xab"]),
        ("*bc", ["bc", "abc", "*bc"], ["", "c", "abcd"]),
        ("*", ["a", "*", " "], [""]),
        ("*b*", ["ab*", "b*"], ["abc", "b", ""]),
        ("**", ["*", "a*"], ["a", ""]),
        ("a*c", ["a*c"], ["abc", "ac", ""]),
    ],
)
def test_a_leading_star_is_looked_at_before_a_trailing_one(
    value: str, holds: list[str], fails: list[str]
) -> None:
    matches = match.strings([value])
    assert all(map(matches, holds))
    assert not any(map(matches, fails))


def test_one_of_many_values_is_enough() -> None:
    patterns = Strings.of(["a", "b*", "*c"])
    assert [patterns.match(text) for text in ("a", "bx", "xc", "x", "")] == [1, 1, 1, 0, 0]


@pytest.mark.parametrize(
    "compiled",
    [
        match.strings,
        match.namespaces,
        match.ports,
        match.ip_blocks,
        match.request_principals,
        lambda values: match.service_accounts(values, "ns"),
    ],
)
def test_an_empty_value_means_nothing(compiled: Any) -> None:
    with pytest.raises(ValueError):
        compiled([""])


@given(st.lists(st.text("ab*/", min_size=1), min_size=1, max_size=4))
def test_what_is_missing_matches_no_value(values: list[str]) -> None:
    assert not match.strings(values)("")
    assert not match.namespaces(values)("")
    assert not match.trust_domains(values, ["a"])("")
    assert not match.request_principals(values)({})
    assert not match.ip_blocks(["0.0.0.0/0", "::/0"])(())


def test_the_published_service_accounts_match_as_published() -> None:
    for case in vectors("identity_match.json", "service_accounts"):
        matches = match.service_accounts([case["serviceAccount"]], "elsewhere")
        assert matches(case["identity"]) is case["match"], case


def test_the_published_namespaces_match_as_published() -> None:
    for case in vectors("identity_match.json", "namespaces"):
        assert match.namespaces([case["namespace"]])(case["identity"]) is case["match"], case


def test_the_published_suffixes_match_what_follows_their_prefix() -> None:
    for case in vectors("identity_match.json", "principal_suffix"):
        matches = match.strings([case["principalSuffixWithPrefix"]])
        value, prefix = case["value"], case["prefix"]
        found = value.startswith(prefix) and matches(value.removeprefix(prefix))
        assert found is case["match"], case


def test_the_published_trust_domain_aliases_expand_as_published() -> None:
    for case in vectors("identity_match.json", "trust_domain_aliases"):
        known = [case["trustDomain"], *case["aliases"]]
        assert match.with_aliases(case["principals"], known) == case["expanded"], case


@pytest.mark.parametrize(
    ("value", "identity", "matched"),
    [
        ("alice", "spiffe://td/ns/agent/sa/alice", True),
        ("alice", "spiffe://td/ns/other/sa/alice", False),
        ("other/alice", "spiffe://td/ns/other/sa/alice", True),
        ("a.b/c", "spiffe://td/ns/aXb/sa/c", False),
        ("agent/alice", "spiffe://td/ns/agent/x/ns/agent/sa/alice", True),
        ("agent/alice", "spiffe://td/sa/alice/ns/agent", False),
        ("agent/alice", "", False),
    ],
)
def test_a_service_account_without_a_namespace_is_of_the_policys_own(
    value: str, identity: str, matched: bool
) -> None:
    assert match.service_accounts([value], "agent")(identity) is matched


@pytest.mark.parametrize("value", ["/sa", "ns/", "a/b/c"])
def test_half_a_service_account_means_nothing(value: str) -> None:
    with pytest.raises(ValueError):
        match.service_accounts([value], "ns")


@pytest.mark.parametrize(
    ("value", "identity", "matched"),
    [
        ("prod", "spiffe://td/ns/prod/sa/x", True),
        ("prod", "spiffe://td/ns/prod-2/sa/x", False),
        ("prod", "spiffe://td/ns/prod", False),
        ("prod-*", "spiffe://td/ns/prod-2/sa/x", True),
        ("*-prod", "spiffe://td/ns/eu-prod/sa/x", True),
        ("a*c*e", "spiffe://td/ns/abcde/sa/x", True),
        ("a*c*e", "spiffe://td/ns/aedcb/sa/x", False),
        ("*", "spiffe://td/ns/x/sa/x", True),
        ("*", "spiffe://td/workload", False),
    ],
)
def test_a_star_in_a_namespace_is_any_run_of_characters(
    value: str, identity: str, matched: bool
) -> None:
    assert match.namespaces([value])(identity) is matched


def test_a_trust_domain_of_ours_stands_for_all_of_ours() -> None:
    matches = match.trust_domains(["td1", "other*"], ["td1", "td2"])
    assert [matches(domain) for domain in ("td1", "td2", "otherwise", "td3", "")] == [1, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("value", "issuer", "subject", "matched"),
    [
        ("iss/sub", "iss", "sub", True),
        ("https://i/t/sub", "https://i/t", "sub", True),
        ("iss", "iss", "", False),
        ("*", "iss", "sub", True),
        ("*", "iss", "", False),
        ("*/sub*", "iss", "sub*", True),
        ("*/sub*", "iss", "subx", False),
        ("iss/*", "iss", "", False),
        ("iss/su*", "iss", "sub", True),
        ("is*", "iss", "", False),
    ],
)
def test_issuer_and_subject_are_matched_apart(
    value: str, issuer: str, subject: str, matched: bool
) -> None:
    assert match.request_principals([value])({"iss": issuer, "sub": subject}) is matched


@pytest.mark.parametrize("claims", [{"iss": "i"}, {"sub": "s"}, {"iss": ["i"], "sub": "s"}, {}])
def test_a_token_without_issuer_and_subject_is_no_principal(claims: dict[str, object]) -> None:
    assert not match.request_principals(["*"])(claims)


@pytest.mark.parametrize(
    ("block", "ip", "matched"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.9/8", "10.1.2.3", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("::/0", "10.0.0.1", False),
        ("0.0.0.0/0", "::1", False),
    ],
)
def test_an_address_is_in_its_block_however_it_is_written(
    block: str, ip: str, matched: bool
) -> None:
    found = address(ip)
    assert found is not None
    assert match.ip_blocks([block])([found]) is matched


def test_what_is_no_address_is_none() -> None:
    assert address("") is None
    assert address("/run/files.sock") is None


@pytest.mark.parametrize("value", ["http", "-1", "65536", "+80", "80.0", "٨٠", "9" * 5000])
def test_what_is_no_port_means_nothing(value: str) -> None:
    with pytest.raises(ValueError):
        match.ports([value])


def test_the_published_templates_are_valid_or_not_as_published() -> None:
    for case in vectors("path_templates.json", "template_validity"):
        assert (match.template_problem(case["path"]) == "") is case["valid"], case
    for case in vectors("path_templates.json", "literal_segment_validity"):
        assert match.is_literal_segment(case["segment"]) is case["valid"], case


def test_the_published_templates_match_as_published() -> None:
    for case in vectors("path_templates.json", "matching"):
        path = case["path"].partition("?")[0]
        assert Paths.of(case["templates"]).match(path) is case["match"], case


@pytest.mark.parametrize("template", ["/a/{*}x", "/{**}/{*}", "/a/{b}/{*}", "/a//{*}", "/a b/{*}"])
def test_a_template_that_means_nothing_says_why(template: str) -> None:
    with pytest.raises(ValueError, match="path template"):
        Paths.of([template])


SEGMENTS = st.sampled_from(["{*}", "{**}", "a", "b.c", "x-y"])


@given(st.lists(SEGMENTS, min_size=1, max_size=5), st.text("/ab.cxy-|", max_size=20))
def test_an_index_covers_all_that_a_template_matches(segments: list[str], path: str) -> None:
    template = "/" + "/".join(segments)
    if match.is_template(template) and not match.template_problem(template):
        paths = Paths.of([template])
        assert paths.covered.match("/" + path) or not paths.match("/" + path)


@pytest.mark.parametrize(
    ("matches", "text"),
    [
        (Paths.of(["/a/{**}/b/c"]).match, "/a/" + "b/c/" * 300_000 + "b"),
        (Paths.of(["/{*}/{*}/{*}/{**}"]).match, "/" + "a" * 1_000_000 + "|"),
        (match.namespaces(["a*a*a*a*a*b"]), "spiffe://td/ns/" + "a" * 1_000_000),
        (match.strings(["*aaab"]), "a" * 1_000_000),
    ],
)
def test_a_matcher_ends_soon_on_long_texts_it_dislikes(matches: match.Matches, text: str) -> None:
    assert not matches(text)  # what is not linear meets the runner's own limit
