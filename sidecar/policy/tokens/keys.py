"""Public keys that tokens are verified with, and who holds them.

Only signatures by a private key count, so a key is never one that both sides share,
and each key has the algorithms that it may be used with: what a token says of
itself chooses among those and adds none. Where keys come from is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:  # `jwks` loads them, with the first key set that is read
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from jwt.algorithms import Algorithm

LONGEST_JWKS: Final = 262_144  # bytes

PublicKey: TypeAlias = "RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey"

RSA_LIKE: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
# RFC 7518 section 3.4: each algorithm has its own curve.
CURVES: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
EDWARDS: Final = "EdDSA"

# The allow-list. `none` and the HMACs, whose key would be public, are not among it.
ALGORITHMS: Final = frozenset((*RSA_LIKE, *CURVES.values(), EDWARDS))


@dataclass(frozen=True, slots=True, eq=False)
class Key:
    """One public key; `kid` is empty where it has no name."""

    kid: str
    algorithms: Mapping[str, Algorithm]  # by their names
    public: PublicKey

    def signed(self, algorithm: str, content: bytes, signature: bytes) -> bool:
        """Whether *signature* is this key's of *content*, made with *algorithm*."""
        way = self.algorithms.get(algorithm)
        return way is not None and bool(way.verify(content, self.public, signature))


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
