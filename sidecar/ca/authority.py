"""What the CA signs, and how each kind of certificate is made. Pure.

Keys, the time and the entropy of serials are handed in; nothing is read or
written. Every SVID made here passes `spiffe.svid.verify_path`. Of a signing
request only the public key is taken: the CA alone says who somebody is.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..errors import IdentityError
from ..spiffe.certificate import UNREADABLE, Certificate
from ..spiffe.id import SpiffeId

PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

SERIAL_BYTES: Final = 16  # 128 bits: two are never the same
BACKDATE: Final = 60.0  # seconds: a clock may lag behind the CA's by this much
CA_LIFE: Final = 3650 * 86400.0
MAX_TTL: Final = 90 * 86400.0
MIN_CA_TTL: Final = 60.0
MAX_CA_TTL: Final = 36500 * 86400.0
MAX_NAMES: Final = 64
MAX_HOST: Final = 253
MIN_RSA_BITS: Final = 2048
MAX_REQUEST: Final = 16 * 1024  # bytes of a signing request

_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")


@dataclass(frozen=True, slots=True)
class Issuer:
    """A certificate that signs, opened, with its private key."""

    certificate: Certificate
    key: PrivateKey


@dataclass(frozen=True, slots=True)
class Span:
    """When a certificate holds, in seconds since the epoch; whole seconds when signed."""

    not_before: float
    not_after: float

    @classmethod
    def of(cls, now: float, ttl: float, end: float = float("inf")) -> Span:
        """Return from a minute before *now* to *ttl* seconds after it, but not past *end*."""
        return cls(now - BACKDATE, min(now + ttl, end))


def make_root(
    trust_domain: str, key: PrivateKey, *, span: Span, entropy: bytes
) -> x509.Certificate:
    """Sign the root of *trust_domain* with its own *key*."""
    name = _name("root", key.public_key())
    builder = _builder(name, name, key.public_key(), span, entropy)
    builder = _as_authority(builder, trust_domain, key.public_key(), path_length=1)
    return builder.sign(key, hashes.SHA256())


def make_intermediate(
    root: Issuer, public_key: PublicKey, *, span: Span, entropy: bytes
) -> x509.Certificate:
    """Sign the CA that issues: nothing but workloads may stand below it (path length 0)."""
    trust_domain = trust_domain_of(root.certificate)
    builder = _builder(
        root.certificate.opened.subject,
        _name("intermediate", public_key),
        public_key,
        span,
        entropy,
    )
    builder = _as_authority(builder, trust_domain, root.key.public_key(), path_length=0)
    return builder.sign(root.key, hashes.SHA256())


def sign_leaf(
    issuer: Issuer,
    public_key: PublicKey,
    identity: SpiffeId,
    *,
    names: Sequence[x509.GeneralName] = (),
    span: Span,
    entropy: bytes,
) -> x509.Certificate:
    """Sign an SVID that proves *identity*; *names* are for clients that ask for a host."""
    trust_domain = trust_domain_of(issuer.certificate)
    if identity.trust_domain != trust_domain:
        raise IdentityError(
            "other_trust_domain",
            f"`{identity}` is not of this CA's trust domain, which is `{trust_domain}`",
        )
    if not identity.path:
        raise IdentityError("no_path", f"`{identity}` names a trust domain, not a workload")
    if len(names) > MAX_NAMES:
        raise IdentityError("too_large", f"a certificate may have {MAX_NAMES} host names at most")
    builder = _builder(issuer.certificate.opened.subject, _SUBJECT, public_key, span, entropy)
    builder = _as_workload(builder, identity, names, issuer.key.public_key())
    return builder.sign(issuer.key, hashes.SHA256())


def check_ttl(ttl: float) -> None:
    """Raise IdentityError `ttl` unless a workload's certificate may hold *ttl* seconds."""
    if not 1 <= ttl <= MAX_TTL:
        raise IdentityError("ttl", f"a lifetime is from 1 s to {MAX_TTL / 86400:.0f} days")


def check_ca_ttl(ttl: float) -> None:
    """Raise IdentityError `ttl` unless a CA's certificate may hold *ttl* seconds."""
    if not MIN_CA_TTL <= ttl <= MAX_CA_TTL:
        longest = f"{MAX_CA_TTL / 86400:.0f} days"
        raise IdentityError("ttl", f"a CA's lifetime is from {MIN_CA_TTL:.0f} s to {longest}")


def trust_domain_of(certificate: Certificate) -> str:
    """Return the trust domain that a CA's certificate was made for."""
    if len(certificate.uris) != 1:
        raise IdentityError("no_uri_san", "the CA's certificate does not name a trust domain")
    return SpiffeId.parse(certificate.uris[0]).trust_domain


def public_key_of(request: bytes) -> PublicKey:
    """Return the public key of a PEM signing request whose sender holds the private key.

    Nothing else that is asked for in it counts. IdentityError `malformed` or `weak_key`.
    """
    if len(request) > MAX_REQUEST:
        raise IdentityError("malformed", f"the signing request is over {MAX_REQUEST} bytes")
    try:
        opened = x509.load_pem_x509_csr(request)
        proved = opened.is_signature_valid
        key = opened.public_key()
    except UNREADABLE as error:
        raise IdentityError("malformed", f"the signing request cannot be read: {error}") from None
    if not proved:
        raise IdentityError("malformed", "the signing request is not signed with its own key")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(
        key.curve, ec.SECP256R1 | ec.SECP384R1
    ):
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    raise IdentityError(
        "weak_key", f"the key must be P-256, P-384, Ed25519, or RSA of {MIN_RSA_BITS} bits or more"
    )


def host_name(text: str) -> x509.GeneralName:
    """Read a DNS name or an IP address for a certificate; IdentityError `host_name` if neither."""
    if "%" not in text:  # a scope such as `%eth0` means nothing to another machine
        try:
            return x509.IPAddress(ipaddress.ip_address(text))
        except ValueError:
            pass
    labels = text.lower().split(".")
    proper = all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit()
    if len(text) > MAX_HOST or not proper:
        raise IdentityError("host_name", f"{text[:80]!a} is neither a DNS name nor an IP address")
    return x509.DNSName(".".join(labels))


_SUBJECT: Final = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "sidecar")])


def _name(kind: str, key: PublicKey) -> x509.Name:
    # Two CAs must not share a name: a verifier that holds both would confuse them.
    mark = x509.SubjectKeyIdentifier.from_public_key(key).digest.hex()[:12]
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "sidecar"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"sidecar {kind} {mark}"),
        ]
    )


def _builder(
    issuer: x509.Name, subject: x509.Name, key: PublicKey, span: Span, entropy: bytes
) -> x509.CertificateBuilder:
    serial = int.from_bytes(entropy, "big")
    if len(entropy) != SERIAL_BYTES or not serial:
        raise ValueError(f"a serial is made of {SERIAL_BYTES} random bytes")
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(_moment(span.not_before))
        .not_valid_after(_moment(span.not_after))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _as_authority(
    builder: x509.CertificateBuilder, trust_domain: str, signer: PublicKey, *, path_length: int
) -> x509.CertificateBuilder:
    uri = x509.UniformResourceIdentifier(str(SpiffeId(trust_domain, "")))
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _as_workload(
    builder: x509.CertificateBuilder,
    identity: SpiffeId,
    names: Sequence[x509.GeneralName],
    signer: PublicKey,
) -> x509.CertificateBuilder:
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    uri = x509.UniformResourceIdentifier(str(identity))
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName([uri, *names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _moment(seconds: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(seconds))
