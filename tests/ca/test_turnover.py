"""A new intermediate: the old one's certificates hold until nothing needs it any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.ca.revocations import load_revocations
from sidecar.ca.store import (
    INTERMEDIATE,
    ROOT_KEY,
    LocalCa,
    RotatedAway,
    key_pem,
    make_ca,
    new_key,
    open_ca,
)
from sidecar.ca.turnover import load_root_key, retire, retired, rotate
from sidecar.errors import StartError
from sidecar.spiffe.bundle import Bundles, TrustBundle
from sidecar.spiffe.certificate import Certificate
from sidecar.spiffe.id import SpiffeId
from sidecar.spiffe.svid import verify_path

NOW = 1_790_000_000.0
LIFE = 30 * 86400.0
ALICE = SpiffeId.of_short("agent/alice")


@pytest.fixture
def ca(tmp_path: Path) -> LocalCa:
    return make_ca(tmp_path / "ca", "cluster.local", NOW)


def turn(ca: LocalCa, now: float = NOW) -> tuple[LocalCa, float]:
    return rotate(ca.folder, load_root_key(ca.folder, None, None), now, life=LIFE)


def issue(ca: LocalCa, ttl: float = 3600) -> list[bytes]:
    issued = ca.issue(ALICE, new_key().public_key(), ttl=ttl, now=NOW)
    return [one.der for one in Certificate.all_from_pem(issued.chain)]


def test_both_generations_are_proved_by_the_same_root(ca: LocalCa) -> None:
    old = issue(ca)
    new_ca, _ = turn(ca)
    new = issue(new_ca)
    assert old[1] != new[1]
    bundles = Bundles.of([TrustBundle.from_pem(ca.bundle, "cluster.local")])
    assert verify_path(old, bundles, NOW).id == verify_path(new, bundles, NOW).id == ALICE
    below = Certificate.from_der(new[1])
    assert (below.path_length, below.not_after) == (0, NOW + LIFE)


def test_who_opened_the_ca_before_cannot_issue_by_the_old_key(ca: LocalCa) -> None:
    turn(ca)
    with pytest.raises(RotatedAway):
        issue(ca)
    issue(open_ca(ca.folder))


def test_the_old_one_is_kept_until_the_longest_of_its_certificates_has_ended(ca: LocalCa) -> None:
    issue(ca, ttl=500)
    issue(ca, ttl=9000)
    new, until = turn(ca)
    assert until == NOW + 9000 + 60
    assert retire(new, until - 1) == []
    assert [one.sha256 for one in retire(new, until)] == [ca.issuer.certificate.sha256]
    assert retired(ca.folder) == []
    denied = load_revocations(ca.folder, "cluster.local")
    old = ca.issuer.certificate
    assert denied.authorities == {old.sha256, old.signed_sha256}


def test_in_need_it_is_dropped_at_once(ca: LocalCa) -> None:
    issue(ca)
    new, _ = turn(ca)
    assert len(retire(new, NOW, at_once=True)) == 1


def test_two_turns_in_a_row_wait_for_both(ca: LocalCa) -> None:
    issue(ca)
    second, _ = turn(ca)
    issue(second)
    third, until = turn(second)
    assert len(retired(ca.folder)) == 2
    assert len(retire(third, until)) == 2


def test_an_encrypted_root_key_needs_its_passphrase(tmp_path: Path) -> None:
    ca = make_ca(tmp_path / "ca", "cluster.local", NOW, passphrase=b"correct")
    for wrong in (None, b"wrong"):
        with pytest.raises(StartError, match="cannot be opened"):
            load_root_key(ca.folder, None, wrong)
    assert load_root_key(ca.folder, None, b"correct")


def test_the_roots_key_may_be_kept_elsewhere(ca: LocalCa, tmp_path: Path) -> None:
    away = (ca.folder / ROOT_KEY).rename(tmp_path / "usb.pem")
    with pytest.raises(StartError, match="root's key is not in"):
        load_root_key(ca.folder, None, None)
    new, _ = rotate(ca.folder, load_root_key(ca.folder, away, None), NOW, life=LIFE)
    issue(new)


def test_another_roots_key_is_refused_and_changes_nothing(ca: LocalCa, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.touch(mode=0o600)
    other.write_bytes(key_pem(new_key()))
    before = (ca.folder / INTERMEDIATE).read_bytes()
    with pytest.raises(StartError, match="another root"):
        rotate(ca.folder, load_root_key(ca.folder, other, None), NOW, life=LIFE)
    assert (ca.folder / INTERMEDIATE).read_bytes() == before
