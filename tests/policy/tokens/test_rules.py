"""What a call's tokens prove: which rule accepts which, what the caller is told, what goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.policies import call
from support.tokens import NOW, Issuer, Signer, b64

from sidecar.policy.call import Call
from sidecar.policy.tokens import rules as subject
from sidecar.policy.tokens.jwks import parse_jwks
from sidecar.policy.tokens.keys import KeyRing, KeySource
from sidecar.policy.tokens.rules import JwtRule, TokenRules, authenticate, forget
from sidecar.policy.tokens.spec import ClaimHeader, HeaderPlace, JwtRuleSpec
from sidecar.policy.tokens.token import TOLD, Fault
from sidecar.policy.verdict import Reason, RuleRef

ONE = Issuer("https://one.test")
TWO = Issuer("https://two.test", Signer("two", "ES256"))


def spec(issuer: Issuer = ONE, **fields: Any) -> JwtRuleSpec:
    return JwtRuleSpec(issuer.name, jwks=parse_jwks(issuer.jwks().encode()), **fields)


def rules(*specs: JwtRuleSpec) -> TokenRules:
    return TokenRules(
        [
            JwtRule(one, RuleRef("prod/tokens", index), KeyRing(keys=one.jwks))
            for index, one in enumerate(specs)
        ]
    )


def bearing(*tokens: str, query: str = "", headers: Sequence[tuple[str, str]] = ()) -> Call:
    """A call with each token as a bearer's, and other headers."""
    found = [("authorization", f"Bearer {token}") for token in tokens]
    made = call("GET", "/a", headers=[*found, *headers])
    made.query = query
    return made


def said(asked: Call, compiled: TokenRules, now: float = NOW) -> tuple[str, int]:
    """What came of it: the outcome, and the status (0 for none)."""
    refusal = authenticate(asked, compiled, now)
    assert asked.checked is not None
    assert asked.checked.outcome in subject.OUTCOMES
    assert asked.checked.refusal is refusal
    return asked.checked.outcome, refusal.status if refusal else 0


# -- one token, one rule


@pytest.mark.parametrize(
    ("claims", "fields", "wanted"),
    [
        ({}, {}, ("accepted", 0)),
        ({"exp": None}, {}, ("accepted", 0)),
        ({"iss": "https://other.test"}, {}, ("unknown_issuer", 401)),
        ({"iss": None}, {}, ("unknown_issuer", 401)),
        ({"exp": int(NOW) - 60}, {}, ("accepted", 0)),
        ({"exp": int(NOW) - 61}, {}, ("expired", 401)),
        ({"exp": 0}, {}, ("expired", 401)),
        ({"nbf": int(NOW) + 60}, {}, ("accepted", 0)),
        ({"nbf": int(NOW) + 61}, {}, ("not_yet_valid", 401)),
        ({}, {"audiences": ("files",)}, ("audience", 403)),
        ({"aud": "files"}, {"audiences": ("files",)}, ("accepted", 0)),
        ({"aud": ["x", "files"]}, {"audiences": ("mail", "files")}, ("accepted", 0)),
        ({"aud": "https://files/"}, {"audiences": ("http://files",)}, ("accepted", 0)),
        ({"aud": "Files"}, {"audiences": ("files",)}, ("audience", 403)),
        ({"aud": "other"}, {}, ("accepted", 0)),
        ({"aud": "other", "exp": 1}, {"audiences": ("files",)}, ("expired", 401)),
    ],
)
def test_a_token_is_good_for_a_rule_or_the_caller_is_told_why_not(
    claims: dict[str, Any], fields: dict[str, Any], wanted: tuple[str, int]
) -> None:
    assert said(bearing(ONE.token(**claims)), rules(spec(**fields))) == wanted


@pytest.mark.parametrize(
    ("claims", "until"), [({}, NOW + 3660), ({"exp": None}, 2.0**53 + 60), ({"exp": 5}, math.inf)]
)
def test_what_a_token_allows_ends_with_it(claims: dict[str, Any], until: float) -> None:
    asked = bearing(ONE.token(**claims))
    authenticate(asked, rules(spec()), NOW)
    assert asked.checked is not None
    assert asked.checked.until == until


def test_a_rule_without_an_issuer_takes_whoever_signs_with_its_keys() -> None:
    anybody = JwtRuleSpec(jwks=parse_jwks(ONE.jwks().encode()))
    assert said(bearing(ONE.token(iss="urn:any")), rules(anybody)) == ("accepted", 0)
    assert said(bearing(TWO.token()), rules(anybody)) == ("signature", 401)


