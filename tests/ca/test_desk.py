"""What the CA answers: a certificate to who may have one, a reason to who may not, both logged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from sidecar.ca.desk import Answer, Desk
from sidecar.ca.ledger import entries
from sidecar.ca.revocations import revoke_id, revoke_serial
from sidecar.ca.store import make_ca
from sidecar.ca.tokens import Token, TokenStore
from sidecar.ca.turnover import load_root_key, rotate
from sidecar.spiffe.bundle import TrustBundle
from sidecar.spiffe.certificate import Certificate
from sidecar.spiffe.id import SpiffeId

NOW = 1_790_000_000.0
TTL, GRACE = 3600.0, 7200.0
FILES = SpiffeId.of_short("mcp-prod/files")
HERE = "192.0.2.7"


class Office:
    """A CA's desk, and who comes to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = make_ca(folder, "cluster.local", NOW)
        self.desk = Desk(folder, ttl=TTL, grace=GRACE, refresh=30)
        self.tokens = TokenStore(folder, self.ca.root_sha256)

    def join(
        self, token: Token | str, who: SpiffeId | str = FILES, csr: str = "", now: float = NOW
    ) -> Answer:
        question = {"token": str(token), "spiffe_id": str(who), "csr": csr or request()}
        return self.desk.join(json.dumps(question).encode(), HERE, now)

    def renew(self, chain: Sequence[bytes], csr: str = "", now: float = NOW) -> Answer:
        return self.desk.renew(chain, json.dumps({"csr": csr or request()}).encode(), HERE, now)

    def member(self, who: SpiffeId = FILES, now: float = NOW) -> list[bytes]:
        """Return the chain of somebody who joined, as TLS shows it: the root last."""
        answer = self.join(self.tokens.make(who, now), who, now=now)
        assert answer.status == 200
        chain = Certificate.all_from_pem(json.loads(answer.body)["certificate"].encode())
        return [*(one.der for one in chain), Certificate.from_pem(self.ca.bundle).der]

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [dict(one.facts) for one in entries(self.folder) if one.event == kind]


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path / "ca")


