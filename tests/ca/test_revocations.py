"""The deny list: who is on it, how it comes back, and that it is whole or an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.ca.ledger import entries
from sidecar.ca.revocations import (
    FORGET_AFTER,
    REVOKED,
    load_revocations,
    restore_id,
    revoke_id,
    revoke_serial,
)
from sidecar.ca.store import LocalCa, make_ca, new_key
from sidecar.errors import StartError
from sidecar.spiffe.id import SpiffeId
from sidecar.spiffe.revocation import Revocations

NOW = 1_790_000_000.0
ALICE = SpiffeId.of_short("agent/alice")


@pytest.fixture
def ca(tmp_path: Path) -> LocalCa:
    return make_ca(tmp_path / "ca", "cluster.local", NOW)


def issue(ca: LocalCa, ttl: float = 3600) -> int:
    return ca.issue(ALICE, new_key().public_key(), ttl=ttl, now=NOW).svid.serial


def now_denied(ca: LocalCa) -> Revocations:
    return load_revocations(ca.folder, ca.trust_domain)


def test_at_first_nobody_is_revoked(ca: LocalCa) -> None:
    assert now_denied(ca) == Revocations("cluster.local")


def test_an_identity_is_revoked_whatever_it_shows(ca: LocalCa) -> None:
    serial = issue(ca)
    assert not now_denied(ca).why(ALICE, serial, ())
    revoke_id(ca, ALICE, NOW)
    assert "was revoked" in now_denied(ca).why(ALICE, serial, ())
    assert "was revoked" in now_denied(ca).why(ALICE, 12345, ())


def test_a_certificate_is_revoked_and_its_holders_next_is_good(ca: LocalCa) -> None:
    old, new = issue(ca), issue(ca)
    assert [one.serial for one in revoke_serial(ca, old, NOW)] == [old]
    assert now_denied(ca).why(ALICE, old, ())
    assert not now_denied(ca).why(ALICE, new, ())


def test_a_serial_that_was_never_issued_is_an_error(ca: LocalCa) -> None:
    with pytest.raises(StartError, match="no certificate of the last month"):
        revoke_serial(ca, 1, NOW)
    gone = issue(ca, ttl=10)
    revoke_serial(ca, gone, NOW + 11)  # it could have been renewed for a while
    with pytest.raises(StartError, match="no certificate of the last month"):
        revoke_serial(ca, gone, NOW + 11 + FORGET_AFTER)


def test_what_was_renewed_from_it_is_revoked_with_it(ca: LocalCa) -> None:
    """Whoever has a stolen key may have renewed with it before anybody noticed."""

    def renew(after: int) -> int:
        how = {"by": "renewal", "after": f"{after:032x}"}
        key = new_key().public_key()
        return ca.issue(ALICE, key, ttl=3600, now=NOW, how=how).svid.serial

    stolen, other = issue(ca), issue(ca)
    by_thief, by_owner = renew(stolen), renew(stolen)
    again, unrelated = renew(by_thief), renew(other)
    found = [one.serial for one in revoke_serial(ca, stolen, NOW)]
    assert found == [stolen, by_thief, by_owner, again]
    denied = now_denied(ca)
    assert all(denied.why(ALICE, serial, ()) for serial in found)
    assert not any(denied.why(ALICE, serial, ()) for serial in (other, unrelated))


def test_who_is_let_in_again_has_to_join_anew(ca: LocalCa) -> None:
    stolen = issue(ca)
    revoke_id(ca, ALICE, NOW)
    assert restore_id(ca, ALICE, NOW) == 1
    assert now_denied(ca).why(ALICE, stolen, ()), "what was stolen stays of no use"
    assert not now_denied(ca).why(ALICE, issue(ca), ())
    with pytest.raises(StartError, match="is not revoked"):
        restore_id(ca, ALICE, NOW)


def test_a_serial_is_forgotten_a_month_after_its_end(ca: LocalCa) -> None:
    serial = issue(ca, ttl=10)
    revoke_serial(ca, serial, NOW)
    other = SpiffeId.of_short("agent/other")
    revoke_id(ca, other, NOW + FORGET_AFTER)
    assert serial in now_denied(ca).serials
    revoke_id(ca, other, NOW + FORGET_AFTER + 11)
    assert serial not in now_denied(ca).serials


def test_every_change_is_logged_and_has_a_higher_sequence(ca: LocalCa) -> None:
    serial = issue(ca)
    seen = [now_denied(ca).sequence]
    for change in (
        lambda: revoke_id(ca, ALICE, NOW),
        lambda: restore_id(ca, ALICE, NOW),
        lambda: revoke_serial(ca, serial, NOW),
    ):
        change()
        seen.append(now_denied(ca).sequence)
    assert seen == sorted(set(seen))
    assert [one.event for one in entries(ca.folder)][-3:] == ["revoked", "restored", "revoked"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"trust_domain":"other.test","sequence":1,"ids":[]}']
)
def test_a_list_that_cannot_be_read_is_an_error_and_not_an_empty_one(
    ca: LocalCa, text: str
) -> None:
    revoke_id(ca, ALICE, NOW)
    (ca.folder / REVOKED).write_text(text)
    with pytest.raises(StartError, match=r"revoked\.json"):
        now_denied(ca)


def test_another_trust_domains_list_is_an_error(ca: LocalCa) -> None:
    (ca.folder / REVOKED).write_bytes(Revocations("other.test").document())
    with pytest.raises(StartError, match="other\\.test"):
        now_denied(ca)
