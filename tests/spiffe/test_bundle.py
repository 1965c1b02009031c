"""Trust bundles: what may be a root, how they are read, and that they stay apart."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from support.mint import Mint

from sidecar.errors import IdentityError
from sidecar.spiffe.bundle import MAX_BUNDLE, MAX_ROOTS, Bundles, TrustBundle
from sidecar.spiffe.svid import verify

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors" / "x509_svid.json"


def cases() -> list[Any]:
    if not VECTORS.exists():
        return [pytest.param({}, marks=pytest.mark.skip(reason=f"{VECTORS.name} is absent"))]
    table = json.loads(VECTORS.read_text())["spiffe_bundle"]
    return [pytest.param(case, id=case["name"].replace(" ", "-")) for case in table]


@pytest.fixture
def mint(tmp_path: Path) -> Mint:
    return Mint(tmp_path, "domain1.test")


def x5c(der: bytes) -> str:
    return base64.b64encode(der).decode()


def jwks(*roots: bytes, **fields: Any) -> bytes:
    keys = [{"kty": "EC", "use": "x509-svid", "x5c": [x5c(root)]} for root in roots]
    return json.dumps({"keys": keys, **fields}).encode()


def refusal(data: bytes, read: Any = TrustBundle.from_spiffe) -> IdentityError:
    with pytest.raises(IdentityError) as raised:
        read(data, "domain1.test")
    return raised.value


@pytest.mark.parametrize("case", cases())
def test_a_spiffe_bundle_is_read_as_the_vectors_say(
    case: dict[str, Any], mint: Mint, tmp_path: Path
) -> None:
    other = Mint(tmp_path / "2", "domain1.test")
    text = json.dumps(case["bundle"])
    text = text.replace("<DER ca1>", x5c(mint.root_der)).replace("<DER ca2>", x5c(other.root_der))
    if case["expect"].get("error"):
        assert refusal(text.encode()).reason == "malformed"
        return
    bundle = TrustBundle.from_spiffe(text.encode(), "domain1.test")
    assert len(bundle.roots) == case["expect"]["x509Authorities"]
    assert bundle.sequence == case["bundle"].get("spiffe_sequence")
    assert bundle.refresh_hint == case["bundle"].get("spiffe_refresh_hint")
    if case["expect"].get("svids") == "all invalid":
        with pytest.raises(IdentityError) as raised:
            verify(mint.leaf().chain, Bundles.of([bundle]), mint.now)
        assert raised.value.reason == "unknown_ca"


def test_both_ways_of_writing_give_the_same_roots(mint: Mint) -> None:
    from_json = TrustBundle.from_spiffe(jwks(mint.root_der), "domain1.test")
    assert from_json.roots == TrustBundle.from_pem(mint.root_pem, "domain1.test").roots


def test_a_bundle_may_hold_several_roots_while_they_rotate(mint: Mint) -> None:
    successor = mint.authority(None).certificate.public_bytes(Encoding.PEM)
    assert len(TrustBundle.from_pem(mint.root_pem + successor, "domain1.test").roots) == 2


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "JSON"),
        (b"[]", "object"),
        (b'{"keys": 1}', "keys"),
        (b'{"keys": [], "keys": []}', "JSON"),
        (b'{"keys": [1]}', "object"),
        (b'{"keys": [{"use": "x509-svid", "kty": "EC", "x5c": "AAAA"}]}', "x5c"),
        (b'{"keys": [{"use": "x509-svid", "kty": "EC", "x5c": [7]}]}', "base64"),
        (b'{"keys": [{"use": "x509-svid", "kty": "EC", "x5c": ["*"]}]}', "base64"),
        (b'{"keys": [{"use": "x509-svid", "kty": "EC", "x5c": ["AAAA"]}]}', "cannot be read"),
        (b'{"keys": [], "spiffe_sequence": "1"}', "spiffe_sequence"),
        (b'{"keys": [], "spiffe_refresh_hint": true}', "spiffe_refresh_hint"),
        (b'{"keys": [], "spiffe_sequence": -1}', "spiffe_sequence"),
        (b"[" * 100_000, "JSON"),
    ],
)
def test_a_malformed_spiffe_bundle_is_refused_and_the_fault_named(data: bytes, word: str) -> None:
    error = refusal(data)
    assert error.reason == "malformed"
    assert word in str(error)


def test_an_entry_with_an_empty_x5c_is_passed_over() -> None:
    data = b'{"keys": [{"use": "x509-svid", "kty": "EC", "x5c": []}]}'
    assert TrustBundle.from_spiffe(data, "domain1.test").roots == frozenset()


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_every_changed_byte_of_a_root_is_read_or_refused(mint: Mint) -> None:
    root = mint.root_der
    for place in range(len(root)):
        for byte in (0, 1, 0x7F, root[place] ^ 1, root[place] ^ 0x20):
            with suppress(IdentityError):
                TrustBundle.from_spiffe(
                    jwks(root[:place] + bytes([byte]) + root[place + 1 :]), "domain1.test"
                )


def test_a_workloads_certificate_is_no_root(mint: Mint) -> None:
    files = mint.leaf()
    assert refusal(files.cert.read_bytes(), TrustBundle.from_pem).reason == "not_a_ca"
    assert refusal(jwks(files.chain[0])).reason == "not_a_ca"


def test_a_bundle_with_a_private_key_in_it_is_refused(mint: Mint) -> None:
    data = mint.root_pem + mint.leaf().key.read_bytes()
    assert refusal(data, TrustBundle.from_pem).reason == "private_key"


@pytest.mark.parametrize("data", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_what_is_not_pem_is_refused(data: bytes) -> None:
    assert refusal(data, TrustBundle.from_pem).reason == "malformed"


def test_a_bundle_has_a_greatest_size(mint: Mint) -> None:
    big = b" " * MAX_BUNDLE + jwks(mint.root_der)
    assert refusal(big).reason == "too_large"
    assert refusal(big, TrustBundle.from_pem).reason == "too_large"
    many = b"".join(
        mint.authority(None).certificate.public_bytes(Encoding.PEM) for _ in range(MAX_ROOTS + 1)
    )
    assert refusal(many, TrustBundle.from_pem).reason == "too_large"


def test_a_bundle_belongs_to_a_trust_domain_that_can_be_one(mint: Mint) -> None:
    with pytest.raises(IdentityError) as raised:
        TrustBundle.from_pem(mint.root_pem, "Not A Domain")
    assert raised.value.reason == "trust_domain_charset"


def test_two_bundles_of_one_trust_domain_are_not_merged(mint: Mint) -> None:
    bundle = TrustBundle.from_pem(mint.root_pem, "domain1.test")
    with pytest.raises(IdentityError) as raised:
        Bundles.of([bundle, bundle])
    assert raised.value.reason == "two_bundles"
    assert "domain1.test" in str(raised.value)


def test_bundles_say_which_trust_domain_a_root_is_of(mint: Mint, tmp_path: Path) -> None:
    other = Mint(tmp_path / "2", "domain2.test")
    bundles = Bundles.of(
        TrustBundle.from_pem(one.root_pem, one.trust_domain) for one in (mint, other)
    )
    assert bundles.homes_of(other.root_der) == ["domain2.test"]
    assert bundles.homes_of(b"unknown") == []
    assert bundles.trust_domains == ("domain1.test", "domain2.test")
    assert bundles.roots == {mint.root_der, other.root_der}
    assert bundles.bundle_of("domain3.test") is None


@given(st.binary(max_size=300))
def test_any_bytes_are_a_bundle_or_a_clear_refusal(data: bytes) -> None:
    for read in (TrustBundle.from_pem, TrustBundle.from_spiffe):
        try:
            read(data, "domain1.test")
        except IdentityError as error:
            assert error.reason in {"malformed", "private_key"}  # noqa: PT017
