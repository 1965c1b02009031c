"""Whom to believe: the roots of each trust domain, and never those of two as one.

A `TrustBundle` holds only certificates that may sign; `Bundles` has at most one
bundle a trust domain and does not merge. Reading is bounded. Nothing here knows
where a bundle comes from or how old it is.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain
from typing import Any, Final, TypeAlias

import jiter

from ..errors import IdentityError
from .certificate import Certificate
from .id import parse_trust_domain

MAX_BUNDLE: Final = 1024 * 1024  # bytes as written
MAX_ROOTS: Final = 100

_KEY_TYPES: Final = ("EC", "RSA", "OKP")
_SVID_USE: Final = "x509-svid"

Jwk: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """The roots of one trust domain, as DER; none at all means that nothing is believed.

    `sequence` and `refresh_hint` (seconds) are those of a SPIFFE bundle document.
    """

    trust_domain: str
    roots: frozenset[bytes]
    sequence: int | None = None
    refresh_hint: float | None = None

    @property
    def fingerprints(self) -> frozenset[str]:
        """The SHA-256 of every root, in hex."""
        return frozenset(sha256(root).hexdigest() for root in self.roots)

    @classmethod
    def from_pem(cls, data: bytes, trust_domain: str) -> TrustBundle:
        """Read PEM certificates as the roots of *trust_domain*; at least one must be there."""
        _check_size(data)
        if b"PRIVATE KEY" in data:
            raise IdentityError(
                "private_key", "a trust bundle holds a private key: keep only certificates in it"
            )
        return cls._of(trust_domain, Certificate.all_from_pem(data))

    @classmethod
    def from_spiffe(cls, data: bytes, trust_domain: str) -> TrustBundle:
        """Read a SPIFFE bundle document: a JWK set (Trust Domain and Bundle section 4).

        Entries for another use, of an unknown key type or without a certificate
        are passed over; a certificate that cannot sign or be read is an error.
        """
        document = _parse_object(data)
        entries = document.get("keys")
        if not isinstance(entries, list):
            raise IdentityError("malformed", "a SPIFFE bundle has no array `keys`")
        return cls._of(
            trust_domain,
            chain.from_iterable(_authority_of(entry) for entry in entries),
            sequence=_whole(document, "spiffe_sequence"),
            refresh_hint=_whole(document, "spiffe_refresh_hint"),
        )

    @classmethod
    def _of(
        cls,
        trust_domain: str,
        certificates: Iterable[Certificate],
        *,
        sequence: int | None = None,
        refresh_hint: int | None = None,
    ) -> TrustBundle:
        roots = set()
        for certificate in certificates:
            certificate.check_authority()
            roots.add(certificate.der)
            if len(roots) > MAX_ROOTS:
                raise IdentityError("too_large", f"a trust bundle has over {MAX_ROOTS} roots")
        return cls(parse_trust_domain(trust_domain), frozenset(roots), sequence, refresh_hint)


@dataclass(frozen=True, slots=True)
class Bundles:
    """The bundles this program believes, one for each trust domain."""

    _by_domain: Mapping[str, TrustBundle] = field(default_factory=dict)

    @classmethod
    def of(cls, bundles: Iterable[TrustBundle]) -> Bundles:
        """Put *bundles* side by side; two for one trust domain are an error."""
        by_domain: dict[str, TrustBundle] = {}
        for bundle in bundles:
            if bundle.trust_domain in by_domain:
                raise IdentityError(
                    "two_bundles",
                    f"the trust domain `{bundle.trust_domain}` has two bundles: "
                    "they are never merged, so put its roots into one",
                )
            by_domain[bundle.trust_domain] = bundle
        return cls(by_domain)

    def bundle_of(self, trust_domain: str) -> TrustBundle | None:
        """Return the bundle of *trust_domain*, or None if there is none."""
        return self._by_domain.get(trust_domain)

    def homes_of(self, root: bytes) -> list[str]:
        """Return the trust domains whose bundle holds *root* (DER)."""
        return [name for name, bundle in self._by_domain.items() if root in bundle.roots]

    @property
    def trust_domains(self) -> tuple[str, ...]:
        """The trust domains that have a bundle, in the order they were given."""
        return tuple(self._by_domain)

    @property
    def roots(self) -> frozenset[bytes]:
        """Every root of every bundle as DER, for a path check that cannot tell them apart.

        INVARIANT: whoever uses it must afterwards ask `svid.verify`, which can.
        """
        return frozenset().union(*(bundle.roots for bundle in self._by_domain.values()))


def _check_size(data: bytes) -> None:
    if len(data) > MAX_BUNDLE:
        raise IdentityError("too_large", f"a trust bundle is over {MAX_BUNDLE} bytes")


def _parse_object(data: bytes) -> Mapping[str, Any]:
    _check_size(data)
    try:
        document = jiter.from_json(data, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as error:
        raise IdentityError("malformed", f"a SPIFFE bundle is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise IdentityError("malformed", "a SPIFFE bundle is not a JSON object")
    return document


def _authority_of(entry: Any) -> Iterable[Certificate]:
    """Yield the certificate of one JWK if it is an X.509 authority (X509-SVID section 6.2)."""
    if not isinstance(entry, dict):
        raise IdentityError("malformed", "a SPIFFE bundle has a key that is not an object")
    if entry.get("use") != _SVID_USE or entry.get("kty") not in _KEY_TYPES:
        return
    certificates = entry.get("x5c")
    if certificates is None or certificates == []:
        return
    if not isinstance(certificates, list):
        raise IdentityError("malformed", "a SPIFFE bundle has an `x5c` that is no array")
    # Only the first counts: the rest would be a path, which is not trusted for itself.
    yield Certificate.from_der(_base64(certificates[0]))


def _base64(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise IdentityError("malformed", "a SPIFFE bundle has an `x5c` not in base64") from None


def _whole(document: Mapping[str, Any], name: str) -> int | None:
    value = document.get(name)
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise IdentityError("malformed", f"`{name}` of a SPIFFE bundle is not a whole number")
    return value