def request(key: Any = None, subject: str = "", names: Sequence[str] = ()) -> str:
    """A signing request that may ask for anything."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        sans = [x509.UniformResourceIdentifier(name) for name in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    signed = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(Encoding.PEM).decode()


def leaf_of(answer: Answer) -> Certificate:
    assert answer.status == 200, answer.body
    return Certificate.from_pem(json.loads(answer.body)["certificate"].encode())


def reason(answer: Answer) -> str:
    assert answer.status != 200
    return str(json.loads(answer.body)["reason"])


# -- joining


def test_a_token_gives_the_identity_it_is_for(office: Office) -> None:
    leaf = leaf_of(office.join(office.tokens.make(FILES, NOW)))
    assert leaf.uris == (str(FILES),)
    assert leaf.not_after == NOW + TTL
    (issued,) = office.events("issued")
    assert issued["spiffe_id"] == str(FILES)
    assert (issued["by"], issued["peer"]) == ("token", HERE)


def test_of_a_request_only_the_key_counts(office: Office) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    csr = request(key, names=["spiffe://cluster.local/ns/agent/sa/admin"])
    leaf = leaf_of(office.join(office.tokens.make(FILES, NOW), csr=csr))
    assert leaf.uris == (str(FILES),)
    assert leaf.opened.public_key() == key.public_key()


def test_host_names_come_with_the_token_and_not_with_the_request(office: Office) -> None:
    token = office.tokens.make(FILES, NOW, names=["files.test", "10.0.0.7"])
    leaf = leaf_of(office.join(token))
    found = leaf.opened.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert found.get_values_for_type(x509.DNSName) == ["localhost", "files.test"]
    assert "10.0.0.7" in map(str, found.get_values_for_type(x509.IPAddress))


def test_every_refusal_has_its_reason_and_is_logged(office: Office) -> None:
    used = office.tokens.make(FILES, NOW)
    leaf_of(office.join(used))
    old = office.tokens.make(FILES, NOW - 601)
    fresh = office.tokens.make(FILES, NOW)
    elsewhere = Token("ab" * 32, fresh.secret)
    refusals = {
        "used": office.join(used),
        "expired": office.join(old),
        "other_identity": office.join(fresh, SpiffeId.of_short("agent/admin")),
        "other_ca": office.join(elsewhere),
        "unknown": office.join(Token(fresh.pin, "0" * 32)),
        "malformed": office.join("v1.none"),
    }
    assert {reason(answer) for answer in refusals.values()} == set(refusals)
    for wanted, answer in refusals.items():
        assert reason(answer) == wanted
        assert answer.status == (400 if wanted == "malformed" else 403)
    logged = office.events("join_refused")
    assert [one["reason"] for one in logged] == list(refusals)
    assert all(one["peer"] == HERE for one in logged)
    assert fresh.secret not in (office.folder / "issued.jsonl").read_text()
    leaf_of(office.join(fresh))  # none of that used it up


@pytest.mark.parametrize(
    "csr",
    [
        "not a request",
        request(ec.generate_private_key(ec.SECP256R1())).replace("MI", "MJ", 1),
        request(rsa.generate_private_key(65537, 1024)),
        request(ec.generate_private_key(ec.SECP256R1())) + "x" * 20_000,
    ],
    ids=["no-pem", "broken", "weak", "long"],
)
def test_a_request_that_cannot_be_signed_does_not_use_the_token_up(
    office: Office, csr: str
) -> None:
    token = office.tokens.make(FILES, NOW)
    assert reason(office.join(token, csr=csr)) in ("malformed", "weak_key")
    leaf_of(office.join(token))


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"token": 1}', b'{"token":"a","token":"b"}', b"\xff"]
)
def test_a_question_that_is_none_is_refused(office: Office, body: bytes) -> None:
    assert reason(office.desk.join(body, HERE, NOW)) == "malformed"


def test_the_cas_own_identity_is_given_to_nobody(office: Office) -> None:
    own = office.ca.server_id
    answer = office.join(office.tokens.make(own, NOW), own)
    assert reason(answer) == "reserved"


def test_who_was_revoked_does_not_join_with_a_token_made_before(office: Office) -> None:
    token = office.tokens.make(FILES, NOW)
    revoke_id(office.ca, FILES, NOW)
    assert reason(office.join(token)) == "revoked"


def test_an_address_that_is_refused_often_has_to_wait_but_not_with_what_is_good(
    office: Office,
) -> None:
    chain = office.member()
    for _ in range(20):
        assert reason(office.join("v1.none")) == "malformed"
    assert office.join("v1.none").status == 429
    assert office.renew([]).status == 429
    leaf_of(office.join(office.tokens.make(FILES, NOW)))
    leaf_of(office.renew(chain))
    assert reason(office.desk.join(b"{}", "192.0.2.8", NOW)) == "malformed", "others need not wait"
    assert len(office.events("join_refused")) == 21, "what has to wait is not written down"
    assert reason(office.join("v1.none", now=NOW + 61)) == "malformed"


def test_a_flood_of_refusals_does_not_fill_the_log(office: Office) -> None:
    for number in range(300):
        office.desk.join(b"{}", f"192.0.2.{number}", NOW)
    assert len(office.events("join_refused")) == 120


# -- renewing


def test_who_holds_a_certificate_gets_the_next_with_another_key(office: Office) -> None:
    chain = office.member()
    leaf = leaf_of(office.renew(chain, now=NOW + 1800))
    before = Certificate.from_der(chain[0])
    assert leaf.uris == before.uris == (str(FILES),)
    assert leaf.not_after == NOW + 1800 + TTL
    assert leaf.opened.serial_number != before.opened.serial_number
    assert leaf.opened.public_key() != before.opened.public_key()
    last = office.events("issued")[-1]
    assert last["after"] == f"{before.opened.serial_number:032x}"


def test_host_names_are_kept_over_a_renewal(office: Office) -> None:
    token = office.tokens.make(FILES, NOW, names=["files.test"])
    first = leaf_of(office.join(token))
    chain = [first.der, office.ca.issuer.certificate.der]
    again = leaf_of(office.renew(chain))
    kind = x509.SubjectAlternativeName
    assert again.opened.extensions.get_extension_for_class(
        kind
    ) == first.opened.extensions.get_extension_for_class(kind)


def test_without_a_certificate_nothing_is_renewed(office: Office) -> None:
    answer = office.renew([])
    assert (answer.status, reason(answer)) == (401, "no_certificate")


@pytest.mark.parametrize(
    ("after", "works"),
    [(TTL - 1, True), (TTL + 60, True), (TTL + GRACE, True), (TTL + GRACE + 1, False)],
)
def test_a_certificate_may_be_renewed_for_a_while_after_its_end(
    office: Office, after: float, works: bool
) -> None:
    answer = office.renew(office.member(), now=NOW + after)
    if works:
        leaf_of(answer)
    else:
        assert reason(answer) == "expired"


def test_one_that_is_not_valid_yet_is_not_renewed(office: Office) -> None:
    assert reason(office.renew(office.member(), now=NOW - 61)) == "not_yet_valid"


def test_another_cas_certificate_renews_nothing(office: Office, tmp_path: Path) -> None:
    other = Office(tmp_path / "other")
    assert reason(office.renew(other.member())) == "unknown_ca"
    assert [one["reason"] for one in office.events("renew_refused")] == ["unknown_ca"]


def test_the_cas_own_certificate_is_not_renewed_from_outside(office: Office) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    own = office.ca.issue_own(key.public_key(), ttl=60, now=NOW)
    chain = [one.der for one in Certificate.all_from_pem(own.chain)]
    assert reason(office.renew(chain)) == "reserved"


def test_who_was_revoked_by_name_renews_nothing(office: Office) -> None:
    chain = office.member()
    revoke_id(office.ca, FILES, NOW)
    assert reason(office.renew(chain)) == "revoked"


def test_a_certificate_that_was_revoked_is_not_renewed_and_another_is(office: Office) -> None:
    stolen, good = office.member(), office.member()
    revoke_serial(office.ca, Certificate.from_der(stolen[0]).opened.serial_number, NOW)
    assert reason(office.renew(stolen)) == "revoked"
    leaf_of(office.renew(good))


def test_nobody_gets_certificates_without_end(office: Office) -> None:
    chain, other = office.member(), office.member(SpiffeId.of_short("agent/other"))
    answers = [office.renew(chain).status for _ in range(121)]
    assert answers[:100] == [200] * 100
    assert answers[-1] == 429
    leaf_of(office.renew(other))
    leaf_of(office.renew(chain, now=NOW + 61))


# -- what to believe


def test_the_bundle_is_a_spiffe_bundle_with_a_sequence_and_a_hint(office: Office) -> None:
    bundle = TrustBundle.from_spiffe(office.desk.bundle().body, "cluster.local")
    assert bundle.roots == {Certificate.from_pem(office.ca.bundle).der}
    assert bundle.refresh_hint == 30
    (key,) = json.loads(office.desk.bundle().body)["keys"]
    assert (key["use"], key["kty"], key["crv"], "kid" in key) == ("x509-svid", "EC", "P-256", False)


def test_the_sequence_rises_with_every_change(office: Office) -> None:
    def sequence() -> int:
        found = TrustBundle.from_spiffe(office.desk.bundle().body, "cluster.local").sequence
        assert found == json.loads(office.desk.denied().body)["sequence"]
        return found or 0

    seen = [sequence()]
    for who in ("agent/a", "agent/b", "agent/c"):
        revoke_id(office.ca, SpiffeId.of_short(who), NOW)
        seen.append(sequence())
    assert seen == sorted(set(seen))


def test_a_rotation_is_followed_at_once(office: Office) -> None:
    chain = office.member()
    rotate(office.folder, load_root_key(office.folder, None, None), NOW, life=1e7)
    answer = office.renew(chain)
    new = Certificate.all_from_pem(json.loads(answer.body)["certificate"].encode())[1]
    assert new.der != chain[1]
    leaf_of(office.renew(chain))  # the old one's certificates are still good


def test_what_an_old_intermediate_signed_is_good_until_it_is_dropped(office: Office) -> None:
    chain = office.member()
    rotate(office.folder, load_root_key(office.folder, None, None), NOW, life=1e7)
    assert office.desk.tend(NOW + TTL) == []
    leaf_of(office.renew(chain, now=NOW + TTL))
    (said,) = office.desk.tend(NOW + TTL + 61)
    assert "trusted no more" in said
    assert reason(office.renew(chain, now=NOW + TTL + 61)) == "revoked"
    assert office.desk.tend(NOW + TTL + 62) == []
