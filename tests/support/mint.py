"""Certificates for tests: good ones, and every kind of wrong one, as PEM files.

    mint = Mint(tmp_path)                       # a CA for `cluster.local`
    alice = mint.leaf("agent/alice")            # Files(cert, key, bundle, ...)
    stale = mint.wrong("expired")               # one of WRONG, by reason
    other = Mint(tmp_path, "other.test")        # a second trust domain
    odd = mint.leaf(uri=["spiffe://a/b"], dns=["localhost"], eku=None)

It knows nothing of `sidecar.ca`, which could not be made to sign these. Keys
are new in each test and nothing outlives the folder.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID as Eku
from cryptography.x509.oid import NameOID

Key: TypeAlias = ec.EllipticCurvePrivateKey
BOTH = (Eku.CLIENT_AUTH, Eku.SERVER_AUTH)
LOCAL = ("localhost", "127.0.0.1", "::1")

# The ways in which a certificate can be wrong that `Mint.wrong` can bring about.
WRONG = (
    "expired",
    "not_yet_valid",
    "two_uri_sans",
    "no_uri_san",
    "other_trust_domain",
    "ca_leaf",
    "wrong_purpose",
    "no_digital_signature",
    "unknown_ca",
    "no_path",
    "not_a_spiffe_id",
    "upper_case",
    "query",
    "dot_segment",
    "client_only",
    "no_usage",
    "cert_sign",
    "crl_sign",
    "names_not_critical",
)
# What each is refused for, where that is another word.
REFUSED_FOR = {
    "no_digital_signature": "wrong_purpose",
    "upper_case": "not_a_spiffe_id",
    "query": "not_a_spiffe_id",
    "dot_segment": "not_a_spiffe_id",
    "client_only": "wrong_purpose",
    "no_usage": "wrong_purpose",
    "cert_sign": "wrong_purpose",
    "crl_sign": "wrong_purpose",
}


@dataclass(frozen=True)
class Files:
    """One identity on disk; `cert` is the leaf and its intermediate, `bundle` this CA's root."""

    cert: Path
    key: Path
    bundle: Path
    leaf: x509.Certificate
    chain: tuple[bytes, ...]  # DER: leaf, intermediate, root

    @property
    def folder(self) -> Path:
        return self.cert.parent


@dataclass(frozen=True)
class Signer:
    """A certificate that signs, its key, and who signed it; a root has nobody above."""

    certificate: x509.Certificate
    key: Key
    above: Signer | None = None

    @property
    def path(self) -> tuple[Signer, ...]:
        """This signer and those above it, the root last."""
        return (self, *(self.above.path if self.above else ()))


