"""Keys: which one a token is verified with, and with which algorithms."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from support.tokens import Signer, b64

from sidecar.policy.tokens.jwks import parse_jwks
from sidecar.policy.tokens.keys import ALGORITHMS
from sidecar.policy.tokens.token import Fault, Token, parse_token

RSA = Signer("rsa")
SIGNERS = {
    name: Signer(name.lower(), name) for name in ("ES256", "ES384", "ES512", "EdDSA", "PS256")
} | {"RS256": RSA}
CLAIMS = {"sub": "a"}


def jwks(*keys: Any) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def fault(text: str, keys: bytes) -> Fault | None:
    found = parse_token(text)
    return found.key_fault(parse_jwks(keys)) if isinstance(found, Token) else found


def test_what_pyjwt_signs_is_good_with_every_algorithm_of_the_list() -> None:
    rsa_like = [name for name in ALGORITHMS if name[:2] in ("RS", "PS")]
    for name in rsa_like:
        text = jwt.encode(CLAIMS, RSA.key, name, headers={"kid": "rsa"})
        assert fault(text, jwks(RSA.jwk)) is None
    for name, signer in SIGNERS.items():
        assert fault(signer.sign(CLAIMS), jwks(signer.jwk)) is None
        assert name in ALGORITHMS
    assert set(ALGORITHMS) == {*rsa_like, *SIGNERS}
    assert not any(name.startswith("HS") or name == "none" for name in ALGORITHMS)


def test_a_key_is_only_used_with_the_algorithm_it_names() -> None:
    text = jwt.encode(CLAIMS, RSA.key, "RS512", headers={"kid": "rsa"})
    assert fault(text, jwks({**RSA.jwk, "alg": "RS512"})) is None
    assert fault(text, jwks({**RSA.jwk, "alg": "RS256"})) is Fault.SIGNATURE


@pytest.mark.parametrize("name", sorted(SIGNERS))
@pytest.mark.parametrize("said", sorted(ALGORITHMS))
def test_a_header_cannot_choose_another_algorithm(name: str, said: str) -> None:
    signer = SIGNERS[name]
    _, claims, signature = signer.sign(CLAIMS).split(".")
    text = ".".join((b64({"alg": said, "kid": signer.kid}), claims, signature))
    # Even the algorithm that was used: the header is part of what is signed.
    assert fault(text, jwks(signer.jwk)) is Fault.SIGNATURE


def test_a_public_key_is_no_shared_secret() -> None:
    import hmac

    pem = RSA.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    content = f"{b64({'alg': 'HS256', 'kid': 'rsa'})}.{b64(CLAIMS)}"
    made = hmac.digest(pem, content.encode(), "sha256")
    assert fault(f"{content}.{b64(made)}", jwks(RSA.jwk)) is Fault.ALGORITHM


def test_a_name_picks_the_key_and_without_one_all_are_tried() -> None:
    other = Signer("other")
    both = jwks(other.jwk, RSA.jwk)
    assert fault(RSA.sign(CLAIMS), both) is None
    assert fault(RSA.sign(CLAIMS, kid="other"), both) is Fault.SIGNATURE
    assert fault(jwt.encode(CLAIMS, RSA.key, "RS256"), both) is None
    nameless = {name: value for name, value in RSA.jwk.items() if name != "kid"}
    assert fault(RSA.sign(CLAIMS, kid="anything"), jwks(other.jwk, nameless)) is None
    assert fault(RSA.sign(CLAIMS, kid="anything"), both) is Fault.SIGNATURE


def test_a_set_knows_its_names() -> None:
    keys = parse_jwks(jwks(RSA.jwk))
    assert [keys.knows(kid) for kid in ("rsa", "", "other")] == [True, True, False]
