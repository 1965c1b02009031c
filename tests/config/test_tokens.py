"""RequestAuthentications together: which are for the workload, whose keys are whose."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.flow import compiled
from support.tokens import Issuer, Signer

from sidecar.config.snapshot import Snapshot
from sidecar.config.tokens import key_source
from sidecar.policy.tokens.keys import KeySource
from sidecar.policy.tokens.spec import JwtRuleSpec

JWKS = Issuer("https://issuer.test", Signer("one", "ES256")).jwks()
URI = "https://issuer.test/keys"


def document(kind: str, spec: dict[str, Any], name: str = "one", namespace: str = "") -> str:
    return "---\n" + json.dumps(
        {
            "apiVersion": "security.istio.io/v1",
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace or "mcp-prod"},
            "spec": spec,
        }
    )


def tokens(*rules: dict[str, Any], **more: Any) -> str:
    spec = {"jwtRules": list(rules), **more.pop("spec", {})}
    return document("RequestAuthentication", spec, **more) + "\n"


def snapshot(*documents: str) -> Snapshot:
    return compiled("".join(documents), "http://127.0.0.1:9000", "")


def refs(found: Snapshot) -> list[str]:
    return [] if found.tokens is None else [str(rule.ref) for rule in found.tokens.rules]


def test_all_documents_of_a_workload_count_together() -> None:
    found = snapshot(
        tokens({"issuer": "a", "jwks": JWKS}, {"issuer": "b", "jwks": JWKS}),
        tokens({"issuer": "c", "jwks": JWKS}, name="two", namespace="istio-system"),
        tokens(
            {"issuer": "d", "jwks": JWKS},
            name="three",
            spec={"selector": {"matchLabels": {"app": "mcp-server"}}},
        ),
    )
    assert refs(found) == [
        "mcp-prod/one#0",
        "mcp-prod/one#1",
        "istio-system/two#0",
        "mcp-prod/three#0",
    ]
    assert found.services["127.0.0.1:8443"].policy.tokens is found.tokens
    assert found.tokens is not None
    assert found.tokens.rules[0].ref.place == "test.yaml:9"


@pytest.mark.parametrize(
    ("written", "warned"),
    [
        (tokens({"issuer": "a", "jwks": JWKS}, namespace="other"), 1),
        (
            tokens({"issuer": "a", "jwks": JWKS}, spec={"selector": {"matchLabels": {"app": "x"}}}),
            1,
        ),
        (tokens(), 0),
        ("", 0),
    ],
)
def test_what_is_not_for_the_workload_verifies_nothing(written: str, warned: int) -> None:
    found = snapshot(written)
    assert found.tokens is None
    assert found.key_rings == ()
    assert [problem.code for problem in found.warnings] == ["SC0901"] * warned


def test_rules_that_fetch_from_one_place_share_their_keys() -> None:
    found = snapshot(
        tokens(
            {"issuer": "a", "jwksUri": URI},
            {"issuer": "b", "jwksUri": URI},
            {"issuer": "c", "jwksUri": URI, "timeout": "1s"},
            {"issuer": "d", "jwks": JWKS},
            {"issuer": "e"},
        )
    )
    assert found.tokens is not None
    first, second, third, written, none = (rule.ring for rule in found.tokens.rules)
    assert first is second
    assert found.key_rings == (first, third)
    assert [ring.source for ring in found.key_rings] == [
        KeySource(URI),
        KeySource(URI, timeout=1.0),
    ]
    assert first.keys is None
    assert written.keys is not None
    assert (none.source, none.keys) == (None, None)


@pytest.mark.parametrize(
    ("issuer", "uri"),
    [
        ("https://a.test", "https://a.test/.well-known/openid-configuration"),
        ("https://a.test/b/", "https://a.test/b/.well-known/openid-configuration"),
    ],
)
def test_an_issuer_that_is_a_url_is_asked_where_its_keys_are(issuer: str, uri: str) -> None:
    assert key_source(JwtRuleSpec(issuer)) == KeySource(uri, discover=True)


ASKING = [
    {"from": [{"source": {"requestPrincipals": ["*"]}}]},
    {"from": [{"source": {"notRequestPrincipals": ["*"]}}]},
    {"when": [{"key": "request.auth.claims[a]", "values": ["b"]}]},
    {"when": [{"key": "request.auth.audiences", "notValues": ["b"]}]},
]


@pytest.mark.parametrize("rule", ASKING, ids=str)
def test_who_asks_for_tokens_where_none_are_verified_is_warned(rule: dict[str, Any]) -> None:
    asking = document("AuthorizationPolicy", {"rules": [{}, rule]}) + "\n"
    (problem,) = snapshot(asking).warnings
    assert (problem.code, problem.is_error) == ("SC0903", False)
    assert problem.where.file == "test.yaml"
    assert snapshot(asking, tokens({"issuer": "a", "jwks": JWKS})).warnings == ()


def test_who_asks_for_none_is_not_warned() -> None:
    assert snapshot(document("AuthorizationPolicy", {"rules": [{}]})).warnings == ()
