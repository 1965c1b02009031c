"""Files between root and a service: credentials that are lent, and what root makes for another."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from sidecar.ca.files import PRIVATE, install, locked, make_folder, read_credential
from sidecar.ca.tokens import TokenStore
from sidecar.errors import StartError
from sidecar.remote.ca_enrolment import Enrolment, RemoteCa
from sidecar.spiffe.id import SpiffeId

FILES = SpiffeId.parse("spiffe://cluster.local/ns/mcp/sa/files")
OTHER = 10_001

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    folder = tmp_path / "theirs"
    folder.mkdir(0o700)
    os.chown(folder, OTHER, OTHER)
    return folder


def owners(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.lstat().st_uid for path in folder.rglob("*")}


@needs_root
def test_what_root_writes_into_a_services_folder_is_the_services(theirs: Path) -> None:
    with locked(theirs):
        install(theirs, {"key.pem": (b"x", PRIVATE)}, replace=False)
    assert owners(theirs) == {".lock": OTHER, "key.pem": OTHER}


@needs_root
def test_a_token_that_root_makes_can_be_spent_by_the_ca(theirs: Path) -> None:
    token = TokenStore(theirs, "0" * 64).make(FILES, 0.0)
    assert set(owners(theirs).values()) == {OTHER}
    assert owners(theirs).keys() == {"tokens", "tokens/.lock", f"tokens/{token.hash}.open"}


@needs_root
def test_a_file_that_was_linked_into_the_folder_is_not_given_away(
    theirs: Path, tmp_path: Path
) -> None:
    roots = tmp_path / "shadow"
    roots.write_text("root's")
    (theirs / ".lock").hardlink_to(roots)
    with locked(theirs):
        pass
    assert roots.stat().st_uid == 0


@needs_root
def test_a_folder_of_roots_own_stays_roots(tmp_path: Path) -> None:
    make_folder(tmp_path / "own")
    assert (tmp_path / "own").stat().st_uid == 0


@pytest.mark.parametrize(("mode", "fine"), [(0o400, True), (0o440, True), (0o444, False)])
def test_a_credential_may_be_lent_by_way_of_the_group(
    mode: int, fine: bool, tmp_path: Path
) -> None:
    path = tmp_path / "join-token"
    path.write_text("secret")
    path.chmod(mode)
    if fine:
        assert read_credential(path) == b"secret"
        return
    with pytest.raises(StartError, match="may be read by others"):
        read_credential(path)


@pytest.mark.parametrize("text", ["none", "none\n", None])
@pytest.mark.parametrize("lent", [True, False])
def test_where_no_token_was_lent_the_remedy_is_told(
    text: str | None, lent: bool, tmp_path: Path
) -> None:
    path = tmp_path / "join-token"
    if text is not None:
        path.write_text(text)
        path.chmod(0o400)
    remote = RemoteCa("https://127.0.0.1:1", path, lent=lent)
    with pytest.raises(StartError, match="there is no join token") as raised:
        asyncio.run(Enrolment(remote, tmp_path / "certs", FILES, lambda: 0.0).renew())
    assert "sidecar ca token" in raised.value.help
