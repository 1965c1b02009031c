"""The facts of one X.509 certificate that identity rests on, read once from DER.

Every fault of its bytes is an `IdentityError` with the reason `malformed`, so
that nothing above meets an exception of the parser. It holds what is written
in the certificate; of the judging it does what is common to every certificate.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from ..errors import IdentityError
from .id import SCHEME, SpiffeId

MAX_CERTIFICATE: Final = 64 * 1024  # bytes of DER; an SVID has about 700

CLIENT_AUTH: Final = ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string
SERVER_AUTH: Final = ExtendedKeyUsageOID.SERVER_AUTH.dotted_string

_USAGES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)

_STRONG_HASHES: Final = frozenset({"sha256", "sha384", "sha512"})
_MIN_RSA_BITS: Final = 2048
_MIN_EC_BITS: Final = 256

# What the library raises for bytes that it does not take, at once or when they are looked at.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)

_E = TypeVar("_E", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """What one certificate says; `usage` and `purposes` are None where it does not say.

    `usage` holds names such as `digital_signature`, `purposes` dotted OIDs,
    times are seconds since the epoch, `opened` is the library's own object.
    """

    opened: x509.Certificate
    uris: tuple[str, ...]
    alternative_names_critical: bool
    ca: bool
    path_length: int | None
    usage: frozenset[str] | None
    purposes: frozenset[str] | None
    not_before: float
    not_after: float

    @classmethod
    def from_der(cls, der: bytes) -> Certificate:
        """Read one certificate; IdentityError `malformed` if its bytes are not one."""
        if len(der) > MAX_CERTIFICATE:
            raise IdentityError("malformed", f"a certificate is over {MAX_CERTIFICATE} bytes")
        try:
            return cls.of(x509.load_der_x509_certificate(der))
        except UNREADABLE as error:
            raise IdentityError("malformed", f"a certificate cannot be read: {error}") from None

    @classmethod
    def from_pem(cls, pem: bytes) -> Certificate:
        """Read the first certificate in *pem*; IdentityError `malformed` if there is none."""
        return cls.all_from_pem(pem)[0]

    @classmethod
    def all_from_pem(cls, pem: bytes) -> list[Certificate]:
        """Read every certificate in *pem*, at least one; IdentityError `malformed`."""
        try:
            return [cls.of(one) for one in x509.load_pem_x509_certificates(pem)]
        except UNREADABLE as error:
            raise IdentityError("malformed", f"no PEM certificate can be read: {error}") from None

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Certificate:
        """Take the facts from a certificate that the library has opened."""
        try:
            return _read(certificate)
        except UNREADABLE as error:
            raise IdentityError("malformed", f"a certificate cannot be read: {error}") from None

    @property
    def der(self) -> bytes:
        """The bytes it was read from."""
        return self.opened.public_bytes(Encoding.DER)

    @property
    def sha256(self) -> str:
        """The fingerprint: lower-case hex of SHA-256 over the DER."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def signed_sha256(self) -> str:
        """The SHA-256 of what its signer signed, which nobody else can write in another way.

        The fingerprint is no name for somebody who must not come back: of one signature
        there are several encodings, and whoever shows the certificate chooses one.
        """
        return hashlib.sha256(self.opened.tbs_certificate_bytes).hexdigest()

    def check_time(self, now: float) -> None:
        """Raise IdentityError `expired` or `not_yet_valid` unless it holds at *now*."""
        if now > self.not_after:
            raise IdentityError("expired", "the certificate has expired")
        if now < self.not_before:
            raise IdentityError("not_yet_valid", "the certificate is not valid yet")

    def check_key(self) -> None:
        """Raise IdentityError `weak_key` unless its key is one that TLS 1.3 may rest on."""
        try:
            key = self.opened.public_key()
        except (ValueError, UnsupportedAlgorithm) as error:
            raise IdentityError(
                "weak_key", f"a certificate's key cannot be used: {error}"
            ) from None
        good = (
            (isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS)
            or (isinstance(key, ec.EllipticCurvePublicKey) and key.key_size >= _MIN_EC_BITS)
            or isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey)
        )
        if not good:
            raise IdentityError("weak_key", "a certificate's key is too short, or of a kind unused")

    def check_signature_hash(self) -> None:
        """Raise IdentityError `weak_signature` unless it is signed with a hash that holds."""
        try:
            digest = self.opened.signature_hash_algorithm
        except UnsupportedAlgorithm as error:
            raise IdentityError("weak_signature", f"a certificate: {error}") from None
        if digest is not None and digest.name not in _STRONG_HASHES:
            raise IdentityError("weak_signature", f"a certificate is signed with {digest.name}")

    def check_authority(self) -> None:
        """Raise IdentityError unless it may sign SVIDs (X509-SVID sections 3.2, 4.1, 4.3)."""
        if not self.ca:
            raise IdentityError("not_a_ca", "a signing certificate lacks the CA flag")
        if "key_cert_sign" not in (self.usage or ()):
            raise IdentityError("not_a_ca", "a signing certificate lacks the usage keyCertSign")
        if len(self.uris) > 1:
            raise IdentityError("two_uri_sans", "a signing certificate has several URI SANs")
        for uri in self.uris:
            if uri.startswith(SCHEME) and SpiffeId.parse(uri).path:
                # Else the CA's certificate could act as the workload of that name.
                raise IdentityError("ca_path", "a signing certificate's SPIFFE ID has a path")


def _read(certificate: x509.Certificate) -> Certificate:
    names = _extension(certificate, x509.SubjectAlternativeName)
    constraints = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.KeyUsage)
    purposes = _extension(certificate, x509.ExtendedKeyUsage)
    certificate.subject, certificate.issuer  # noqa: B018 - read when they are looked at
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier) if names else []
    return Certificate(
        opened=certificate,
        uris=tuple(uris),
        alternative_names_critical=bool(names and names.critical),
        ca=bool(constraints and constraints.value.ca),
        path_length=constraints.value.path_length if constraints else None,
        usage=frozenset(u for u in _USAGES if getattr(usage.value, u)) if usage else None,
        purposes=frozenset(p.dotted_string for p in purposes.value) if purposes else None,
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
    )


def _extension(certificate: x509.Certificate, kind: type[_E]) -> x509.Extension[_E] | None:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None
