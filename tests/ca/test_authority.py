"""What the CA signs, and what it refuses to."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from sidecar.ca.authority import (
    MAX_NAMES,
    MAX_REQUEST,
    Issuer,
    Span,
    host_name,
    make_intermediate,
    make_root,
    public_key_of,
    sign_leaf,
)
from sidecar.errors import IdentityError
from sidecar.spiffe.bundle import Bundles, TrustBundle
from sidecar.spiffe.certificate import Certificate
from sidecar.spiffe.id import SpiffeId
from sidecar.spiffe.svid import verify_path

NOW = 1_790_000_000.5
ALICE = SpiffeId.of_short("agent/alice")
ENTROPY = bytes(range(16))


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


class Ca:
    """A root and an intermediate of `cluster.local`, made at NOW for an hour."""

    def __init__(self) -> None:
        self.span = Span.of(NOW, 3600)
        key, below = new_key(), new_key()
        root = make_root("cluster.local", key, span=self.span, entropy=ENTROPY)
        self.root = Issuer(Certificate.of(root), key)
        intermediate = make_intermediate(
            self.root, below.public_key(), span=self.span, entropy=ENTROPY
        )
        self.issuer = Issuer(Certificate.of(intermediate), below)

    def sign(self, identity: SpiffeId = ALICE, **more: Any) -> x509.Certificate:
        more = {"span": self.span, "entropy": ENTROPY} | more
        return sign_leaf(self.issuer, new_key().public_key(), identity, **more)

    def prove(self, leaf: x509.Certificate, now: float = NOW) -> SpiffeId:
        bundle = TrustBundle("cluster.local", frozenset({self.root.certificate.der}))
        chain = (leaf.public_bytes(Encoding.DER), self.issuer.certificate.der)
        return verify_path(chain, Bundles.of([bundle]), now).id


@pytest.fixture(scope="module")
def ca() -> Ca:
    return Ca()


def reason_of(function: Any, *args: Any, **more: Any) -> str:
    with pytest.raises(IdentityError) as raised:
        function(*args, **more)
    return raised.value.reason


def test_a_leaf_proves_the_identity_it_was_signed_for(ca: Ca) -> None:
    assert ca.prove(ca.sign()) == ALICE


def test_a_leaf_begins_a_minute_early_and_ends_when_asked(ca: Ca) -> None:
    leaf = Certificate.of(ca.sign(span=Span.of(NOW, 90)))
    assert (leaf.not_before, leaf.not_after) == (int(NOW) - 60, int(NOW) + 90)


def test_a_span_does_not_go_past_its_end() -> None:
    assert Span.of(100, 3600, end=200) == Span(40, 200)


def test_the_serial_is_the_entropy_it_is_given(ca: Ca) -> None:
    assert ca.sign(entropy=b"\xff" * 16).serial_number == 2**128 - 1


@pytest.mark.parametrize("entropy", [b"", b"\1" * 15, b"\1" * 17, b"\0" * 16])
def test_a_serial_of_too_little_entropy_is_a_bug(ca: Ca, entropy: bytes) -> None:
    with pytest.raises(ValueError, match="random"):
        ca.sign(entropy=entropy)


def test_host_names_stand_beside_the_one_uri(ca: Ca) -> None:
    names = [host_name(name) for name in ("localhost", "Files.Internal", "127.0.0.1", "::1")]
    found = ca.sign(names=names).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert found.value.get_values_for_type(x509.UniformResourceIdentifier) == [str(ALICE)]
    assert found.value.get_values_for_type(x509.DNSName) == ["localhost", "files.internal"]
    assert [str(ip) for ip in found.value.get_values_for_type(x509.IPAddress)] == [
        "127.0.0.1",
        "::1",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a..b",
        "a.",
        "-a",
        "a-",
        "a b",
        "*.example.com",
        "exämple.com",
        "a" * 64,
        "a." * 127,
        "10.0.0.999",
        "10.1",
        "fe80::1%eth0",
        "spiffe://a/b",
        "a\n",
    ],
)
def test_what_is_no_host_is_refused(text: str) -> None:
    assert reason_of(host_name, text) == "host_name"


def test_too_many_host_names_are_refused(ca: Ca) -> None:
    names = [host_name(f"h{n}.test") for n in range(MAX_NAMES + 1)]
    assert reason_of(ca.sign, names=names) == "too_large"
    assert ca.prove(ca.sign(names=names[1:])) == ALICE


def test_an_identity_of_another_trust_domain_is_not_signed(ca: Ca) -> None:
    assert reason_of(ca.sign, SpiffeId.parse("spiffe://other.test/a")) == "other_trust_domain"


def test_an_identity_without_a_path_is_not_signed(ca: Ca) -> None:
    assert reason_of(ca.sign, SpiffeId.parse("spiffe://cluster.local")) == "no_path"


def test_nothing_but_workloads_can_stand_below_the_intermediate(ca: Ca) -> None:
    key = new_key()
    deeper = make_intermediate(ca.issuer, key.public_key(), span=ca.span, entropy=ENTROPY)
    issuer = Issuer(Certificate.of(deeper), key)
    leaf = sign_leaf(issuer, new_key().public_key(), ALICE, span=ca.span, entropy=ENTROPY)
    chain = (leaf.public_bytes(Encoding.DER), issuer.certificate.der, ca.issuer.certificate.der)
    bundle = TrustBundle("cluster.local", frozenset({ca.root.certificate.der}))
    assert reason_of(verify_path, chain, Bundles.of([bundle]), NOW) == "chain_too_long"


def test_two_cas_never_share_a_name(ca: Ca) -> None:
    other = Ca()
    assert ca.root.certificate.opened.subject != other.root.certificate.opened.subject
    assert ca.issuer.certificate.opened.subject != other.issuer.certificate.opened.subject


def test_a_ca_that_names_no_trust_domain_signs_nothing() -> None:
    key = new_key()
    name = x509.Name([])
    nameless = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2027, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    issuer = Issuer(Certificate.of(nameless), key)
    reason = reason_of(
        sign_leaf, issuer, key.public_key(), ALICE, span=Span.of(NOW, 60), entropy=ENTROPY
    )
    assert reason == "no_uri_san"


def request(key: Any, digest: Any = None) -> bytes:
    wanted = x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier("spiffe://evil.test/root")]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(wanted, critical=True)
    return builder.sign(key, digest).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("make", "digest"),
    [
        (lambda: ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()),
        (lambda: ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()),
        (lambda: rsa.generate_private_key(65537, 2048), hashes.SHA256()),
        (ed25519.Ed25519PrivateKey.generate, None),
    ],
    ids=["P-256", "P-384", "RSA-2048", "Ed25519"],
)
def test_a_request_gives_its_public_key_and_nothing_else(
    ca: Ca, make: Callable[[], Any], digest: Any
) -> None:
    key = make()
    public_key = public_key_of(request(key, digest))
    assert public_key == key.public_key()
    leaf = sign_leaf(ca.issuer, public_key, ALICE, span=ca.span, entropy=ENTROPY)
    assert Certificate.of(leaf).uris == (str(ALICE),)
    assert ca.prove(leaf) == ALICE


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP256K1()),
        lambda: ec.generate_private_key(ec.SECP521R1()),
        lambda: rsa.generate_private_key(65537, 1024),
        lambda: dsa.generate_private_key(2048),
    ],
    ids=["secp256k1", "P-521", "RSA-1024", "DSA"],
)
def test_a_request_with_another_kind_of_key_is_refused(make: Callable[[], Any]) -> None:
    assert reason_of(public_key_of, request(make(), hashes.SHA256())) == "weak_key"


def test_a_request_must_be_signed_with_its_own_key() -> None:
    der = bytearray(
        x509.load_pem_x509_csr(request(new_key(), hashes.SHA256())).public_bytes(Encoding.DER)
    )
    der[-1] ^= 1
    pem = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)
    assert reason_of(public_key_of, pem) == "malformed"


@pytest.mark.parametrize("data", [b"", b"hello", b"-" * (MAX_REQUEST + 1)])
def test_what_is_no_request_is_malformed(data: bytes) -> None:
    assert reason_of(public_key_of, data) == "malformed"


def test_a_changed_byte_of_a_request_is_refused_or_gives_no_other_key() -> None:
    key = new_key()
    der = x509.load_pem_x509_csr(request(key, hashes.SHA256())).public_bytes(Encoding.DER)
    for place in range(len(der)):
        for bit in (1, 0x20):
            changed = der[:place] + bytes([der[place] ^ bit]) + der[place + 1 :]
            body = base64.encodebytes(changed).decode()
            pem = f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"
            with suppress(IdentityError):
                assert public_key_of(pem.encode()) == key.public_key()
