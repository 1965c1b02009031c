"""A CA in a folder: made once and whole, refused when exposed or in pieces."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from sidecar.ca.issue_log import LOG
from sidecar.ca.log import Entry, read_log
from sidecar.ca.store import (
    INTERMEDIATE,
    INTERMEDIATE_KEY,
    ROOT,
    ROOT_KEY,
    Issued,
    LocalCa,
    make_ca,
    new_key,
    open_ca,
    open_or_make_ca,
)
from sidecar.errors import IdentityError, StartError
from sidecar.spiffe.bundle import Bundles, TrustBundle
from sidecar.spiffe.certificate import Certificate
from sidecar.spiffe.id import SpiffeId
from sidecar.spiffe.svid import verify_path

NOW = 1_790_000_000.0
ALICE = SpiffeId.of_short("agent/alice")
KILLING = Path(__file__).with_name("killing.py")


@pytest.fixture
def ca(tmp_path: Path) -> LocalCa:
    return make_ca(tmp_path / "ca", "cluster.local", NOW)


def issue(ca: LocalCa, ttl: float = 3600, now: float = NOW, identity: SpiffeId = ALICE) -> Issued:
    return ca.issue(identity, new_key().public_key(), ttl=ttl, now=now)


def entries(ca: LocalCa) -> list[Entry]:
    with (ca.folder / LOG).open("rb") as lines:
        return list(read_log(lines))


def modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


def test_a_ca_is_its_owners_alone(ca: LocalCa) -> None:
    assert ca.folder.stat().st_mode & 0o777 == 0o700
    assert modes(ca.folder) == {
        ROOT: 0o644,
        ROOT_KEY: 0o600,
        INTERMEDIATE: 0o644,
        INTERMEDIATE_KEY: 0o600,
        LOG: 0o600,
        ".lock": 0o600,
    }


def test_an_issued_identity_is_proved_by_the_cas_bundle(ca: LocalCa) -> None:
    issued = issue(ca)
    chain = [one.der for one in Certificate.all_from_pem(issued.chain)]
    bundles = Bundles.of([TrustBundle.from_pem(issued.bundle, "cluster.local")])
    assert len(chain) == 2
    assert verify_path(chain, bundles, NOW) == issued.svid
    assert issued.svid.id == ALICE


def test_a_ca_opened_again_is_the_same(ca: LocalCa) -> None:
    again, made = open_or_make_ca(ca.folder, "other.test", NOW)
    assert not made
    assert again.root_sha256 == open_ca(ca.folder).root_sha256 == ca.root_sha256
    assert again.trust_domain == "cluster.local"
    assert issue(again).bundle == ca.bundle


def test_a_ca_is_not_made_over_another(ca: LocalCa) -> None:
    with pytest.raises(StartError, match="already"):
        make_ca(ca.folder, "cluster.local", NOW)


def test_a_named_ca_that_is_missing_is_an_error(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o700)
    for folder in (tmp_path / "none", empty):
        with pytest.raises(StartError, match="no CA") as raised:
            open_ca(folder)
        assert raised.value.code == 1
    assert not (tmp_path / "none").exists()


def test_an_empty_folder_is_closed_to_others_before_it_gets_a_ca(tmp_path: Path) -> None:
    folder = tmp_path / "volume"
    folder.mkdir(mode=0o755)
    _, made = open_or_make_ca(folder, "cluster.local", NOW)
    assert made
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_of_other_things_gets_no_ca(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("hello")
    tmp_path.chmod(0o700)
    with pytest.raises(StartError, match=r"letter\.txt"):
        open_or_make_ca(tmp_path, "cluster.local", NOW)
    assert strangers_of(tmp_path) == ["letter.txt"]


def strangers_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("lost", [ROOT, INTERMEDIATE, INTERMEDIATE_KEY, LOG])
def test_a_ca_that_lost_a_file_is_refused_and_never_filled_up(ca: LocalCa, lost: str) -> None:
    (ca.folder / lost).unlink()
    for attempt in (
        lambda: open_ca(ca.folder),
        lambda: open_or_make_ca(ca.folder, "cluster.local", NOW),
        lambda: make_ca(ca.folder, "cluster.local", NOW),
    ):
        with pytest.raises(StartError, match=lost):
            attempt()
    assert not (ca.folder / lost).exists()


def test_the_roots_key_may_be_kept_elsewhere(ca: LocalCa) -> None:
    (ca.folder / ROOT_KEY).unlink()
    assert issue(open_ca(ca.folder)).svid.id == ALICE


def test_the_roots_key_may_have_a_passphrase_and_issuing_does_not_ask(tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    make_ca(folder, "cluster.local", NOW, passphrase=b"secret")
    pem = (folder / ROOT_KEY).read_bytes()
    with pytest.raises(TypeError):
        load_pem_private_key(pem, None)
    assert load_pem_private_key(pem, b"secret")
    assert issue(open_ca(folder)).svid.id == ALICE


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        (INTERMEDIATE_KEY, 0o640),
        (ROOT_KEY, 0o604),
        (ROOT, 0o664),
        (INTERMEDIATE, 0o646),
        (".", 0o755),
    ],
)
def test_an_exposed_ca_is_not_opened(ca: LocalCa, name: str, mode: int) -> None:
    (ca.folder / name).chmod(mode)
    for attempt in (
        lambda: open_ca(ca.folder),
        lambda: open_or_make_ca(ca.folder, "cluster.local", NOW),
    ):
        with pytest.raises(StartError) as raised:
            attempt()
        assert raised.value.code == 77
        assert "chmod" in raised.value.help


@pytest.mark.parametrize("name", [ROOT, INTERMEDIATE, INTERMEDIATE_KEY])
def test_files_of_two_cas_are_not_one(ca: LocalCa, tmp_path: Path, name: str) -> None:
    other = make_ca(tmp_path / "other", "cluster.local", NOW)
    (ca.folder / name).write_bytes((other.folder / name).read_bytes())
    with pytest.raises(StartError, match="not usable"):
        open_ca(ca.folder)


@pytest.mark.parametrize("name", [ROOT, INTERMEDIATE, INTERMEDIATE_KEY])
def test_a_damaged_file_of_the_ca_is_refused(ca: LocalCa, name: str) -> None:
    (ca.folder / name).write_bytes(b"-----BEGIN NOTHING-----\n")
    with pytest.raises(StartError):
        open_ca(ca.folder)


def test_files_of_two_trust_domains_are_not_one(ca: LocalCa, tmp_path: Path) -> None:
    other = make_ca(tmp_path / "other", "other.test", NOW)
    for name in (INTERMEDIATE, INTERMEDIATE_KEY):
        (ca.folder / name).write_bytes((other.folder / name).read_bytes())
    with pytest.raises(StartError, match="differ"):
        open_ca(ca.folder)


def test_the_cas_key_must_be_of_the_kind_it_makes(ca: LocalCa) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (ca.folder / INTERMEDIATE_KEY).write_bytes(pem)
    with pytest.raises(StartError, match="elliptic"):
        open_ca(ca.folder)


def test_an_entry_written_in_part_is_taken_back(
    ca: LocalCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, write_all = (ca.folder / LOG).read_bytes(), os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda handle, data: write_all(handle, data[:10]))
        with pytest.raises(OSError, match="whole"):
            issue(ca)
    assert (ca.folder / LOG).read_bytes() == before


def test_a_workloads_certificate_makes_no_ca(ca: LocalCa) -> None:
    (ca.folder / INTERMEDIATE).write_bytes(issue(ca).chain)
    with pytest.raises(StartError, match="not usable"):
        open_ca(ca.folder)


@pytest.mark.parametrize("ttl", [0, -1, 90 * 86400 + 1])
def test_a_lifetime_out_of_range_is_refused(ca: LocalCa, ttl: float) -> None:
    with pytest.raises(IdentityError) as raised:
        issue(ca, ttl=ttl)
    assert raised.value.reason == "ttl"
    assert len(entries(ca)) == 1


def test_a_certificate_does_not_outlive_its_ca(tmp_path: Path) -> None:
    ca = make_ca(tmp_path / "ca", "demo.local", NOW, life=7200)
    issued = issue(ca, 86400, NOW + 3600, SpiffeId.of_short("agent/alice", "demo.local"))
    assert issued.svid.not_after == NOW + 7200
    for now, reason in ((NOW + 7201, "expired"), (NOW - 61, "not_yet_valid")):
        with pytest.raises(IdentityError) as raised:
            issue(ca, 60, now)
        assert raised.value.reason == reason


def test_everything_issued_is_in_the_log_and_follows(ca: LocalCa) -> None:
    issued = [issue(ca, now=NOW + n).svid for n in range(3)]
    first, *rest = entries(ca)
    assert (first.event, first.facts["root"]) == ("made", ca.root_sha256)
    assert [entry.facts["serial"] for entry in rest] == [f"{one.serial:032x}" for one in issued]
    assert [entry.facts["sha256"] for entry in rest] == [one.sha256 for one in issued]
    assert {entry.facts["spiffe_id"] for entry in rest} == {str(ALICE)}


def test_a_line_cut_short_is_cut_off_and_said(ca: LocalCa) -> None:
    issue(ca)
    with (ca.folder / LOG).open("ab") as file:
        file.write(b'{"n":3,"time":"2026')
    issue(ca)
    assert [entry.event for entry in entries(ca)] == ["made", "issued", "mended", "issued"]
    assert entries(ca)[2].facts["cut"] == 19


def test_nothing_is_issued_past_a_damaged_log(ca: LocalCa) -> None:
    with (ca.folder / LOG).open("ab") as file:
        file.write(b"not an entry\n")
    before = (ca.folder / LOG).read_bytes()
    with pytest.raises(StartError, match="damaged") as raised:
        issue(ca)
    assert LOG in raised.value.help
    assert (ca.folder / LOG).read_bytes() == before


def test_an_endless_line_in_the_log_is_refused(ca: LocalCa) -> None:
    (ca.folder / LOG).write_bytes(b"x" * 200_000)
    with pytest.raises(StartError, match="no end"):
        issue(ca)


def test_an_emptied_log_begins_a_new_chain(ca: LocalCa) -> None:
    (ca.folder / LOG).write_bytes(b"")
    issue(ca)
    assert [entry.number for entry in entries(ca)] == [1]


def test_a_log_that_cannot_be_written_stops_the_issue_and_stays_whole(
    ca: LocalCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue(ca)
    before = (ca.folder / LOG).read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            issue(ca)
    assert (ca.folder / LOG).read_bytes() == before
    issue(ca)
    assert len(entries(ca)) == 3


@pytest.mark.parametrize(("what", "early", "late"), [
    ("ca", "made", "finished"),
    ("identity", "old", "new"),
])  # fmt: skip
def test_a_kill_at_any_moment_leaves_something_whole(
    tmp_path: Path, what: str, early: str, late: str
) -> None:
    done = subprocess.run(
        [sys.executable, KILLING, what, tmp_path], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    states = [line.split()[1] for line in done.stdout.splitlines()]
    assert len(states) > 15
    # What was begun is undone up to one moment, and done from there on.
    assert states == sorted(states, key=[early, late].index)
    assert set(states) == {early, late}