class Mint:
    """A CA (root and intermediate) of one trust domain that signs whatever it is asked to."""

    def __init__(
        self, folder: Path, trust_domain: str = "cluster.local", now: float | None = None
    ) -> None:
        self.folder = folder
        self.trust_domain = trust_domain
        self.now = time.time() if now is None else now
        self.root = self.authority(None, uri=[f"spiffe://{trust_domain}"])
        self.intermediate = self.authority(self.root, path_length=0)
        self._count = count(1)

    @property
    def root_pem(self) -> bytes:
        """The trust bundle of this CA."""
        return self.root.certificate.public_bytes(Encoding.PEM)

    @property
    def root_der(self) -> bytes:
        """The root as a bundle holds it."""
        return self.root.certificate.public_bytes(Encoding.DER)

    def leaf(
        self,
        name: str = "agent/alice",
        *,
        uri: Sequence[str] | None = None,
        dns: Sequence[str] = LOCAL,
        ca: bool = False,
        usage: Sequence[str] | None = ("digital_signature",),
        eku: Sequence[x509.ObjectIdentifier] | None = BOTH,
        not_before: float = -60,
        not_after: float = 3600,
        signer: Signer | None = None,
        subject: str | None = "test",
        san_critical: bool = False,
        digest: hashes.HashAlgorithm | None = None,
        key: Key | None = None,
        folder: Path | None = None,
    ) -> Files:
        """Sign a leaf and write `svid.pem`, `svid_key.pem`, `svid_bundle.pem`.

        *name* is `NS/SA`; *uri* names the URI SANs instead. *dns* takes DNS names
        and IP addresses. Times are seconds from now. *usage* and *eku* None leave
        the extension out. *signer* is the intermediate unless given, *digest* SHA-256,
        *key* a new one of P-256.
        """
        namespace, _, account = name.partition("/")
        uris = [f"spiffe://{self.trust_domain}/ns/{namespace}/sa/{account}"] if uri is None else uri
        key = key or ec.generate_private_key(ec.SECP256R1())
        signer = signer or self.intermediate
        builder = self._builder(key, signer, subject, not_before, not_after)
        builder = _with_constraints(builder, ca=ca, path_length=None)
        builder = _with_names(builder, uris, dns, critical=san_critical)
        if usage is not None:
            builder = builder.add_extension(key_usage(*usage), critical=True)
        if eku is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(eku), critical=False)
        leaf = builder.sign(signer.key, digest or hashes.SHA256())
        return self._write(folder or self.folder / f"leaf-{next(self._count)}", leaf, key, signer)

    def wrong(self, reason: str, name: str = "agent/alice") -> Files:
        """Mint a leaf that is wrong in the way *reason*, of `WRONG`; its bundle is this CA's."""
        stranger = f"spiffe://stranger.test/ns/{name.replace('/', '/sa/')}"
        own = f"spiffe://{self.trust_domain}/ns/{name.replace('/', '/sa/')}"
        match reason:
            case "expired":
                return self.leaf(name, not_before=-7200, not_after=-3600)
            case "not_yet_valid":
                return self.leaf(name, not_before=3600, not_after=7200)
            case "two_uri_sans":
                return self.leaf(uri=[own, own + "2"])
            case "no_uri_san":
                return self.leaf(uri=[])
            case "other_trust_domain":
                return self.leaf(uri=[stranger])
            case "ca_leaf":
                return self.leaf(name, ca=True)
            case "wrong_purpose":
                return self.leaf(name, eku=[Eku.SERVER_AUTH])
            case "no_digital_signature":
                return self.leaf(name, usage=["key_encipherment"])
            case "unknown_ca":
                return self.leaf(name, signer=self.authority(self.authority(None)))
            case "no_path":
                return self.leaf(uri=[f"spiffe://{self.trust_domain}"])
            case "not_a_spiffe_id":
                return self.leaf(uri=[own.replace("spiffe", "https")])
            case "upper_case":
                return self.leaf(uri=[own.replace(self.trust_domain, self.trust_domain.upper())])
            case "query":
                return self.leaf(uri=[own + "?as=admin"])
            case "dot_segment":
                return self.leaf(uri=[own + "/../admin"])
            case "client_only":
                return self.leaf(name, eku=[Eku.CLIENT_AUTH])
            case "no_usage":
                return self.leaf(name, usage=None)
            case "cert_sign":
                return self.leaf(name, usage=["digital_signature", "key_cert_sign"])
            case "crl_sign":
                return self.leaf(name, usage=["digital_signature", "crl_sign"])
            case "names_not_critical":
                return self.leaf(name, subject=None)
        raise AssertionError(f"no such fault: {reason}")

    def authority(
        self,
        parent: Signer | None,
        *,
        uri: Sequence[str] = (),
        ca: bool = True,
        usage: Sequence[str] | None = ("key_cert_sign", "crl_sign"),
        path_length: int | None = None,
        not_before: float = -3600,
        not_after: float = 86400,
        extension: x509.ExtensionType | None = None,
    ) -> Signer:
        """Make a CA below *parent*, or a root where that is None; *extension* goes in critical."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = f"test CA {x509.random_serial_number():x}"
        builder = self._builder(key, parent, subject, not_before, not_after)
        builder = _with_constraints(builder, ca=ca, path_length=path_length)
        builder = _with_names(builder, uri, (), critical=False)
        if usage is not None:
            builder = builder.add_extension(key_usage(*usage), critical=True)
        if extension is not None:
            builder = builder.add_extension(extension, critical=True)
        return Signer(builder.sign(parent.key if parent else key, hashes.SHA256()), key, parent)

    def _builder(
        self,
        key: Key,
        signer: Signer | None,
        subject: str | None,
        not_before: float,
        not_after: float,
    ) -> x509.CertificateBuilder:
        own = _name(subject)
        issuer_key = signer.key if signer else key
        return (
            x509.CertificateBuilder()
            .subject_name(own)
            .issuer_name(signer.certificate.subject if signer else own)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_moment(self.now + not_before))
            .not_valid_after(_moment(self.now + not_after))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False
            )
        )

    def _write(self, folder: Path, leaf: x509.Certificate, key: Key, signer: Signer) -> Files:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        chain = [leaf, *(one.certificate for one in signer.path)]
        files = Files(
            cert=folder / "svid.pem",
            key=folder / "svid_key.pem",
            bundle=folder / "svid_bundle.pem",
            leaf=leaf,
            chain=tuple(one.public_bytes(Encoding.DER) for one in chain),
        )
        files.cert.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in chain[:-1]))
        files.bundle.write_bytes(self.root_pem)
        files.key.touch(mode=0o600)
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        for public in (files.cert, files.bundle):
            public.chmod(0o644)
        return files


def key_usage(*on: str) -> x509.KeyUsage:
    """Return the extension with the usages *on*, such as `digital_signature`, and no other."""
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: name in on for name in names})


def _with_constraints(
    builder: x509.CertificateBuilder, *, ca: bool, path_length: int | None
) -> x509.CertificateBuilder:
    return builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)


def _with_names(
    builder: x509.CertificateBuilder, uris: Sequence[str], dns: Sequence[str], *, critical: bool
) -> x509.CertificateBuilder:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
    names += [_host(text) for text in dns]
    if not names:
        return builder
    return builder.add_extension(x509.SubjectAlternativeName(names), critical=critical)


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _name(common_name: str | None) -> x509.Name:
    if common_name is None:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