def test_a_call_without_a_token_passes_without_claims() -> None:
    asked = bearing()
    assert said(asked, rules(spec())) == ("missing", 0)
    assert asked.claims is None


def test_claims_that_were_verified_elsewhere_stay_where_there_is_no_token() -> None:
    asked = bearing()
    asked.claims = {"sub": "known"}
    authenticate(asked, rules(spec()), NOW)
    assert asked.claims == {"sub": "known"}


def test_a_signature_by_another_key_of_the_same_name_is_refused() -> None:
    forger = Issuer(ONE.name, Signer("one"))
    assert said(bearing(forger.token()), rules(spec())) == ("signature", 401)


def test_every_value_that_is_changed_breaks_the_signature() -> None:
    header, _, signature = ONE.token().split(".")
    forged = ".".join((header, b64({"iss": ONE.name, "sub": "root"}), signature))
    assert said(bearing(forged), rules(spec())) == ("signature", 401)


def test_without_keys_a_token_is_refused_and_newer_ones_are_asked_for() -> None:
    asked: list[int] = []
    ring = KeyRing(KeySource("https://one.test/keys"), ask=lambda: asked.append(1))
    compiled = TokenRules([JwtRule(JwtRuleSpec(ONE.name), RuleRef("a/b"), ring)])
    assert said(bearing(ONE.token()), compiled) == ("no_keys", 401)
    ring.keys = parse_jwks(TWO.jwks().encode())
    assert said(bearing(ONE.token()), compiled) == ("signature", 401)
    assert len(asked) == 2
    ring.keys = parse_jwks(ONE.jwks().encode())
    assert said(bearing(ONE.token()), compiled) == ("accepted", 0)
    assert said(bearing(), compiled) == ("missing", 0)
    assert len(asked) == 2


# -- several rules, several tokens


@pytest.mark.parametrize(
    ("tokens", "specs", "wanted"),
    [
        ([ONE], [spec(ONE), spec(TWO)], ("accepted", 0)),
        ([TWO], [spec(ONE), spec(TWO)], ("accepted", 0)),
        ([TWO], [spec(ONE)], ("unknown_issuer", 401)),
        ([ONE, TWO], [spec(ONE), spec(TWO)], ("unknown_issuer", 401)),
        ([ONE, ONE], [spec(ONE), spec(TWO)], ("accepted", 0)),
        ([ONE], [spec(ONE, audiences=("x",)), spec(TWO)], ("audience", 403)),
        ([ONE], [spec(TWO), spec(ONE, audiences=("x",)), spec(TWO)], ("audience", 403)),
        ([ONE], [spec(ONE, audiences=("x",)), spec(ONE)], ("accepted", 0)),
        ([ONE] * 9, [spec(ONE)], ("too_many", 401)),
    ],
)
def test_a_call_passes_if_a_rule_accepts_all_its_tokens(
    tokens: list[Issuer], specs: list[JwtRuleSpec], wanted: tuple[str, int]
) -> None:
    assert said(bearing(*[issuer.token() for issuer in tokens]), rules(*specs)) == wanted


def test_one_rule_whose_tokens_are_good_is_enough_and_other_tokens_go_no_further() -> None:
    # Istio makes of its rules: one of them, or all that find a token.
    compiled = rules(spec(ONE), spec(TWO, from_headers=(HeaderPlace("x-two"),)))
    for value in (TWO.token(), TWO.token(exp=1)):
        asked = bearing(ONE.token(), headers=[("x-two", value)])
        assert authenticate(asked, compiled, NOW) is None
        assert asked.claims is not None
        assert asked.claims["iss"] == ONE.name
        assert asked.header(b"x-two") is None
    asked = bearing(ONE.token(exp=1), headers=[("x-two", TWO.token(exp=1))])
    assert said(asked, compiled)[0] == "expired"


def test_the_claims_are_those_of_the_first_rule_that_accepts() -> None:
    asked = bearing(TWO.token(sub="bob", scope="a b"))
    authenticate(asked, rules(spec(ONE), spec(TWO)), NOW)
    assert asked.claims is not None
    assert (asked.claims["iss"], asked.claims["sub"]) == (TWO.name, "bob")
    assert asked.claims["scope"] == ["a", "b"]


