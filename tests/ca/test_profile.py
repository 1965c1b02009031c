"""The certificates are what `certs/profile.yaml` says, field by field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from sidecar.ca.authority import BACKDATE, CA_LIFE, MAX_TTL, SERIAL_BYTES
from sidecar.ca.store import make_ca, new_key
from sidecar.cli.issue_cert import parse_duration
from sidecar.spiffe.id import SpiffeId

PROFILE = Path(__file__).parents[2] / "certs" / "profile.yaml"
SAID = yaml.safe_load(PROFILE.read_text())
NOW = 1_790_000_000.0
USAGES = {
    "digital_signature": "digitalSignature",
    "content_commitment": "contentCommitment",
    "key_encipherment": "keyEncipherment",
    "data_encipherment": "dataEncipherment",
    "key_agreement": "keyAgreement",
    "key_cert_sign": "keyCertSign",
    "crl_sign": "cRLSign",
}
PURPOSES = {
    ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth",
    ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth",
}
NAMES = {
    ExtensionOID.BASIC_CONSTRAINTS: "basicConstraints",
    ExtensionOID.KEY_USAGE: "keyUsage",
    ExtensionOID.EXTENDED_KEY_USAGE: "extendedKeyUsage",
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME: "subjectAltName",
    ExtensionOID.SUBJECT_KEY_IDENTIFIER: "subjectKeyIdentifier",
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER: "authorityKeyIdentifier",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, x509.Certificate]:
    ca = make_ca(tmp_path_factory.mktemp("ca"), "cluster.local", NOW)
    identity = SpiffeId("cluster.local", "/ns/NAMESPACE/sa/ACCOUNT")
    issued = ca.issue(identity, new_key().public_key(), ttl=86400, now=NOW)
    leaf, intermediate = x509.load_pem_x509_certificates(issued.chain)
    root = x509.load_pem_x509_certificate(ca.bundle)
    return {"root": root, "intermediate": intermediate, "workload": leaf}


def described(certificate: x509.Certificate) -> dict[str, Any]:
    """Say what the extensions hold, in the words of the profile."""
    return {NAMES[one.oid]: facts(one) for one in certificate.extensions}


def facts(extension: x509.Extension[Any]) -> dict[str, Any]:
    value, said = extension.value, {"critical": extension.critical}
    if isinstance(value, x509.BasicConstraints):
        return said | {"ca": value.ca, "pathLength": value.path_length}
    if isinstance(value, x509.KeyUsage):
        return said | {"uses": [word for name, word in USAGES.items() if getattr(value, name)]}
    if isinstance(value, x509.ExtendedKeyUsage):
        return said | {"uses": [PURPOSES[one] for one in value]}
    return said


@pytest.mark.parametrize("kind", ["root", "intermediate", "workload"])
def test_a_certificate_is_what_the_profile_says(
    kind: str, made: dict[str, x509.Certificate]
) -> None:
    wanted = {name: said for name, said in SAID[kind].items() if name in NAMES.values()}
    assert described(made[kind]) == wanted


@pytest.mark.parametrize("kind", ["root", "intermediate", "workload"])
def test_its_one_uri_its_key_and_its_times_are_what_the_profile_says(
    kind: str, made: dict[str, x509.Certificate]
) -> None:
    certificate = made[kind]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == [
        SAID[kind]["uri"].replace("TRUST_DOMAIN", "cluster.local")
    ]
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert (key.curve.name, SAID["key"]) == ("secp256r1", "P-256")
    assert certificate.signature_algorithm_oid._name == "ecdsa-with-SHA256"
    assert certificate.not_valid_before_utc.timestamp() == NOW - parse_duration(SAID["backdate"])
    life = certificate.not_valid_after_utc.timestamp() - NOW
    assert life == parse_duration(SAID[kind]["life"])


def test_the_limits_are_what_the_profile_says() -> None:
    assert parse_duration(SAID["backdate"]) == BACKDATE
    assert parse_duration(SAID["root"]["life"]) == CA_LIFE
    assert parse_duration(SAID["workload"]["longest"]) == MAX_TTL
    assert SAID["serial_bits"] == SERIAL_BYTES * 8


def test_serials_are_random(made: dict[str, x509.Certificate]) -> None:
    serials = {one.serial_number for one in made.values()}
    assert len(serials) == 3
    assert all(serial.bit_length() > 96 for serial in serials)
