"""Tokens in the order of the checks: after the certificate, before the body and the rules."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.decisions import NOW, asked, policy, refused, summary, tool
from support.policies import allow, deny, rule, when
from support.tokens import Issuer

from sidecar.policy.decide import Policy, decide
from sidecar.policy.spec import PolicySpec
from sidecar.policy.tokens.jwks import parse_jwks
from sidecar.policy.tokens.keys import KeyRing
from sidecar.policy.tokens.rules import JwtRule, TokenRules
from sidecar.policy.tokens.spec import ClaimHeader, JwtRuleSpec
from sidecar.policy.verdict import RuleRef

ISSUER = Issuer()
KEYS = parse_jwks(ISSUER.jwks().encode())
SPEC = JwtRuleSpec(ISSUER.name, output_claim_to_headers=(ClaimHeader("x-user", "sub"),))
UNAUTHENTICATED = ("unauthenticated", 401, -32003)
DENIED = ("denied", 403, -32004)


def tokens() -> TokenRules:
    return TokenRules([JwtRule(SPEC, RuleRef("prod/tokens", 0), KeyRing(keys=KEYS))])


def compiled(*policies: PolicySpec) -> Policy:
    return policy(list(policies), tokens=tokens())


def bearer(**claims: Any) -> tuple[bytes, bytes]:
    return b"authorization", f"Bearer {ISSUER.token(**claims)}".encode()


def test_a_token_is_judged_after_the_certificate_and_before_the_body() -> None:
    everybody = compiled(allow(rule(tools=["read"])))
    bad = bearer(exp=1)
    for call, wanted in (
        (asked(b"{", not_after=NOW - 1, headers=(bad,)), "the certificate has expired"),
        (asked(b"{", headers=(bad,)), "Jwt is expired"),
        (asked(b"{", headers=(bearer(),)), "not strict JSON"),
    ):
        assert refused(decide(call, everybody, NOW)).message.startswith(wanted)
    call = asked(b"{", headers=(bad,))
    decide(call, everybody, NOW)
    assert call.message is None


SAME = rule(request_principals=[f"{ISSUER.name}/alice"])
CLAIM = rule(when("request.auth.claims[groups]", ["editors"]))
NESTED = rule(when("request.auth.claims[a][b]", ["c*"]))
SCOPE = rule(when("request.auth.claims[scope]", ["write"]))
AUDIENCE = rule(when("request.auth.audiences", ["files"]))
PRESENTER = rule(when("request.auth.presenter", ["app"]))


@pytest.mark.parametrize(
    ("policies", "claims", "wanted"),
    [
        ([allow(SAME)], {}, "permit"),
        ([allow(SAME)], {"sub": "bob"}, DENIED),
        ([allow(SAME)], {"sub": None}, DENIED),
        ([allow(SAME)], None, DENIED),
        ([allow(rule(request_principals=["*"]))], {"sub": "bob"}, "permit"),
        ([allow(rule(request_principals=["*"]))], None, DENIED),
        ([allow(rule(not_request_principals=["*"]))], None, "permit"),
        ([allow(rule()), deny(rule(not_request_principals=["*"]))], None, DENIED),
        ([allow(CLAIM)], {"groups": ["readers", "editors"]}, "permit"),
        ([allow(CLAIM)], {"groups": "editors"}, "permit"),
        ([allow(CLAIM)], {"groups": "editors readers"}, DENIED),
        ([allow(CLAIM)], {"groups": [["editors"]]}, DENIED),
        ([allow(CLAIM)], {}, DENIED),
        ([allow(NESTED)], {"a": {"b": ["x", "cc"]}}, "permit"),
        ([allow(NESTED)], {"a": [{"b": "cc"}]}, DENIED),
        ([allow(SCOPE)], {"scope": "read write"}, "permit"),
        ([allow(SCOPE)], {"scope": "rewrite"}, DENIED),
        ([allow(AUDIENCE)], {"aud": ["mail", "files"]}, "permit"),
        ([allow(AUDIENCE)], {"aud": "files"}, "permit"),
        ([allow(PRESENTER)], {"azp": "app"}, "permit"),
        ([allow(PRESENTER)], {"azp": "other"}, DENIED),
    ],
)
def test_rules_ask_what_a_token_says(
    policies: list[PolicySpec], claims: dict[str, Any] | None, wanted: object
) -> None:
    headers = () if claims is None else (bearer(**claims),)
    assert summary(decide(asked(headers=headers), compiled(*policies), NOW)) == wanted


def test_a_rule_on_a_header_that_tokens_set_believes_nobody_else() -> None:
    root = compiled(allow(rule(when("request.headers[x-user]", ["root"]))))
    spoofed = ((b"x-user", b"root"), (b"x_user", b"root"))
    for headers, wanted in (
        (spoofed, DENIED),
        ((*spoofed, bearer()), DENIED),
        ((bearer(sub="root"),), "permit"),
    ):
        assert summary(decide(asked(headers=headers), root, NOW)) == wanted


def test_a_rule_on_the_token_itself_sees_none() -> None:
    held = compiled(allow(rule(when("request.headers[authorization]", ["Bearer *"]))))
    assert summary(decide(asked(headers=(bearer(),)), held, NOW)) == DENIED


def test_every_message_of_a_batch_has_the_callers_token() -> None:
    both = compiled(allow(rule(request_principals=["*"], tools=["read"])))
    old = (b"mcp-protocol-version", b"2025-03-26")
    body = json.dumps([tool(), {**tool(), "id": 2}])
    for headers, wanted in (
        ((old, bearer()), "permit"),
        ((old,), DENIED),
        ((old, bearer(exp=1)), UNAUTHENTICATED),
    ):
        call = asked(body, headers=headers)
        assert summary(decide(call, both, NOW)) == wanted
        assert len(call.batch) == (2 if wanted == "permit" else 0)


def test_where_no_tokens_are_accepted_a_call_stays_as_it_is() -> None:
    call = asked(headers=(bearer(),))
    assert summary(decide(call, policy([allow(rule())]), NOW)) == "permit"
    assert (call.checked, call.claims) == (None, None)
    assert call.header(b"authorization") is not None