def test_claims_that_a_rule_names_are_split_and_others_are_not() -> None:
    token = ONE.token(teams="a  b", other="a b", permission="x y")
    asked = bearing(token)
    authenticate(asked, rules(spec(space_delimited_claims=("teams",))), NOW)
    assert asked.claims is not None
    found = {name: asked.claims[name] for name in ("teams", "other", "permission")}
    assert found == {"teams": ["a", "b"], "other": "a b", "permission": ["x", "y"]}


# -- what the caller is told


def test_a_refusal_challenges_the_caller_and_shows_no_token() -> None:
    token = ONE.token(exp=1)
    asked = bearing(token, query=f"access_token={token}&q=secret")
    refusal = authenticate(asked, rules(spec()), NOW)
    assert refusal is not None
    assert (refusal.reason, refusal.status) == (Reason.UNAUTHENTICATED, 401)
    assert refusal.message == "Jwt is expired"
    assert str(refusal.rule) == "prod/tokens#0"
    assert refusal.headers == (
        b'www-authenticate: Bearer realm="https://files.tools/a", error="invalid_token"\r\n',
    )
    shown = repr((refusal.message, refusal.detail, refusal.headers))
    assert not any(part in shown for part in (*token.split("."), "secret"))


def test_a_wrong_audience_is_a_denial() -> None:
    refusal = authenticate(bearing(ONE.token()), rules(spec(audiences=("x",))), NOW)
    assert refusal is not None
    assert (refusal.reason, refusal.status) == (Reason.DENIED, 403)
    assert refusal.message == "Audiences in Jwt are not allowed"


@pytest.mark.parametrize("path", ['/a"b', "/a\\b", "/" + "x" * 1000])
def test_a_path_cannot_break_out_of_the_challenge(path: str) -> None:
    asked = bearing("x")
    asked.path = path
    refusal = authenticate(asked, rules(spec()), NOW)
    assert refusal is not None
    (line,) = refusal.headers
    assert line.count(b'"') == 4
    assert len(line) < 400


@pytest.mark.parametrize(
    ("method", "headers", "wanted"),
    [
        ("OPTIONS", ["origin", "access-control-request-method"], "preflight"),
        ("OPTIONS", ["access-control-request-method"], "expired"),
        ("OPTIONS", ["origin"], "expired"),
        ("GET", ["origin", "access-control-request-method"], "expired"),
    ],
)
def test_only_a_preflight_needs_no_good_token(method: str, headers: list[str], wanted: str) -> None:
    asked = bearing(ONE.token(exp=1), headers=[(name, "x") for name in headers])
    asked.method = method
    assert said(asked, rules(spec()))[0] == wanted
    if wanted == "preflight":
        assert asked.claims is None
        assert asked.header(b"authorization") is None


# -- what goes on to rules and the server

OUTPUTS = {
    "output_payload_to_header": "X-Payload",
    "output_claim_to_headers": (
        ClaimHeader("x-sub", "sub"),
        ClaimHeader("x-deep", "a.b.c"),
        ClaimHeader("x-url", "https://x.test/role"),
        ClaimHeader("x-list", "list"),
        ClaimHeader("x-yes", "yes"),
        ClaimHeader("x-int", "int"),
        ClaimHeader("x-half", "half"),
        ClaimHeader("x-split", "split"),
        ClaimHeader("x-long", "long"),
    ),
}


def test_the_server_is_told_what_was_proved() -> None:
    claims = {
        "a": {"b": {"c": "deep"}},
        "https://x.test/role": "boss",
        "list": ["x"],
        "yes": True,
        "int": 1_562_182_722,
        "half": 0.5,
        "split": "a\r\nx-admin: yes",
        "long": "x" * 5000,
    }
    token = ONE.token(**claims)
    asked = bearing(token)
    authenticate(asked, rules(spec(**OUTPUTS)), NOW)
    assert dict(asked.headers) == {
        b"x-payload": token.split(".")[1].encode(),
        b"x-sub": b"alice",
        b"x-deep": b"deep",
        b"x-url": b"boss",
        b"x-yes": b"true",
        b"x-int": b"1562182722",
        b"x-half": b"0.500000",
    }


