"""Public keys that tokens are verified with: key sets as they are written, and who holds them.

Only signatures by a private key count, so a key is never one that both sides share,
and each key names the algorithms that it may be used with: what a token says of
itself chooses among those and adds none. Where keys come from is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import Algorithm, ECAlgorithm, OKPAlgorithm, RSAAlgorithm, RSAPSSAlgorithm
from jwt.exceptions import PyJWTError

from ...errors import MessageError
from ...mcp.message import parse_value

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

MOST_KEYS: Final = 64
LONGEST_JWKS: Final = 262_144  # bytes
_LONGEST_NUMBER: Final = 1_400  # characters of base64url: 8 192 bits
_LEAST_RSA_BITS: Final = 2_048  # RFC 7518 section 3.3

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
# RFC 7518 section 3.4: each algorithm has its own curve.
_CURVES: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}

# The allow-list. `none` and the HMACs, whose key would be public, are not among it.
ALGORITHMS: Final[Mapping[str, Algorithm]] = {
    "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
    "RS384": RSAAlgorithm(RSAAlgorithm.SHA384),
    "RS512": RSAAlgorithm(RSAAlgorithm.SHA512),
    "PS256": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA256),
    "PS384": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA384),
    "PS512": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA512),
    "ES256": ECAlgorithm(ECAlgorithm.SHA256),
    "ES384": ECAlgorithm(ECAlgorithm.SHA384),
    "ES512": ECAlgorithm(ECAlgorithm.SHA512),
    "EdDSA": OKPAlgorithm(),
}


@dataclass(frozen=True, slots=True, eq=False)
class Key:
    """One public key; `kid` is empty where it has no name."""

    kid: str
    algorithms: frozenset[str]
    public: PublicKey

    def signed(self, algorithm: str, content: bytes, signature: bytes) -> bool:
        """Whether *signature* is this key's of *content*, made with *algorithm*."""
        if algorithm not in self.algorithms:
            return False
        return bool(ALGORITHMS[algorithm].verify(content, self.public, signature))


@dataclass(frozen=True, slots=True, eq=False)
class Keys:
    """A key set. `private`: the set that was read gave a private key away, too."""

    keys: tuple[Key, ...]
    private: bool = False

    def fitting(self, kid: str, algorithm: str) -> tuple[Key, ...]:
        """Return the keys that a token which names *kid* may be signed with.

        One that names none may be signed with any; a key without a name is any token's.
        """
        return tuple(
            key
            for key in self.keys
            if algorithm in key.algorithms and (not kid or key.kid in ("", kid))
        )

    def knows(self, kid: str) -> bool:
        """Whether a key of this name is here; of no name, whether any key is."""
        return any(key.kid == kid for key in self.keys) if kid else bool(self.keys)


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where a key set is fetched from; *discover*: first the issuer is asked where it is."""

    uri: str
    discover: bool = False
    timeout: float = 5.0


def _nobody() -> None:
    """Nobody fetches keys."""


@dataclass(slots=True, eq=False)
class KeyRing:
    """Holds the keys that are good now; None before there are any.

    Whoever fetches keys puts them here; `ask` asks for newer ones, as often as one likes.
    """

    source: KeySource | None = None
    keys: Keys | None = None
    ask: Callable[[], None] = _nobody


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
    allowed = frozenset(one for one in algorithms if only in ("", one))
    return Key(kid, allowed, public) if allowed else None


def _public(entry: Mapping[str, object]) -> tuple[tuple[str, ...], PublicKey]:
    """Return what a key may be used with, and the key. Raises ValueError or PyJWT's errors."""
    kind, curve = entry.get("kty"), entry.get("crv")
    if kind == "RSA":
        rsa = RSAAlgorithm.from_jwk(_members(entry, "n", "e"))
        if isinstance(rsa, RSAPublicKey) and rsa.key_size >= _LEAST_RSA_BITS:
            return _RSA, rsa
    elif kind == "EC" and isinstance(curve, str) and curve in _CURVES:
        point = ECAlgorithm.from_jwk(_members(entry, "crv", "x", "y"))
        if isinstance(point, EllipticCurvePublicKey):
            return (_CURVES[curve],), point
    elif kind == "OKP" and curve == "Ed25519":
        edwards = OKPAlgorithm.from_jwk(_members(entry, "crv", "x"))
        if isinstance(edwards, Ed25519PublicKey):
            return ("EdDSA",), edwards
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
