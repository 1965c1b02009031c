"""A throw-away CA and the three identities of a race.

One root and one intermediate sign the proxy's certificate, the caller's, and a
stranger's, shaped as X.509-SVIDs. The subject repeats the SPIFFE ID, because
nginx can read a subject but no URI name. All keys are P-256, written 0600.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from race import payload

_LIFETIME = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Identity:
    """The files of one identity: its chain, its key, both in one, and the trusted root."""

    chain: Path
    key: Path
    both: Path
    bundle: Path


@dataclass(frozen=True, slots=True)
class Identities:
    """Who takes part in a race."""

    server: Identity
    agent: Identity
    stranger: Identity


@dataclass(frozen=True, slots=True)
class _Signer:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def mint(folder: Path) -> Identities:
    """Make the CA in memory and write the identities below *folder*."""
    root = _authority("race root", None, pathlen=1)
    intermediate = _authority("race intermediate", root, pathlen=0)

    def identity(name: str, spiffe_id: str) -> Identity:
        return _write(folder / name, spiffe_id, intermediate, root)

    return Identities(
        server=identity("mcp-prod/files", payload.SERVER),
        agent=identity("agent-prod/agent-gateway", payload.AGENT),
        stranger=identity("agent-prod/visitor", payload.STRANGER),
    )


def _authority(name: str, parent: _Signer | None, *, pathlen: int) -> _Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(name, key, parent)
        .add_extension(x509.BasicConstraints(ca=True, path_length=pathlen), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    return _Signer(builder.sign(parent.key if parent else key, hashes.SHA256()), key)


def _builder(
    name: str, key: ec.EllipticCurvePrivateKey, parent: _Signer | None
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = parent.key if parent else key
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(parent.certificate.subject if parent else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
            critical=False,
        )
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _leaf(spiffe_id: str, key: ec.EllipticCurvePrivateKey, by: _Signer) -> x509.Certificate:
    names = [
        x509.UniformResourceIdentifier(spiffe_id),
        x509.DNSName("localhost"),
        x509.IPAddress(IPv4Address("127.0.0.1")),
    ]
    both_ends = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        _builder(spiffe_id, key, by)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both_ends), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return builder.sign(by.key, hashes.SHA256())


def _write(folder: Path, spiffe_id: str, by: _Signer, root: _Signer) -> Identity:
    folder.mkdir(parents=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    chain_pem = _pem(_leaf(spiffe_id, key, by)) + _pem(by.certificate)
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Identity(
        chain=_file(folder / "svid.pem", chain_pem),
        key=_file(folder / "svid_key.pem", key_pem),
        both=_file(folder / "svid_and_key.pem", chain_pem + key_pem),
        bundle=_file(folder / "svid_bundle.pem", _pem(root.certificate)),
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _file(path: Path, content: bytes) -> Path:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return path