@pytest.mark.parametrize("name", ["x-sub", "x_sub", "X-Sub"])
@pytest.mark.parametrize("token", ["", "good", "preflight"])
def test_nobody_else_tells_the_server_so(name: str, token: str) -> None:
    tokens = [ONE.token(sub=None)] if token == "good" else []
    asked = bearing(*tokens, headers=[(name.lower(), "root"), ("origin", "x"), ("a", "b")])
    if token == "preflight":
        asked.method = "OPTIONS"
        asked.headers = [*asked.headers, (b"access-control-request-method", b"GET")]
    authenticate(asked, rules(spec(**OUTPUTS)), NOW)
    assert b"root" not in dict(asked.headers).values()
    assert (b"a", b"b") in asked.headers
    assert asked.checked is not None
    wire = f"{name}: root\r\n".encode()
    assert wire not in asked.checked.edit.lines([wire, b"a: b\r\n"])


@pytest.mark.parametrize("forwarded", [True, False])
def test_a_token_goes_on_only_if_its_rule_says_so(forwarded: bool) -> None:
    compiled = rules(spec(forward_original_token=forwarded))
    asked = bearing(ONE.token(), query=f"a=1&access_token={ONE.token()}&b=%20")
    assert said(asked, compiled) == ("accepted", 0)
    assert (asked.header(b"authorization") is not None) is forwarded
    assert ("access_token" in asked.query) is forwarded
    assert asked.query.startswith("a=1&")
    assert asked.query.endswith("&b=%20")


def test_asked_again_it_begins_with_what_the_caller_sent() -> None:
    asked = bearing(ONE.token(), headers=[("x-sub", "root")])
    sent = list(asked.headers)
    for _ in range(2):
        authenticate(asked, rules(spec(**OUTPUTS)), NOW)
        assert asked.claims is not None
    assert authenticate(asked, rules(spec(TWO)), NOW) is not None
    assert asked.claims is None
    forget(asked)
    forget(asked)
    assert (asked.headers, asked.claims, asked.checked) == (sent, None, None)


# -- what is remembered


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    parse: Callable[[str], Any] = subject.parse_token

    def counted(text: str) -> Any:
        seen.append(text)
        return parse(text)

    monkeypatch.setattr(subject, "parse_token", counted)
    return seen


def test_a_good_token_is_verified_once_and_its_time_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = counting(monkeypatch)
    compiled, token = rules(spec()), ONE.token()
    for now, wanted in ((NOW, "accepted"), (NOW + 3659, "accepted"), (NOW + 3661, "expired")):
        assert said(bearing(token), compiled, now)[0] == wanted
    assert len(seen) == 1


def test_a_bad_token_is_never_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = counting(monkeypatch)
    compiled, token = rules(spec()), Issuer(ONE.name, Signer("one")).token()
    for _ in range(3):
        assert said(bearing(token), compiled) == ("signature", 401)
    assert len(seen) == 3


def test_a_token_is_forgotten_when_the_keys_change() -> None:
    compiled, token = rules(spec()), ONE.token()
    assert said(bearing(token), compiled) == ("accepted", 0)
    compiled.rules[0].ring.keys = parse_jwks(TWO.jwks().encode())
    assert said(bearing(token), compiled) == ("signature", 401)
    compiled.rules[0].ring.keys = None
    assert said(bearing(token), compiled) == ("no_keys", 401)


def test_a_token_of_one_rule_is_not_one_of_another() -> None:
    compiled = rules(spec(ONE, audiences=("x",)), spec(ONE, audiences=("y",)))
    token = ONE.token(aud="y")
    for _ in range(2):
        asked = bearing(token)
        assert said(asked, compiled) == ("accepted", 0)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_MOST_REMEMBERED", 2)
    seen = counting(monkeypatch)
    compiled = rules(spec())
    tokens = [ONE.token(jti=str(number)) for number in range(3)]
    for token in [*tokens, tokens[2], tokens[0]]:
        assert said(bearing(token), compiled) == ("accepted", 0)
    assert seen == [*tokens, tokens[0]]
    long = ONE.token(more="x" * 5000)
    for _ in range(2):
        assert said(bearing(long), compiled) == ("accepted", 0)
    assert seen[4:] == [long, long]


def test_every_reason_that_a_caller_is_told_is_explained_to_a_person() -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "accept-tokens.md").read_text()
    assert len(set(subject.OUTCOMES)) == len(subject.OUTCOMES) == len(Fault) + 3
    for fault in Fault:
        assert f"`{fault.value}`" in page
        assert TOLD[fault] in page
