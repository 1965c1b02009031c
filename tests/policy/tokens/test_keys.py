"""Key sets: which keys are used, for which algorithms, and which are passed over."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm
from support.tokens import Signer, b64

from sidecar.policy.tokens.keys import ALGORITHMS, LONGEST_JWKS, MOST_KEYS, parse_jwks
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


SMALL = RSAAlgorithm.to_jwk(rsa.generate_private_key(65_537, 1024).public_key(), as_dict=True)
POINT = SIGNERS["ES256"].jwk


@pytest.mark.parametrize(
    "key",
    [
        None,
        [],
        "x",
        {},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "RSA"},
        {"kty": ["RSA"]},
        {**RSA.jwk, "use": "enc"},
        {**RSA.jwk, "key_ops": ["encrypt"]},
        {**RSA.jwk, "key_ops": "verify"},
        {**RSA.jwk, "kid": 5},
        {**RSA.jwk, "alg": 5},
        {**RSA.jwk, "alg": "HS256"},
        {**RSA.jwk, "alg": "none"},
        {**RSA.jwk, "alg": "ES256"},
        {**RSA.jwk, "n": 5},
        {**RSA.jwk, "n": "A" * 2000},
        {**RSA.jwk, "n": "%%%"},
        {**RSA.jwk, "e": ""},
        SMALL,
        {**POINT, "crv": "P-384"},
        {**POINT, "crv": "secp256k1"},
        {**POINT, "crv": ["P-256"]},
        {**POINT, "x": POINT["y"]},
        {**SIGNERS["EdDSA"].jwk, "crv": "X25519"},
        {**SIGNERS["EdDSA"].jwk, "x": "AA"},
    ],
    ids=range(26),
)
def test_a_key_that_cannot_be_used_is_passed_over(key: Any) -> None:
    with pytest.raises(ValueError, match="no public key"):
        parse_jwks(jwks(key))
    assert len(parse_jwks(jwks(key, RSA.jwk)).keys) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"foo",
        b"[]",
        b"{}",
        b'{"keys":{}}',
        b'{"keys":[]}',
        b'{"keys":[],"keys":[]}',
        jwks(*[RSA.jwk] * (MOST_KEYS + 1)),
        jwks(RSA.jwk) + b" " * LONGEST_JWKS,
        b'{"keys":[{"kty":"RSA","kty":"oct"}]}',
    ],
)
def test_what_is_no_key_set_says_why(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_jwks(data)


def test_a_private_key_is_noticed_and_not_kept() -> None:
    private = {**RSAAlgorithm.to_jwk(RSA.key, as_dict=True), "kid": "rsa"}
    private.pop("key_ops")
    keys = parse_jwks(jwks(private))
    assert keys.private
    assert not parse_jwks(jwks(RSA.jwk)).private
    assert isinstance(keys.keys[0].public, rsa.RSAPublicKey)
    assert base64.urlsafe_b64decode(private["d"] + "==")
