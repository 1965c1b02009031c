"""Key sets as they are written, a JWKS (RFC 7517): read once, into keys that can be used.

A key set may hold keys that nobody here can use, and those are passed over; a private
key in it is noticed and never kept. This module is loaded by the first key set that is
read: where there is no rule for tokens, PyJWT is not loaded at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import Algorithm, ECAlgorithm, OKPAlgorithm, RSAAlgorithm, RSAPSSAlgorithm
from jwt.exceptions import PyJWTError

from ...errors import MessageError
from ...mcp.message import parse_value
from .keys import CURVES, EDWARDS, LONGEST_JWKS, RSA_LIKE, Key, Keys, PublicKey

MOST_KEYS: Final = 64
_LONGEST_NUMBER: Final = 1_400  # characters of base64url: 8 192 bits
_LEAST_RSA_BITS: Final = 2_048  # RFC 7518 section 3.3

# How each algorithm of the allow-list is verified.
_WAYS: Final[Mapping[str, Algorithm]] = {
    "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
    "RS384": RSAAlgorithm(RSAAlgorithm.SHA384),
    "RS512": RSAAlgorithm(RSAAlgorithm.SHA512),
    "PS256": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA256),
    "PS384": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA384),
    "PS512": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA512),
    "ES256": ECAlgorithm(ECAlgorithm.SHA256),
    "ES384": ECAlgorithm(ECAlgorithm.SHA384),
    "ES512": ECAlgorithm(ECAlgorithm.SHA512),
    EDWARDS: OKPAlgorithm(),
}


def parse_jwks(data: bytes) -> Keys:
    """Return the key set in *data* (RFC 7517 section 5), less keys that cannot be used here.

    Raises ValueError if it is no key set, or holds no key that can be used.
    """
    if len(data) > LONGEST_JWKS:
        raise ValueError(f"it is longer than {LONGEST_JWKS} bytes")
    try:
        value = parse_value(data)
    except MessageError as error:
        raise ValueError(str(error)) from None
    entries = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(entries, list):
        raise ValueError("it has no list `keys`")
    if len(entries) > MOST_KEYS:
        raise ValueError(f"it holds more than {MOST_KEYS} keys")
    found = [key for entry in entries if (key := _key(entry)) is not None]
    if not found:
        raise ValueError("it holds no public key that can be used: RSA of 2048 bits, EC or Ed25519")
    private = any(isinstance(entry, dict) and "d" in entry for entry in entries)
    return Keys(tuple(found), private)


def _key(entry: object) -> Key | None:
    """Read one key; None for one that is not for signatures, or of a kind that is not used."""
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    kid, only = entry.get("kid", ""), entry.get("alg", "")
    if not isinstance(kid, str) or not isinstance(only, str):
        return None
    try:
        algorithms, public = _public(entry)
    except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError):
        return None
    allowed = {one: _WAYS[one] for one in algorithms if only in ("", one)}
    return Key(kid, allowed, public) if allowed else None


def _public(entry: Mapping[str, object]) -> tuple[tuple[str, ...], PublicKey]:
    """Return what a key may be used with, and the key. Raises ValueError or PyJWT's errors."""
    kind, curve = entry.get("kty"), entry.get("crv")
    if kind == "RSA":
        rsa = RSAAlgorithm.from_jwk(_members(entry, "n", "e"))
        if isinstance(rsa, RSAPublicKey) and rsa.key_size >= _LEAST_RSA_BITS:
            return RSA_LIKE, rsa
    elif kind == "EC" and isinstance(curve, str) and curve in CURVES:
        point = ECAlgorithm.from_jwk(_members(entry, "crv", "x", "y"))
        if isinstance(point, EllipticCurvePublicKey):
            return (CURVES[curve],), point
    elif kind == "OKP" and curve == "Ed25519":
        edwards = OKPAlgorithm.from_jwk(_members(entry, "crv", "x"))
        if isinstance(edwards, Ed25519PublicKey):
            return (EDWARDS,), edwards
    raise ValueError("a key of another kind, or too weak a one")


def _members(entry: Mapping[str, object], *names: str) -> dict[str, str]:
    """Return the public members of a key: what is private in it is never looked at."""
    members = {"kty": str(entry["kty"])}
    for name in names:
        text = entry.get(name)
        if not isinstance(text, str) or len(text) > _LONGEST_NUMBER:
            raise ValueError(f"`{name}` is missing or too long")
        members[name] = text
    return members
