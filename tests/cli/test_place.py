"""What whoever starts a sidecar lends it: folders, and a credential."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sidecar import units
from sidecar.cli import place
from sidecar.cli.run import Sources, from_file
from sidecar.plan import Plan

CA = {"ca": "https://127.0.0.1:8444"}


def planned(folder: Path, identity: dict[str, str]) -> Plan:
    document = {
        "apiVersion": "sidecar/v1",
        "kind": "Sidecar",
        "metadata": {"name": "files", "namespace": "mcp"},
        "spec": {
            "identity": identity,
            "inbound": [{"listen": "127.0.0.1:8443", "to": "http://127.0.0.1:9000"}],
        },
    }
    (folder / "sidecar.yaml").write_text(json.dumps(document))
    return from_file(str(folder / "sidecar.yaml"), Sources())()


@pytest.fixture
def lent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/state:/second")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", f"{tmp_path}/credentials")
    return tmp_path


def test_an_identity_of_a_ca_elsewhere_is_kept_in_the_state_that_is_lent(lent: Path) -> None:
    spec = planned(lent, CA).identity
    assert spec is not None
    assert spec.remote is not None
    assert spec.folder == lent / "state" / "certs" / "mcp" / "files"
    assert spec.remote.token_file == lent / "credentials" / "join-token"
    assert spec.remote.lent


def test_what_is_written_counts_more_than_what_is_lent(lent: Path) -> None:
    spec = planned(lent, {**CA, "certs": "./here", "tokenFile": "./token"}).identity
    assert spec is not None
    assert spec.remote is not None
    assert spec.folder == lent / "here"
    assert spec.remote.token_file == lent / "token"
    assert not spec.remote.lent


def test_files_of_somebody_elses_making_are_not_looked_for_in_the_state(lent: Path) -> None:
    spec = planned(lent, {"certs": "./certs/mcp/files"}).identity
    assert spec is not None
    assert spec.folder == lent / "certs" / "mcp" / "files"


def test_without_anything_lent_all_is_beside_the_bootstrap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STATE_DIRECTORY", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    spec = planned(tmp_path, CA).identity
    assert spec is not None
    assert spec.remote is not None
    assert spec.folder == tmp_path / "certs" / "mcp" / "files"
    assert spec.remote.token_file is None


def test_who_looks_at_a_unit_from_outside_sees_its_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CONFIGURATION", "STATE", "RUNTIME"):
        monkeypatch.setattr(units, name, str(tmp_path / name.lower()))
    config = tmp_path / "configuration" / "files.yaml"
    assert place.seen_from(config, {}) == {}, "there is no such unit here"
    for name in ("state", "runtime"):
        (tmp_path / name / "files").mkdir(parents=True)
    assert place.seen_from(config, {"A": "b"}) == {
        "A": "b",
        "STATE_DIRECTORY": f"{tmp_path}/state/files",
        "RUNTIME_DIRECTORY": f"{tmp_path}/runtime/files",
    }
    assert place.seen_from(config, {"STATE_DIRECTORY": "/x"})["STATE_DIRECTORY"] == "/x"
    assert place.seen_from(tmp_path / "files.yaml", {}) == {}
