"""The identity on disk: whole, ours alone, and with life left."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cryptography import x509

from sidecar.checks.identity import identity, span
from sidecar.checks.outcome import NAMES, Outcome
from sidecar.remote.ca_enrolment import DENIED, RemoteCa
from sidecar.rotation import IdentitySpec
from sidecar.spiffe.certificate import Certificate
from sidecar.spiffe.revocation import Revocations

from ..support.mint import Mint


def test_an_identity_with_life_left_is_two_ticks(tmp_path: Path) -> None:
    files = Mint(tmp_path / "mint").leaf("mcp/files", folder=tmp_path / "own")
    outcomes = list(identity(IdentitySpec(files.cert.parent), time.time()))
    assert [(one.name, one.ok) for one in outcomes] == [("identity", True), ("expiry", True)]
    assert outcomes[0].said == "spiffe://cluster.local/ns/mcp/sa/files"
    assert {one.name for one in outcomes} <= set(NAMES)


def test_one_that_nobody_renews_is_a_cross_before_it_is_too_late(tmp_path: Path) -> None:
    now = time.time()
    files = Mint(tmp_path / "mint").leaf("mcp/files", folder=tmp_path / "own")
    end = next(
        one for one in identity(IdentitySpec(files.cert.parent), now) if one.name == "expiry"
    )
    assert end.ok
    late = list(identity(IdentitySpec(files.cert.parent), _near_the_end(files.cert, now)))
    assert [one.ok for one in late] == [True, False]
    assert "nobody has renewed it" in late[1].said


def _near_the_end(path: Path, now: float) -> float:
    found = Certificate.from_pem(path.read_bytes())
    return found.not_after - (found.not_after - now) * 0.1


@pytest.mark.parametrize("damage", ["missing", "open", "expired"])
def test_what_is_wrong_with_an_identity_is_said_with_its_remedy(
    tmp_path: Path, damage: str
) -> None:
    files = Mint(tmp_path / "mint").leaf("mcp/files", folder=tmp_path / "own")
    now = time.time()
    if damage == "missing":
        files.key.unlink()
    elif damage == "open":
        files.key.chmod(0o644)
    else:
        now += 10 * 365 * 86_400
    [cross] = identity(IdentitySpec(files.cert.parent), now)
    assert cross.ok is False
    assert cross.remedy


class Machine:
    """A machine whose identity comes from a CA elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.token = folder / "own", folder / "token"
        self.folder.mkdir()
        self.spec = IdentitySpec(
            self.folder, "mcp/files", remote=RemoteCa("https://127.0.0.1:1", self.token)
        )

    def put_token(self, text: str = f"v1.{'0' * 64}.{'0' * 32}", mode: int = 0o600) -> None:
        self.token.write_text(text)
        self.token.chmod(mode)

    def joined(self) -> x509.Certificate:
        return Mint(self.folder.parent / "mint").leaf("mcp/files", folder=self.folder).leaf

    def found(self, *, starting: bool = False) -> dict[str, Outcome]:
        return {one.name: one for one in identity(self.spec, time.time(), starting=starting)}


def test_before_the_first_start_a_token_is_all_that_is_needed(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    crosses = machine.found(starting=True)
    assert crosses["token"].ok is False
    assert "sidecar ca token" in crosses["token"].remedy
    machine.put_token()
    assert [one.ok for one in machine.found(starting=True).values()] == [True, None]
    cross = machine.found()["identity"]
    assert cross.ok is False
    assert "issue-cert" not in cross.remedy, "it would make another mesh"


@pytest.mark.parametrize(("text", "mode"), [("v1.no.token", 0o600), (f"{'0' * 9}", 0o644)])
def test_a_token_that_cannot_be_used_is_a_cross(tmp_path: Path, text: str, mode: int) -> None:
    machine = Machine(tmp_path)
    machine.put_token(text, mode)
    cross = machine.found(starting=True)["token"]
    assert cross.ok is False
    assert cross.remedy
    machine.joined()
    assert machine.found()["token"].ok is False, "it may still be good for another to join with"


def test_one_that_the_ca_has_taken_back_is_a_cross(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    leaf = machine.joined()
    assert [one.ok for one in machine.found().values()] == [None, True, True, None]
    denied = Revocations("cluster.local", 1)
    for serials, good in (({}, True), ({leaf.serial_number: time.time()}, False)):
        denied = denied.with_changes(time.time(), serials=serials)
        (machine.folder / DENIED).write_bytes(denied.document())
        (machine.folder / DENIED).chmod(0o644)
        assert machine.found()["revoked"].ok is good
    assert "sidecar ca revoke --undo mcp/files" in machine.found()["revoked"].remedy


def test_without_an_identity_there_is_nothing_to_look_at() -> None:
    assert [one.ok for one in identity(None, 0.0)] == [None]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(5, "5 s"), (90, "90 s"), (180, "3 min"), (7_200, "2 h"), (172_800, "2 d")],
)
def test_a_length_of_time_is_said_shortly(seconds: float, said: str) -> None:
    assert span(seconds) == said
