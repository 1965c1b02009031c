"""Whether a certificate chain proves a SPIFFE ID, and which.

`verify` judges a chain whose path OpenSSL has already checked, at the
handshake; `verify_path` checks the path too, for files and for tools. Both are
told the time, do no I/O, and refuse with an `IdentityError` whose reason is one
of `REASONS`. Revocation is asked elsewhere, on every request.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtensionOID

from ..errors import IdentityError
from .bundle import Bundles, TrustBundle
from .certificate import CLIENT_AUTH, SERVER_AUTH, UNREADABLE, Certificate
from .id import SpiffeId

MAX_CHAIN: Final = 8  # certificates, leaf and root included

# Every word that a refusal of this module may carry: a bounded label.
REASONS: Final = frozenset(
    {
        "no_certificate",
        "malformed",
        "ca_leaf",
        "wrong_purpose",
        "no_uri_san",
        "two_uri_sans",
        "not_a_spiffe_id",
        "no_path",
        "names_not_critical",
        "expired",
        "not_yet_valid",
        "unknown_ca",
        "other_trust_domain",
        "chain_too_long",
        "not_a_ca",
        "ca_path",
        "weak_key",
        "weak_signature",
        "critical_extension",
    }
)

_KNOWN_EXTENSIONS: Final = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)


@dataclass(frozen=True, slots=True)
class X509Svid:
    """A verified identity document; times are seconds since the epoch, `sha256` is hex.

    `signers` name the certificates above it, as `signers_of` does, where the path was told.
    """

    id: SpiffeId
    not_before: float
    not_after: float
    serial: int
    sha256: str
    signers: tuple[str, ...] = ()

    def renewal_time(self, spread: float, backdated: float = 0.0) -> float:
        """Return when to renew: half-way, moved by up to a tenth; *spread* is from -1 to 1.

        The spread keeps many sidecars that began together from asking together. Seconds
        by which the start was put back do not count.
        """
        life = self.not_after - self.not_before - backdated
        return self.not_after - life / 2 * (1 + spread / 10)


def verify(chain: Sequence[bytes], bundles: Bundles, now: float) -> X509Svid:
    """Judge a chain in DER, leaf first and root last, whose path has been checked.

    Checked here: the leaf's rules and times, what the signers between it and the
    root must be beyond RFC 5280, and that the chain ends in the bundle of the
    SVID's own trust domain (X509-SVID sections 3.2 and 5).
    """
    leaf, svid = _leaf(chain, now)
    bundle = _bundle_of(svid.id, bundles)
    if chain[-1] not in bundle.roots:
        raise _stray(bundle, bundles.homes_of(chain[-1]))
    _check_sound(leaf)
    for der in chain[1:-1]:
        signer = Certificate.from_der(der)
        signer.check_authority()
        _check_sound(signer)
    return replace(svid, signers=signers_of(chain))


def signers_of(chain: Sequence[bytes]) -> tuple[str, ...]:
    """Return by what a deny list may name those who stand above the leaf of *chain* (DER).

    Of each the SHA-256 of what was signed, and its fingerprint; the root's is the last.
    """
    return tuple(
        name
        for der in chain[1:]
        for name in (Certificate.from_der(der).signed_sha256, sha256(der).hexdigest())
    )


def verify_path(chain: Sequence[bytes], bundles: Bundles, now: float) -> X509Svid:
    """Judge a leaf and the intermediates sent with it, in DER and leaf first.

    Checked as well: signatures, times, CA flags and path lengths up to a root of
    the SVID's own trust domain. Any critical extension that is not understood,
    name constraints among them, is a refusal.
    """
    leaf, svid = _leaf(chain, now)
    bundle = _bundle_of(svid.id, bundles)
    offered = [Certificate.from_der(der) for der in chain[1:]]
    fault = _climb(leaf, offered, bundle.roots, now)
    if fault is None:
        return svid
    if fault.reason == "unknown_ca":
        homes = [
            name
            for name in bundles.trust_domains
            if _climb(leaf, offered, _roots(bundles, name), now) is None
        ]
        raise _stray(bundle, homes)
    raise fault


def check_leaf(leaf: Certificate) -> SpiffeId:
    """Return the SPIFFE ID of *leaf*, or refuse (X509-SVID sections 2, 3.1, 4 and 5.2)."""
    if leaf.ca:
        raise IdentityError("ca_leaf", "the certificate is a CA's: it proves no workload")
    identity = _identity_of(leaf)
    _check_usage(leaf.usage or frozenset())
    if leaf.purposes is not None and not {CLIENT_AUTH, SERVER_AUTH} <= leaf.purposes:
        raise IdentityError(
            "wrong_purpose",
            "the extended key usage must allow both client and server, or be absent",
        )
    if not leaf.alternative_names_critical and not leaf.opened.subject.rdns:
        raise IdentityError(
            "names_not_critical", "the subject is empty, so the alternative names must be critical"
        )
    return identity


def _leaf(chain: Sequence[bytes], now: float) -> tuple[Certificate, X509Svid]:
    if not chain:
        raise IdentityError("no_certificate", "there is no certificate")
    if len(chain) > MAX_CHAIN:
        raise IdentityError("chain_too_long", f"the chain has over {MAX_CHAIN} certificates")
    leaf = Certificate.from_der(chain[0])
    identity = check_leaf(leaf)
    leaf.check_time(now)
    return leaf, X509Svid(
        identity, leaf.not_before, leaf.not_after, leaf.opened.serial_number, leaf.sha256
    )


def _identity_of(leaf: Certificate) -> SpiffeId:
    if not leaf.uris:
        raise IdentityError("no_uri_san", "the certificate has no URI SAN")
    if len(leaf.uris) > 1:
        raise IdentityError("two_uri_sans", "the certificate has more than one URI SAN")
    try:
        identity = SpiffeId.parse(leaf.uris[0])
    except IdentityError as error:
        raise IdentityError("not_a_spiffe_id", f"the URI SAN is no SPIFFE ID: {error}") from None
    if not identity.path:
        raise IdentityError("no_path", f"`{identity}` names a trust domain, not a workload")
    return identity


def _check_usage(usage: frozenset[str]) -> None:
    if "digital_signature" not in usage:
        raise IdentityError("wrong_purpose", "the key usage digitalSignature is missing")
    if usage & {"key_cert_sign", "crl_sign"}:
        raise IdentityError("wrong_purpose", "a workload's key usage has keyCertSign or cRLSign")


def _bundle_of(identity: SpiffeId, bundles: Bundles) -> TrustBundle:
    bundle = bundles.bundle_of(identity.trust_domain)
    if bundle is None:
        raise IdentityError(
            "other_trust_domain", f"no bundle for the trust domain `{identity.trust_domain}`"
        )
    return bundle


def _roots(bundles: Bundles, trust_domain: str) -> Iterable[bytes]:
    bundle = bundles.bundle_of(trust_domain)
    return bundle.roots if bundle else ()


def _stray(bundle: TrustBundle, homes: Sequence[str]) -> IdentityError:
    """Say where a chain ends that does not end in *bundle*: in *homes*, or nowhere known."""
    if homes:
        return IdentityError(
            "other_trust_domain",
            f"an identity of `{bundle.trust_domain}` is signed by the CA of `{homes[0]}`",
        )
    return IdentityError(
        "unknown_ca", f"the chain ends at no root of the trust domain `{bundle.trust_domain}`"
    )


def _climb(
    leaf: Certificate, offered: Sequence[Certificate], roots: Iterable[bytes], now: float
) -> IdentityError | None:
    """Look for a path from *leaf* to a root; return None, or the best reason there is none.

    Breadth first, each offered certificate used once and at its least depth, so
    that the work is bounded whatever a peer offers.
    """
    trusted = [Certificate.from_der(root) for root in roots]
    rest, level = list(offered), [leaf]
    faults: list[IdentityError] = []
    for depth in range(MAX_CHAIN - 1):  # the leaf and the root count, too
        if any(_issuers(child, trusted, depth, now, faults) for child in level):
            return None
        level = [one for child in level for one in _issuers(child, rest, depth, now, faults)]
        rest = [one for one in rest if one not in level]
    return faults[0] if faults else IdentityError("unknown_ca", "no path leads to a known root")


def _issuers(
    child: Certificate,
    candidates: Sequence[Certificate],
    depth: int,
    now: float,
    faults: list[IdentityError],
) -> list[Certificate]:
    """Return who of *candidates* stands above *child*, with *depth* CAs between it and the leaf.

    A candidate that signed it and may not have leaves its fault in *faults*.
    """
    found = []
    for candidate in candidates:
        if not _signed(child, candidate):
            continue
        try:
            _check_link(candidate, child, depth, now)
        except IdentityError as error:
            faults.append(error)
        else:
            found.append(candidate)
    return found


def _signed(child: Certificate, issuer: Certificate) -> bool:
    try:
        child.opened.verify_directly_issued_by(issuer.opened)
    except (*UNREADABLE, InvalidSignature):
        return False
    return True


def _check_link(issuer: Certificate, child: Certificate, depth: int, now: float) -> None:
    issuer.check_authority()
    issuer.check_time(now)
    if issuer.path_length is not None and issuer.path_length < depth:
        raise IdentityError("chain_too_long", "a CA's path length allows no further CA below it")
    _check_sound(child)
    _check_understood(issuer.opened)
    issuer.check_key()


def _check_sound(certificate: Certificate) -> None:
    """Check what may be wrong with any certificate that somebody else signed."""
    _check_understood(certificate.opened)
    certificate.check_signature_hash()
    certificate.check_key()


def _check_understood(certificate: x509.Certificate) -> None:
    for extension in certificate.extensions:
        constrains = extension.oid == ExtensionOID.NAME_CONSTRAINTS
        if constrains or (extension.critical and extension.oid not in _KNOWN_EXTENSIONS):
            raise IdentityError(
                "critical_extension",
                f"a certificate has the extension {extension.oid.dotted_string}, "
                "which is not understood here",
            )
