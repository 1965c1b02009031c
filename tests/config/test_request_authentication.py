"""What a RequestAuthentication may say: Istio's cases, and what is refused beyond them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.tokens import Issuer, Signer

from sidecar.config.documents import RequestAuthentication
from sidecar.config.loaded import Loaded, parse_documents
from sidecar.config.request_authentication import jwks_uri
from sidecar.config.values import Malformed
from sidecar.policy.tokens.spec import ClaimHeader, HeaderPlace

Document = Callable[..., Loaded]
URI = "https://issuer.test/keys"
JWKS = Issuer("https://issuer.test", Signer("one", "ES256")).jwks()


def codes(loaded: Loaded) -> list[str]:
    return [problem.code for problem in loaded.problems]


def read(rule: dict[str, Any], **spec: Any) -> Loaded:
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "one"},
        "spec": {"jwtRules": [rule], **spec},
    }
    return parse_documents(json.dumps(document).encode(), "f")


def test_istios_cases_are_judged_as_istio_judges_them(
    vectors: Callable[[str], dict[str, Any]], document: Document
) -> None:
    cases = vectors("jwt_request_auth.json")["spec_validation"]
    for case in cases:
        metadata = {"annotations": case["annotations"]} if "annotations" in case else {}
        loaded = document("RequestAuthentication", case["spec"], **metadata)
        assert (not loaded.errors) is case["valid"], case
        if case["valid"]:
            assert bool(loaded.problems) is case["warning"], case
    assert len(cases) == 22


def test_every_field_comes_out_in_its_place() -> None:
    loaded = read(
        {
            "issuer": "https://issuer.test",
            "audiences": ["files", "mail"],
            "jwksUri": URI,
            "fromHeaders": [{"name": "x-token", "prefix": "Token "}, {"name": "x-plain"}],
            "fromParams": ["token"],
            "fromCookies": ["session"],
            "outputPayloadToHeader": "x-payload",
            "outputClaimToHeaders": [{"header": "x-sub", "claim": "sub"}],
            "forwardOriginalToken": True,
            "timeout": "10ms",
            "spaceDelimitedClaims": ["teams"],
        },
        selector={"matchLabels": {"app": "x"}},
    )
    assert codes(loaded) == []
    (found,) = loaded.documents
    assert isinstance(found, RequestAuthentication)
    assert dict(found.spec.selector.match_labels) == {"app": "x"}
    assert found.tokens.name == "one"
    (rule,) = found.tokens.rules
    assert (rule.issuer, rule.audiences) == ("https://issuer.test", ("files", "mail"))
    assert (rule.jwks_uri, rule.jwks) == (URI, None)
    assert rule.from_headers == (HeaderPlace("x-token", "Token "), HeaderPlace("x-plain"))
    assert (rule.from_params, rule.from_cookies) == (("token",), ("session",))
    assert rule.output_payload_to_header == "x-payload"
    assert rule.output_claim_to_headers == (ClaimHeader("x-sub", "sub"),)
    assert rule.forward_original_token
    assert (rule.timeout, rule.space_delimited_claims) == (0.01, ("teams",))


def test_written_keys_come_out_as_keys() -> None:
    (found,) = read({"issuer": "a", "jwks": JWKS}).documents
    assert isinstance(found, RequestAuthentication)
    (rule,) = found.spec.jwt_rules
    assert rule.jwks is not None
    assert [key.kid for key in rule.jwks.keys] == ["one"]


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ({"jwks": JWKS}, ["SC0419"]),
        ({"issuer": "a", "jwks": JWKS, "jwksUri": URI}, ["SC0420"]),
        ({"issuer": "a", "jwks": '{"keys":[]}'}, ["SC0420"]),
        ({"issuer": "a", "jwks": '{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}'}, ["SC0420"]),
        ({"issuer": "a", "jwks": json.loads(JWKS)}, ["SC0203"]),
        ({"issuer": "a", "jwksUri": "http://issuer.test/keys"}, ["SC0420"]),
        ({"issuer": "a", "jwksUri": URI, "audiences": [""]}, ["SC0401"]),
        ({"issuer": "a", "jwksUri": URI, "fromHeaders": [{"name": "a b"}]}, ["SC0211"]),
        ({"issuer": "a", "jwksUri": URI, "fromHeaders": [{"name": "Host"}]}, ["SC0211"]),
        ({"issuer": "a", "jwksUri": URI, "fromHeaders": [{"name": "mcp-param-x"}]}, ["SC0211"]),
        ({"issuer": "a", "jwksUri": URI, "fromHeaders": [{"prefix": "a"}]}, ["SC0202"]),
        ({"issuer": "a", "jwksUri": URI, "fromHeader": []}, ["SC0204"]),
        ({"issuer": "a", "jwksUri": URI, "outputPayloadToHeader": "Host"}, ["SC0421"]),
        ({"issuer": "a", "jwksUri": URI, "outputPayloadToHeader": "content_length"}, ["SC0421"]),
        ({"issuer": "a", "jwksUri": URI, "outputPayloadToHeader": "Mcp-Name"}, ["SC0421"]),
        ({"issuer": "a", "jwksUri": URI, "outputPayloadToHeader": "cookie"}, ["SC0421"]),
        ({"issuer": "a", "jwksUri": URI, "outputPayloadToHeader": "x:y"}, ["SC0421"]),
        ({"issuer": "a", "jwksUri": URI, "timeout": "0s"}, ["SC0207"]),
        ({"issuer": "a", "jwksUri": URI, "forwardOriginalToken": "yes"}, ["SC0203"]),
        ({"issuer": "a", "jwksUri": URI, "spaceDelimitedClaims": [""]}, ["SC0401"]),
    ],
)
def test_what_a_rule_may_not_say(rule: dict[str, Any], found: list[str]) -> None:
    loaded = read(rule)
    assert codes(loaded) == found
    assert loaded.documents == ()


def test_targets_are_refused() -> None:
    loaded = read({"issuer": "a", "jwksUri": URI}, targetRefs=[{"kind": "Gateway"}])
    assert codes(loaded) == ["SC0304"]


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ({"issuer": "issuer.test"}, ["SC0420"]),
        ({"issuer": "http://issuer.test"}, ["SC0420"]),
        ({"issuer": "https://issuer.test"}, []),
        ({"issuer": "https://issuer.test/", "jwks": JWKS}, []),
    ],
)
def test_a_rule_that_can_have_no_keys_draws_a_warning(
    rule: dict[str, Any], found: list[str]
) -> None:
    loaded = read(rule)
    assert (codes(loaded), len(loaded.documents)) == (found, 1)


def test_a_private_key_draws_a_warning() -> None:
    from jwt.algorithms import RSAAlgorithm

    private = RSAAlgorithm.to_jwk(Signer().key, as_dict=True)
    private.pop("key_ops")
    loaded = read({"issuer": "a", "jwks": json.dumps({"keys": [private]})})
    assert codes(loaded) == ["SC0420"]
    assert not loaded.errors
    assert str(private["d"]) not in repr(loaded.problems)


@pytest.mark.parametrize(
    "uri",
    [
        "https://a",
        "https://a.b:8443/keys?x=y",
        "https://[2001:db8::1]/keys",
        "http://127.0.0.1:9000/keys",
        "http://[::1]/keys",
        "http://localhost/keys",
    ],
)
def test_keys_come_from_a_url(uri: str) -> None:
    assert jwks_uri(uri) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "a",
        "a/b",
        "ftp://a/b",
        "file:///etc/keys",
        "https://",
        "https:///keys",
        "https://a:x/",
        "https://a:0/",
        "https://a:70000/",
        "https://user:secret@a/",
        "https://a/ b",
        "https://a/\n",
        "https://ä/",
        "https://[a/",
        "http://10.0.0.1/keys",
        "http://127.0.0.1.evil.test/keys",
        "http://localhost.evil.test/keys",
    ],
)
def test_what_is_no_url_of_keys(uri: str) -> None:
    with pytest.raises(Malformed) as caught:
        jwks_uri(uri)
    assert caught.value.code == "SC0420"
