"""The identity on disk: whole, ours alone, and with life left."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sidecar.checks.identity import identity, span
from sidecar.rotation import IdentitySpec
from sidecar.spiffe.certificate import Certificate

from ..support.mint import Mint


def test_an_identity_with_life_left_is_two_ticks(tmp_path: Path) -> None:
    files = Mint(tmp_path / "mint").leaf("mcp/files", folder=tmp_path / "own")
    outcomes = list(identity(IdentitySpec(files.cert.parent), time.time()))
    assert [(one.name, one.ok) for one in outcomes] == [("identity", True), ("expiry", True)]
    assert outcomes[0].said == "spiffe://cluster.local/ns/mcp/sa/files"


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


def test_without_an_identity_there_is_nothing_to_look_at() -> None:
    assert [one.ok for one in identity(None, 0.0)] == [None]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(5, "5 s"), (90, "90 s"), (180, "3 min"), (7_200, "2 h"), (172_800, "2 d")],
)
def test_a_length_of_time_is_said_shortly(seconds: float, said: str) -> None:
    assert span(seconds) == said
