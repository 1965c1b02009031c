"""Key sets as they are written: which keys are read, and which are passed over."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from support.tokens import Signer

from sidecar.policy.tokens.jwks import MOST_KEYS, parse_jwks
from sidecar.policy.tokens.keys import ALGORITHMS, LONGEST_JWKS

RSA = Signer("rsa")


def jwks(*keys: Any) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


SMALL = RSAAlgorithm.to_jwk(rsa.generate_private_key(65_537, 1024).public_key(), as_dict=True)
POINT = Signer("es256", "ES256").jwk
EDWARDS = Signer("eddsa", "EdDSA").jwk


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
        {**EDWARDS, "crv": "X25519"},
        {**EDWARDS, "x": "AA"},
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


def test_every_algorithm_of_the_allow_list_has_its_way() -> None:
    found = parse_jwks(
        jwks(RSA.jwk, EDWARDS, *(Signer(one, one).jwk for one in ("ES256", "ES384", "ES512")))
    )
    assert {name for key in found.keys for name in key.algorithms} == ALGORITHMS


def test_without_a_rule_for_tokens_what_verifies_them_is_not_loaded() -> None:
    ask = "import sys, sidecar.config.kinds, sidecar.policy.decide; print('jwt' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
