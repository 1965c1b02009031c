"""Whom a CA on the same machine revokes is refused, on open connections too; or a file's list."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.ca_host import CaHost, Joined, Member
from support.daemon import PYTHON
from support.wire import Caller, Recorder, eventually, rpc


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture
def ca(tmp_path: Path) -> CaHost:
    """A CA that is not served: it is on this machine."""
    return CaHost(tmp_path / "ca")


def issued(ca: CaHost, who: str) -> Path:
    """Have a certificate made; return its folder."""
    argv = ("issue-cert", who, "--ca", "certs/ca", "--out", f"certs/{who}")
    command = [PYTHON, "-m", "sidecar", *argv]
    subprocess.run(command, cwd=ca.folder, check=True, capture_output=True, timeout=60)
    return ca.folder / "certs" / who


def context(folder: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.load_verify_locations(folder / "svid_bundle.pem")
    made.load_cert_chain(folder / "svid.pem", folder / "svid_key.pem")
    return made


def member(host: CaHost, server: Recorder, **identity: str) -> Member:
    return Member(host.folder / "files", host, "mcp-prod/files", server.url, identity=identity)


def by_ca(ca: CaHost, server: Recorder) -> tuple[Member, Path]:
    """A sidecar of the local CA; and where its deny list is."""
    return member(ca, server, ca=str(ca.ca)), ca.ca / "revoked.json"


def by_file(ca: CaHost, server: Recorder) -> tuple[Member, Path]:
    """A sidecar with a certificate in files, and a deny list that somebody copies there."""
    path = ca.folder / "denied.json"
    ca.cli("revoke", "agent/nobody")
    shutil.copy(ca.ca / "revoked.json", path)
    certs = issued(ca, "mcp-prod/files")
    return member(ca, server, certs=str(certs), revocations=str(path)), path


def revoke(ca: CaHost, path: Path, who: str) -> None:
    ca.cli("revoke", who)
    if path.parent != ca.ca:
        shutil.copy(ca.ca / "revoked.json", path)


def status(caller: Caller) -> int:
    return caller.ask("POST", "/mcp", rpc("ping")).status


def let_in(sidecar: Joined, made: ssl.SSLContext) -> bool:
    try:
        with sidecar.caller(made) as caller:
            return status(caller) == 200
    except (OSError, AssertionError):
        return False


@pytest.mark.parametrize("made", [by_ca, by_file])
def test_who_was_revoked_is_refused_at_once_and_others_go_on(
    made: Any, ca: CaHost, server: Recorder
) -> None:
    bad, good = (context(issued(ca, f"agent/{name}")) for name in ("bad", "good"))
    files, path = made(ca, server)
    with files.run() as sidecar:
        sidecar.wait_ready()
        with sidecar.caller(bad) as ending, sidecar.caller(good) as staying:
            assert (status(ending), status(staying)) == (200, 200)
            revoke(ca, path, "agent/bad")
            eventually(lambda: status(ending) == 401, "its next request is refused")
            assert status(staying) == 200
        sidecar.event(event="trust_changed", disowned=1)
        assert not let_in(sidecar, bad)
        sidecar.event(event="handshake_failed", reason="revoked")
        assert let_in(sidecar, good)
        assert "another deny list is followed" in sidecar.said()


@pytest.mark.parametrize("made", [by_ca, by_file])
def test_a_torn_list_lets_nobody_in_until_it_is_whole(
    made: Any, ca: CaHost, server: Recorder
) -> None:
    bad, good = (context(issued(ca, f"agent/{name}")) for name in ("bad", "good"))
    files, path = made(ca, server)
    with files.run() as sidecar:
        sidecar.wait_ready()
        revoke(ca, path, "agent/bad")
        eventually(lambda: not let_in(sidecar, bad), "it is refused")
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        eventually(lambda: sidecar.readiness()[0] == 503, "it is not ready")
        assert path.name in sidecar.readiness()[1]
        assert not let_in(sidecar, bad)
        assert not let_in(sidecar, good)
        path.write_bytes(whole)
        sidecar.wait_ready()
        assert let_in(sidecar, good)
        assert not let_in(sidecar, bad)


def test_what_a_local_ca_revoked_stays_so_while_its_folder_is_away(
    ca: CaHost, server: Recorder
) -> None:
    bad, good = (context(issued(ca, f"agent/{name}")) for name in ("bad", "good"))
    files, path = by_ca(ca, server)
    with files.run() as sidecar:
        sidecar.wait_ready()
        revoke(ca, path, "agent/bad")
        eventually(lambda: not let_in(sidecar, bad), "it is refused")
    ca.ca.rename(ca.folder / "away")
    with files.run() as sidecar:
        sidecar.wait_ready()
        assert let_in(sidecar, good)
        assert not let_in(sidecar, bad)


def test_it_does_not_start_by_a_list_that_cannot_be_read(ca: CaHost, server: Recorder) -> None:
    files, path = by_ca(ca, server)
    path.write_text("{")
    path.chmod(0o644)
    argv = [PYTHON, "-m", "sidecar", "run", "-c", "sidecar.yaml"]
    done = subprocess.run(argv, cwd=files.folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "revoked.json" in done.stderr
    assert "help: restore it from a backup" in done.stderr
