"""An identity on disk: read with care, replaced as one."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from support.mint import REFUSED_FOR, WRONG, Files, Mint

from sidecar.ca.identity import identity_in, load_identity, write_identity
from sidecar.ca.store import key_pem, make_ca, new_key
from sidecar.errors import IdentityError, StartError
from sidecar.spiffe.id import SpiffeId

NOW = 1_790_000_000.0


@pytest.fixture
def mint(tmp_path: Path) -> Mint:
    return Mint(tmp_path, now=NOW)


def write(folder: Path, files: Files) -> None:
    write_identity(folder, *(f.read_bytes() for f in (files.cert, files.key, files.bundle)))


def reason_of(folder: Path, now: float = NOW) -> str:
    with pytest.raises(IdentityError) as raised:
        load_identity(folder, now)
    return raised.value.reason


def test_what_was_written_is_loaded(mint: Mint, tmp_path: Path) -> None:
    files, folder = mint.leaf("agent/alice"), tmp_path / "id" / "alice"
    write(folder, files)
    svid, certificate, key, bundle = load_identity(folder, NOW)
    assert str(svid.id) == "spiffe://cluster.local/ns/agent/sa/alice"
    assert certificate == files.cert.read_bytes()
    assert key == files.key.read_bytes()
    assert bundle == mint.root_pem
    assert folder.stat().st_mode & 0o777 == 0o700
    assert identity_in(folder) == str(svid.id)


def test_what_the_ca_issues_is_loaded(tmp_path: Path) -> None:
    ca, key = make_ca(tmp_path / "ca", "cluster.local", NOW), new_key()
    issued = ca.issue(SpiffeId.of_short("a/b"), key.public_key(), ttl=60, now=NOW)
    write_identity(tmp_path / "id", issued.chain, key_pem(key), issued.bundle)
    assert load_identity(tmp_path / "id", NOW).svid == issued.svid


@pytest.mark.parametrize("name", ["svid.pem", "svid_key.pem", "svid_bundle.pem"])
def test_a_missing_file_is_named_with_what_makes_it(mint: Mint, name: str) -> None:
    folder = mint.leaf().folder
    (folder / name).unlink()
    with pytest.raises(StartError, match=name) as raised:
        load_identity(folder, NOW)
    assert raised.value.code == 1
    assert "issue-cert" in raised.value.help


def test_a_missing_folder_is_an_identity_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="no identity"):
        load_identity(tmp_path / "none", NOW)
    assert identity_in(tmp_path / "none") == ""


@pytest.mark.parametrize(
    ("name", "mode", "remedy"),
    [
        ("svid_key.pem", 0o644, "chmod 600"),
        ("svid_key.pem", 0o640, "chmod 600"),
        ("svid.pem", 0o666, "chmod go-w"),
        ("svid_bundle.pem", 0o664, "chmod go-w"),
        (".", 0o777, "chmod go-w"),
    ],
)
def test_files_that_others_may_touch_stop_the_start(
    mint: Mint, name: str, mode: int, remedy: str
) -> None:
    folder = mint.leaf().folder
    (folder / name).chmod(mode)
    with pytest.raises(StartError) as raised:
        load_identity(folder, NOW)
    assert raised.value.code == 77
    assert remedy in raised.value.help


@pytest.mark.parametrize("fault", sorted(set(WRONG) - {"other_trust_domain"}))
def test_files_that_prove_nothing_are_refused_for_their_reason(mint: Mint, fault: str) -> None:
    assert reason_of(mint.wrong(fault).folder) == REFUSED_FOR.get(fault, fault)


def test_the_bundle_beside_a_certificate_is_taken_for_its_own_trust_domains(mint: Mint) -> None:
    # Which trust domain one is in is the operator's word: there is no other bundle to ask.
    found = load_identity(mint.wrong("other_trust_domain").folder, NOW)
    assert found.svid.id.trust_domain == "stranger.test"


def test_an_identity_past_its_time_is_refused(mint: Mint) -> None:
    folder = mint.leaf(not_after=60).folder
    assert load_identity(folder, NOW + 60)
    assert reason_of(folder, NOW + 61) == "expired"


def test_a_key_of_another_certificate_is_refused(mint: Mint) -> None:
    folder = mint.leaf().folder
    shutil.copy(mint.leaf().key, folder / "svid_key.pem")
    assert reason_of(folder) == "key_mismatch"


def test_a_bundle_of_another_ca_is_refused(mint: Mint, tmp_path: Path) -> None:
    folder = mint.leaf().folder
    (folder / "svid_bundle.pem").write_bytes(Mint(tmp_path / "other", now=NOW).root_pem)
    assert reason_of(folder) == "unknown_ca"


def test_nothing_is_written_where_others_may_write(mint: Mint, tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(StartError) as raised:
        write(folder, mint.leaf())
    assert raised.value.code == 77
    assert list(folder.iterdir()) == []


def test_a_reader_never_meets_a_pair_that_does_not_match(mint: Mint, tmp_path: Path) -> None:
    folder, sets = tmp_path / "id", [mint.leaf(f"agent/n{n}") for n in range(4)]
    write(folder, sets[0])
    over = threading.Event()
    faults: list[BaseException] = []
    looks = 0

    def look() -> None:
        nonlocal looks
        while not over.is_set():
            try:
                load_identity(folder, NOW)
                looks += 1
            except BaseException as error:
                faults.append(error)
                return

    reader = threading.Thread(target=look)
    reader.start()
    for turn in range(60):
        write(folder, sets[turn % len(sets)])
    over.set()
    reader.join(10)
    assert not faults
    assert looks > 5
