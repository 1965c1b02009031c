"""Tokens for tests: keys minted on the spot, tokens signed with them, whole or broken.

    ISSUER = Issuer("https://issuer.test")
    ISSUER.token(sub="alice")        # a token
    ISSUER.jwks()                    # what verifies it, as text

Nothing here is kept in a file; every run has its own keys.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

NOW = 1_700_000_000.0

_CURVES = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}


def b64(data: bytes | str | Mapping[str, Any]) -> str:
    """Return base64url without padding; a mapping is JSON."""
    if isinstance(data, Mapping):
        data = json.dumps(data)
    raw = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Signer:
    """One private key and its name; `algorithm` is what it signs with."""

    def __init__(self, kid: str = "one", algorithm: str = "RS256") -> None:
        self.kid = kid
        self.algorithm = algorithm

    @cached_property
    def key(self) -> Any:
        if self.algorithm == "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
        if self.algorithm in _CURVES:
            return ec.generate_private_key(_CURVES[self.algorithm]())
        return rsa.generate_private_key(65_537, 2_048)

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key as a JWK."""
        kinds: dict[str, Any] = {"E": ECAlgorithm, "R": RSAAlgorithm, "P": RSAAlgorithm}
        kind = OKPAlgorithm if self.algorithm == "EdDSA" else kinds[self.algorithm[0]]
        written = kind.to_jwk(self.key.public_key(), as_dict=True)
        written.pop("key_ops", None)
        return {**written, "kid": self.kid}

    def sign(self, claims: Mapping[str, Any], **header: Any) -> str:
        """Return a token with these claims; `header` adds to its header."""
        return jwt.encode(
            dict(claims), self.key, self.algorithm, headers={"kid": self.kid, **header}
        )


class Issuer:
    """Somebody who issues tokens, with the keys that verify them."""

    def __init__(self, name: str = "https://issuer.test", *signers: Signer) -> None:
        self.name = name
        self.signers = signers or (Signer(),)

    def token(self, **claims: Any) -> str:
        """Return a token that is good for an hour; a claim of None is left out."""
        whole = {"iss": self.name, "sub": "alice", "exp": int(NOW) + 3600, **claims}
        return self.signers[0].sign({k: v for k, v in whole.items() if v is not None})

    def jwks(self) -> str:
        return json.dumps({"keys": [signer.jwk for signer in self.signers]})
