"""The CA behind an identity: there or not, its clock, and how old its word is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.checks.authority import authority
from sidecar.checks.outcome import Outcome
from sidecar.remote.ca_enrolment import DENIED, RemoteCa
from sidecar.rotation import IdentitySpec

from ..support.ca_host import CaHost
from ..support.daemon import free_port


def found(spec: IdentitySpec | None, now: float) -> dict[str, Outcome]:
    return {one.name: one for one in authority(spec, now)}


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaHost]:
    with CaHost(tmp_path_factory.mktemp("ca")).serve() as host:
        yield host


def elsewhere(folder: Path, url: str) -> IdentitySpec:
    return IdentitySpec(folder, "mcp/files", remote=RemoteCa(url, max_age=3600.0))


def told(folder: Path, when: float) -> None:
    (folder / DENIED).touch()
    os.utime(folder / DENIED, (when, when))


def test_where_nobody_renews_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    for spec in (None, IdentitySpec(tmp_path)):
        assert [one.ok for one in authority(spec, 0.0)] == [None]


def test_a_ca_in_a_folder_must_be_there(ca: CaHost, tmp_path: Path) -> None:
    assert found(IdentitySpec(tmp_path, ca=ca.ca), 0.0)["CA"].ok
    missing = found(IdentitySpec(tmp_path, ca=tmp_path), 0.0)["CA"]
    assert missing.ok is False
    assert "sidecar ca init" in missing.remedy


@pytest.mark.parametrize("joined", [True, False])
def test_one_that_answers_is_three_ticks(ca: CaHost, tmp_path: Path, joined: bool) -> None:
    if joined:
        (tmp_path / "svid_bundle.pem").write_text(ca.cli("bundle"))
    now = time.time()
    told(tmp_path, now - 10)
    outcomes = found(elsewhere(tmp_path, ca.url), now)
    assert {name: one.ok for name, one in outcomes.items()} == {
        "CA": True,
        "clock skew": True,
        "bundle age": True,
    }


def test_another_clock_is_a_cross(ca: CaHost, tmp_path: Path) -> None:
    outcomes = found(elsewhere(tmp_path, ca.url), time.time() + 600)
    assert outcomes["clock skew"].ok is False
    assert "10 min ahead of the CA" in outcomes["clock skew"].said


def test_somebody_else_at_its_address_is_not_taken_for_it(ca: CaHost, tmp_path: Path) -> None:
    other = CaHost(tmp_path / "other")
    (tmp_path / "svid_bundle.pem").write_text(other.cli("bundle"))
    outcomes = found(elsewhere(tmp_path, ca.url), time.time())
    assert outcomes["CA"].ok is False
    assert "another than the CA that is known" in outcomes["CA"].said


def test_what_is_no_ca_at_its_address_is_a_cross(
    ca: CaHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.checks.authority._ASKED", "/v1/nothing")
    outcomes = found(elsewhere(tmp_path, ca.url), time.time())
    assert outcomes["CA"].ok is False
    assert "404" in outcomes["CA"].said


def test_before_the_first_start_it_need_not_have_told_anything(ca: CaHost, tmp_path: Path) -> None:
    spec = elsewhere(tmp_path, ca.url)
    outcomes = {one.name: one for one in authority(spec, time.time(), starting=True)}
    assert [one.ok for one in outcomes.values()] == [True, True, None]


def test_one_that_is_away_is_a_cross_before_its_word_is_too_old(tmp_path: Path) -> None:
    spec = elsewhere(tmp_path, f"https://127.0.0.1:{free_port()}")
    now = time.time()
    assert found(spec, now)["bundle age"].ok is False, "it has never told"
    told(tmp_path, now - 60)
    outcomes = found(spec, now)
    assert (outcomes["CA"].ok, outcomes["bundle age"].ok) == (False, True)
    assert "Connection refused" in outcomes["CA"].said
    assert outcomes["clock skew"].ok is None
    told(tmp_path, now - 3601)
    assert found(spec, now)["bundle age"].ok is False
