"""A chain and its key: read together, or refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from support.mint import Mint

from sidecar.errors import IdentityError
from sidecar.spiffe.certificate import Certificate
from sidecar.spiffe.pair import read_pair
from sidecar.spiffe.svid import MAX_CHAIN, check_leaf

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors" / "x509_svid.json"
SAID = {
    "no certificates found": "no_certificate",
    "no private key found": "no_key",
    "asn1": "malformed",
    "malformed certificate": "malformed",
    "key mismatch": "key_mismatch",
    "no URI SAN": "no_uri_san",
    "leaf CA flag": "ca_leaf",
    "digitalSignature missing": "wrong_purpose",
    "keyCertSign": "wrong_purpose",
    "cRLSign": "wrong_purpose",
    "intermediate CA flag": "not_a_ca",
    "intermediate keyCertSign": "not_a_ca",
}


def cases() -> list[Any]:
    if not VECTORS.exists():
        return [pytest.param({}, marks=pytest.mark.skip(reason=f"{VECTORS.name} is absent"))]
    table = json.loads(VECTORS.read_text())["parse_with_go_spiffe_testdata"]
    return [pytest.param(case, id=case["name"].replace(" ", "-")) for case in table]


@pytest.fixture
def mint(tmp_path: Path) -> Mint:
    return Mint(tmp_path)


def reason_of(certificates: bytes, key: bytes) -> str | None:
    try:
        read_pair(certificates, key)
    except IdentityError as error:
        return error.reason
    return None


@pytest.mark.parametrize("case", cases())
def test_a_pair_is_read_as_the_vectors_say(case: dict[str, Any]) -> None:
    files = [VECTORS.parent / case[name] for name in ("certs", "key")]
    for file in files:
        if not file.exists():
            pytest.skip(f"{file.name} is absent")
    certificates, key = (file.read_bytes() for file in files)
    if not case["valid"]:
        not_pem = {"certs": "no_certificate", "key": "no_key"}
        wanted = SAID.get(case["reason"]) or next(
            word for name, word in not_pem.items() if case[name].endswith("not-pem")
        )
        assert reason_of(certificates, key) == wanted
        return
    chain = read_pair(certificates, key)
    assert len(chain) == case["certCount"]
    assert str(check_leaf(Certificate.from_der(chain[0]))) == case["spiffeId"]


def test_a_good_pair_gives_its_chain_leaf_first(mint: Mint) -> None:
    files = mint.leaf()
    assert read_pair(files.cert.read_bytes(), files.key.read_bytes()) == files.chain[:-1]


def test_the_key_and_the_chain_may_stand_in_one_file(mint: Mint) -> None:
    files = mint.leaf()
    cert, key = files.cert.read_bytes(), files.key.read_bytes()
    for both in (cert + key, key + cert):
        assert read_pair(both, both) == files.chain[:-1]


def test_each_file_must_hold_what_it_is_for(mint: Mint) -> None:
    files = mint.leaf()
    cert, key = files.cert.read_bytes(), files.key.read_bytes()
    assert reason_of(key, key) == "no_certificate"
    assert reason_of(cert, cert) == "no_key"
    assert reason_of(b"not PEM", key) == "no_certificate"
    assert reason_of(cert, b"not PEM") == "no_key"


def test_damaged_files_are_malformed(mint: Mint) -> None:
    files = mint.leaf()
    cert, key = files.cert.read_bytes(), files.key.read_bytes()
    assert reason_of(cert[:200] + b"!!" + cert[210:], key) == "malformed"
    assert reason_of(cert, key[:60] + b"AAAAAAAA" + key[80:]) == "malformed"


def test_a_key_of_another_certificate_is_refused(mint: Mint) -> None:
    assert reason_of(mint.leaf().cert.read_bytes(), mint.leaf().key.read_bytes()) == "key_mismatch"


def test_a_key_with_a_passphrase_is_refused(mint: Mint) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    with pytest.raises(IdentityError, match="passphrase"):
        read_pair(mint.leaf().cert.read_bytes(), key)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"uri": []}, "no_uri_san"),
        ({"ca": True}, "ca_leaf"),
        ({"usage": ["key_encipherment"]}, "wrong_purpose"),
        ({"usage": ["digital_signature", "key_cert_sign"]}, "wrong_purpose"),
        ({"usage": ["digital_signature", "crl_sign"]}, "wrong_purpose"),
        ({"uri": ["spiffe://cluster.local"]}, "no_path"),
    ],
)
def test_a_leaf_that_is_no_svid_is_refused(wrong: dict[str, Any], reason: str, mint: Mint) -> None:
    files = mint.leaf(**wrong)
    assert reason_of(files.cert.read_bytes(), files.key.read_bytes()) == reason


@pytest.mark.parametrize("wrong", [{"ca": False}, {"usage": ["digital_signature"]}])
def test_a_signer_that_is_no_ca_is_refused(wrong: dict[str, Any], mint: Mint) -> None:
    files = mint.leaf(signer=mint.authority(mint.root, **wrong))
    assert reason_of(files.cert.read_bytes(), files.key.read_bytes()) == "not_a_ca"


def test_a_file_of_very_many_certificates_is_refused(mint: Mint) -> None:
    files = mint.leaf()
    many = files.cert.read_bytes() + mint.root_pem * MAX_CHAIN
    assert len(x509.load_pem_x509_certificates(many)) > MAX_CHAIN
    assert reason_of(many, files.key.read_bytes()) == "chain_too_long"
