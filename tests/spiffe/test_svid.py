"""What proves an identity, and the one reason for which anything else does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding
from support.mint import REFUSED_FOR, WRONG, Mint, Signer

from sidecar.errors import IdentityError
from sidecar.spiffe.bundle import Bundles, TrustBundle
from sidecar.spiffe.certificate import Certificate
from sidecar.spiffe.revocation import Revocations
from sidecar.spiffe.svid import MAX_CHAIN, REASONS, X509Svid, verify, verify_path

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors" / "x509_svid.json"
ABSENT = not VECTORS.exists()
CASES: dict[str, Any] = {} if ABSENT else json.loads(VECTORS.read_text())
# Words of the vectors -> ours.
SAID = {
    "empty chain": "no_certificate",
    "bundle required": "other_trust_domain",
    "signed by unknown authority": "unknown_ca",
    "scheme is missing or invalid": "not_a_spiffe_id",
    "no URI SAN": "no_uri_san",
    "more than one URI SAN": "two_uri_sans",
    "CA flag": "ca_leaf",
    "keyCertSign": "wrong_purpose",
    "cRLSign": "wrong_purpose",
    "expired": "expired",
    "root path (no workload path)": "no_path",
    "second URI SAN that is not spiffe": "two_uri_sans",
    "keyUsage extension missing": "wrong_purpose",
    "digitalSignature missing": "wrong_purpose",
    "EKU with only serverAuth": "wrong_purpose",
    "empty subject needs critical SAN": "names_not_critical",
    "trust domain of the SVID differs from the CA that signed": "other_trust_domain",
}
USAGE = {
    "digitalSignature": "digital_signature",
    "keyEncipherment": "key_encipherment",
    "keyAgreement": "key_agreement",
    "keyCertSign": "key_cert_sign",
    "cRLSign": "crl_sign",
}
EKU = {"serverAuth": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.1")}


def cases(table: str) -> list[Any]:
    if ABSENT:
        return [pytest.param({}, marks=pytest.mark.skip(reason=f"{VECTORS.name} is absent"))]
    return [pytest.param(case, id=case["name"].replace(" ", "-")) for case in CASES[table]]


@pytest.fixture
def mint(tmp_path: Path) -> Mint:
    return Mint(tmp_path, "domain1.test")


@pytest.fixture
def other(tmp_path: Path) -> Mint:
    return Mint(tmp_path / "other", "domain2.test")


def bundles_of(*mints: Mint) -> Bundles:
    return Bundles.of(TrustBundle.from_pem(mint.root_pem, mint.trust_domain) for mint in mints)


def reason_of(check: Any, chain: Any, bundles: Bundles, now: float) -> str | None:
    try:
        check(chain, bundles, now)
    except IdentityError as error:
        return error.reason
    return None


def mint_leaf(mint: Mint, leaf: dict[str, Any]) -> tuple[bytes, ...]:
    assert leaf["signedBy"] == f"ca({mint.trust_domain})"
    usage, eku = leaf["keyUsage"], leaf.get("eku", "default")
    wanted: dict[str, Any] = {} if eku == "default" else {"eku": eku and [EKU[one] for one in eku]}
    return mint.leaf(
        uri=leaf["uriSANs"],
        dns=leaf["dnsSANs"],
        ca=leaf["isCA"],
        usage=usage and [USAGE[one] for one in usage],
        subject=leaf.get("subject", "test"),
        san_critical=leaf.get("sanCritical", False),
        **wanted,
    ).chain


def bundles_in(case: dict[str, Any], *mints: Mint) -> Bundles:
    by_name = {f"ca({mint.trust_domain})": mint.root_der for mint in mints}
    return Bundles.of(
        TrustBundle(domain, frozenset({by_name[ca]} if ca else ()))
        for domain, ca in (case["bundle"] or {}).items()
    )


def expected(case: dict[str, Any]) -> str | None:
    if case["valid"]:
        return None
    said = case.get("reason", case["name"])
    if said.startswith("no bundle for trust domain"):
        return "other_trust_domain"
    return SAID[said]


@pytest.mark.parametrize("case", cases("verify"))
def test_a_chain_is_judged_as_the_vectors_say(
    case: dict[str, Any], mint: Mint, other: Mint
) -> None:
    chain = mint_leaf(mint, case["chain"][0]) if case["chain"] else ()
    now = mint.now + 3601 if case.get("verifyAt") == "notAfter+1s" else mint.now
    bundles = bundles_in(case, mint, other)
    assert reason_of(verify, chain, bundles, now) == expected(case)
    assert reason_of(verify_path, chain, bundles, now) == expected(case)


@pytest.mark.parametrize("case", cases("spec_leaf"))
def test_a_leaf_is_judged_as_the_standard_says(
    case: dict[str, Any], mint: Mint, other: Mint
) -> None:
    chain = mint_leaf(mint, case["leaf"])
    bundles = bundles_of(mint, other)
    assert reason_of(verify, chain, bundles, mint.now) == expected(case)
    assert reason_of(verify_path, chain, bundles, mint.now) == expected(case)


@pytest.mark.parametrize("case", cases("spec_ca"))
def test_a_signing_certificate_is_judged_as_the_standard_says(
    case: dict[str, Any], mint: Mint
) -> None:
    ca = case["ca"]
    usage = [USAGE[one] for one in ca["keyUsage"]]
    signer = mint.authority(None, uri=ca["uriSANs"], ca=ca["isCA"], usage=usage)
    pem = signer.certificate.public_bytes(Encoding.PEM)
    if case["valid"]:
        assert len(TrustBundle.from_pem(pem, "domain1.test").roots) == 1
        return
    with pytest.raises(IdentityError) as raised:
        TrustBundle.from_pem(pem, "domain1.test")
    assert raised.value.reason == ("ca_path" if case["name"] == "with path" else "not_a_ca")


@pytest.mark.parametrize("case", cases("rotation"))
@pytest.mark.parametrize("spread", [-1.0, -0.3, 0.0, 0.7, 1.0])
def test_an_identity_is_renewed_about_half_way(case: dict[str, Any], spread: float) -> None:
    svid = X509Svid(None, 0.0, float(case["lifetime_s"]), 1, "")  # type: ignore[arg-type]
    assert (case["elapsed_s"] >= svid.renewal_time(spread)) is case["rotate"]


def test_a_good_leaf_proves_its_identity(mint: Mint) -> None:
    files = mint.leaf("agent/alice")
    for check in (verify, verify_path):
        svid = check(files.chain, bundles_of(mint), mint.now)
        assert str(svid.id) == "spiffe://domain1.test/ns/agent/sa/alice"
        assert svid.serial == files.leaf.serial_number
        assert svid.not_after == int(mint.now + 3600)
        assert len(svid.sha256) == 64


@pytest.mark.parametrize("fault", WRONG)
def test_every_wrong_leaf_is_refused_for_its_reason(fault: str, mint: Mint) -> None:
    reason = REFUSED_FOR.get(fault, fault)
    chain = mint.wrong(fault).chain
    assert reason_of(verify, chain, bundles_of(mint), mint.now) == reason
    assert reason_of(verify_path, chain, bundles_of(mint), mint.now) == reason
    assert reason in REASONS


def test_a_chain_of_another_domains_ca_is_refused_though_that_ca_is_known(
    mint: Mint, other: Mint
) -> None:
    chain = other.leaf(uri=["spiffe://domain1.test/ns/agent/sa/alice"]).chain
    for check in (verify, verify_path):
        assert reason_of(check, chain, bundles_of(mint, other), mint.now) == "other_trust_domain"
        assert reason_of(check, chain, bundles_of(mint), mint.now) == "unknown_ca"


def test_a_foreign_identity_is_proved_by_its_own_bundle(mint: Mint, other: Mint) -> None:
    svid = verify(other.leaf("tool/search").chain, bundles_of(mint, other), mint.now)
    assert svid.id.trust_domain == "domain2.test"


@pytest.mark.parametrize("damage", [b"", b"\x30\x03\x02\x01\x01", b"x" * 70_000])
def test_what_is_no_certificate_is_malformed(damage: bytes, mint: Mint) -> None:
    chain = mint.leaf().chain
    assert reason_of(verify, (damage, *chain[1:]), bundles_of(mint), mint.now) == "malformed"
    assert reason_of(verify_path, (chain[0], damage), bundles_of(mint), mint.now) == "malformed"


def test_every_flipped_byte_of_a_leaf_is_refused(mint: Mint) -> None:
    chain, bundles = mint.leaf().chain, bundles_of(mint)
    for place in range(0, len(chain[0]), 7):
        leaf = bytearray(chain[0])
        leaf[place] ^= 0x41
        assert reason_of(verify_path, (bytes(leaf), chain[1]), bundles, mint.now) in REASONS


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_every_changed_byte_of_what_was_signed_of_a_signer_is_refused(mint: Mint) -> None:
    (leaf, signer, _), bundles = mint.leaf().chain, bundles_of(mint)
    signed = mint.intermediate.certificate.tbs_certificate_bytes
    begin = signer.index(signed)
    for place in range(begin, begin + len(signed)):
        changed = signer[:place] + bytes([signer[place] ^ 2]) + signer[place + 1 :]
        assert reason_of(verify_path, (leaf, changed), bundles, mint.now) in REASONS


ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256


def twin(der: bytes) -> bytes:
    """The same certificate with the other one of the two signatures that are as good."""
    opened = x509.load_der_x509_certificate(der)
    r, s = decode_dss_signature(opened.signature)
    other = encode_dss_signature(r, ORDER - s)
    kind = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
    body = opened.tbs_certificate_bytes + kind + b"\x03" + bytes([len(other) + 1, 0]) + other
    return b"\x30\x82" + len(body).to_bytes(2, "big") + body


def test_who_was_dropped_does_not_come_back_under_another_fingerprint(mint: Mint) -> None:
    leaf, signer, root = mint.leaf().chain
    dropped = Certificate.from_der(signer).signed_sha256
    denied = Revocations("domain1.test", authorities=frozenset({dropped}))
    for shown in (signer, twin(signer)):
        svid = verify_path((leaf, shown), bundles_of(mint), mint.now)
        named = verify((leaf, shown, root), bundles_of(mint), mint.now).signers
        assert denied.why(svid.id, svid.serial, named)
    assert twin(signer) != signer


def test_a_path_is_found_whatever_the_order_it_is_offered_in(mint: Mint) -> None:
    leaf, intermediate, root = mint.leaf().chain
    stranger = mint.authority(None).certificate.public_bytes(Encoding.DER)
    offers = [(leaf, intermediate), (leaf, stranger, root, intermediate, intermediate)]
    for offered in offers:
        assert reason_of(verify_path, offered, bundles_of(mint), mint.now) is None
    assert reason_of(verify_path, (leaf,), bundles_of(mint), mint.now) == "unknown_ca"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"ca": False}, "not_a_ca"),
        ({"usage": ["digital_signature"]}, "not_a_ca"),
        ({"usage": None}, "not_a_ca"),
        ({"uri": ["spiffe://domain1.test/ca"]}, "ca_path"),
        ({"uri": ["spiffe://domain1.test", "spiffe://domain2.test"]}, "two_uri_sans"),
        ({"not_after": -10}, "expired"),
        ({"not_before": 10}, "not_yet_valid"),
        ({"extension": x509.NameConstraints([x509.DNSName("a.test")], None)}, "critical_extension"),
        ({"extension": x509.InhibitAnyPolicy(0)}, "critical_extension"),
    ],
)
def test_a_wrong_intermediate_is_refused_for_its_reason(
    wrong: dict[str, Any], reason: str, mint: Mint
) -> None:
    chain = mint.leaf(signer=mint.authority(mint.root, **wrong)).chain
    assert reason_of(verify_path, chain[:-1], bundles_of(mint), mint.now) == reason
    assert reason in REASONS
    if reason not in ("expired", "not_yet_valid"):  # of a path that OpenSSL has checked
        assert reason_of(verify, chain, bundles_of(mint), mint.now) == reason


@pytest.mark.parametrize("check", [verify, verify_path])
def test_a_weak_signature_or_key_is_refused(check: Any, mint: Mint) -> None:
    hashed = mint.leaf(digest=hashes.SHA224()).chain
    assert reason_of(check, hashed, bundles_of(mint), mint.now) == "weak_signature"
    short = mint.leaf(key=ec.generate_private_key(ec.SECP224R1())).chain
    assert reason_of(check, short, bundles_of(mint), mint.now) == "weak_key"


def test_a_path_length_limits_the_cas_below(mint: Mint) -> None:
    below = mint.authority(mint.intermediate)
    assert mint.intermediate.certificate.extensions.get_extension_for_class(
        x509.BasicConstraints
    ).value == x509.BasicConstraints(ca=True, path_length=0)
    chain = mint.leaf(signer=below).chain
    assert reason_of(verify_path, chain, bundles_of(mint), mint.now) == "chain_too_long"


def deep(mint: Mint, levels: int) -> Signer:
    signer = mint.root
    for _ in range(levels):
        signer = mint.authority(signer)
    return signer


def test_a_chain_has_a_longest_length(mint: Mint) -> None:
    longest = mint.leaf(signer=deep(mint, MAX_CHAIN - 2)).chain
    assert len(longest) == MAX_CHAIN
    longer = mint.leaf(signer=deep(mint, MAX_CHAIN - 1)).chain
    for check in (verify, verify_path):
        assert reason_of(check, longest, bundles_of(mint), mint.now) is None
        assert reason_of(check, longer, bundles_of(mint), mint.now) == "chain_too_long"
