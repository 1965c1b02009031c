"""A deny list in a file is followed, never back to an older one; what is torn is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.denylist import DenyList, DenyListUnread
from sidecar.spiffe.revocation import Revocations

DOMAIN = "cluster.local"
BAD = "spiffe://cluster.local/ns/agent/sa/bad"


def put(path: Path, sequence: int, *ids: str, domain: str = DOMAIN) -> Path:
    path.write_bytes(Revocations(domain, sequence, frozenset(ids)).document())
    path.chmod(0o644)
    return path


def test_it_is_read_anew_each_time(tmp_path: Path) -> None:
    path = put(tmp_path / "list", 1)
    found = DenyList(path, None)
    assert not found.read(DOMAIN).ids
    put(path, 2, BAD)
    assert found.read(DOMAIN).ids == {BAD}
    assert not found.stayed


@pytest.mark.parametrize("then", ["older", "gone"])
def test_what_was_known_stays(then: str, tmp_path: Path) -> None:
    path = put(tmp_path / "list", 5, BAD)
    found = DenyList(path, None)
    found.read(DOMAIN)
    if then == "older":
        put(path, 4)
    else:
        path.unlink()
    assert found.read(DOMAIN).ids == {BAD}
    assert found.stayed


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"trust_domain": "cluster.local"}', b"\xff" * 100]
)
def test_what_cannot_be_read_is_an_error_also_where_it_was_known(
    text: bytes, tmp_path: Path
) -> None:
    path = put(tmp_path / "list", 1, BAD)
    found = DenyList(path, None)
    found.read(DOMAIN)
    path.write_bytes(text)
    with pytest.raises(DenyListUnread, match="list"):
        found.read(DOMAIN)
    put(path, 2)
    assert not found.read(DOMAIN).ids


def test_one_that_others_may_write_or_of_another_domain_is_an_error(tmp_path: Path) -> None:
    path = put(tmp_path / "list", 1)
    path.chmod(0o666)
    with pytest.raises(DenyListUnread, match="written by others"):
        DenyList(path, None).read(DOMAIN)
    path = put(tmp_path / "other", 1, domain="other.test")
    with pytest.raises(DenyListUnread, match=r"other\.test"):
        DenyList(path, None).read(DOMAIN)


def test_a_folder_in_its_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "list").mkdir()
    with pytest.raises(DenyListUnread):
        DenyList(tmp_path / "list", None).read(DOMAIN)


def test_one_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(DenyListUnread, match="no deny list") as raised:
        DenyList(tmp_path / "list", None).read(DOMAIN)
    assert "revoked.json" in raised.value.help


def test_a_ca_that_never_revoked_anybody_has_none(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    assert DenyList(tmp_path / "list", own).read(DOMAIN) == Revocations(DOMAIN)
    assert list(own.iterdir()) == []


def test_what_a_ca_said_is_known_after_a_restart_without_it(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    path = put(tmp_path / "list", 7, BAD)
    DenyList(path, own).read(DOMAIN)
    path.unlink()
    again = DenyList(path, own)
    assert again.read(DOMAIN).ids == {BAD}
    assert again.stayed
    put(path, 6)
    assert again.read(DOMAIN).ids == {BAD}
