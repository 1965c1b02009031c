"""`sidecar ca`: what it prints, where it does not, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.shell import typed

from sidecar.ca.store import ROOT_KEY, open_ca
from sidecar.ca.tokens import Token
from sidecar.spiffe.bundle import TrustBundle


class Shell:
    """A folder to type commands in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = folder / "certs" / "ca"

    def try_(
        self, *arguments: str, env: dict[str, str] | None = None, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return typed(self.folder, *arguments, env=env, stdin=stdin)

    def run(self, *arguments: str) -> str:
        done = self.try_(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def mesh(shell: Shell) -> Shell:
    shell.run("ca", "init")
    return shell


def test_init_makes_a_ca_once_and_says_what_it_is(shell: Shell) -> None:
    facts = json.loads(shell.run("ca", "init", "--trust-domain", "a.test", "-o", "json"))
    ca = open_ca(shell.ca)
    assert (facts["trust_domain"], facts["root_sha256"]) == ("a.test", ca.root_sha256)
    again = shell.try_("ca", "init")
    assert again.returncode == 1
    assert "holds a CA already" in again.stderr


def test_lives_are_as_asked_for_and_the_intermediate_ends_with_its_root(shell: Shell) -> None:
    shell.run("ca", "init", "--root-ttl", "20d", "--intermediate-ttl", "90d")
    ca = open_ca(shell.ca)
    below = ca.issuer.certificate
    assert below.path_length == 0
    assert 19.9 * 86400 < below.not_after - below.not_before < 20.1 * 86400


def private(path: Path, text: str) -> str:
    path.touch(mode=0o600)
    path.write_text(text)
    return str(path)


def test_a_roots_key_is_kept_under_a_passphrase_from_a_file(shell: Shell) -> None:
    given = private(shell.folder / "pass", "correct horse\n")
    shell.run("ca", "init", "--encrypt-root", "--passphrase-file", given)
    assert "ENCRYPTED" in (shell.ca / ROOT_KEY).read_text()
    assert "correct horse" not in "".join(p.read_text() for p in shell.ca.iterdir() if p.is_file())
    locked = shell.try_("ca", "rotate")
    assert locked.returncode == 1
    assert "--passphrase-file" in locked.stderr
    shell.run("ca", "rotate", "--passphrase-file", given)


def test_the_passphrase_may_be_a_credential_or_stdin(shell: Shell) -> None:
    private(shell.folder / "ca_root_passphrase", "correct")
    env = {"CREDENTIALS_DIRECTORY": str(shell.folder)}
    assert shell.try_("ca", "init", "--encrypt-root", env=env).returncode == 0
    assert shell.try_("ca", "rotate", env=env).returncode == 0
    piped = shell.try_("ca", "rotate", "--passphrase-file", "-", stdin="correct\n")
    assert piped.returncode == 0, piped.stderr


def test_encryption_without_a_passphrase_makes_nothing(shell: Shell) -> None:
    done = shell.try_("ca", "init", "--encrypt-root")
    assert done.returncode == 2
    assert not shell.ca.exists()


def test_a_passphrase_that_others_may_read_is_refused(shell: Shell) -> None:
    given = private(shell.folder / "pass", "x")
    os.chmod(given, 0o644)
    done = shell.try_("ca", "init", "--encrypt-root", "--passphrase-file", given)
    assert done.returncode == 77


def test_a_token_stands_on_stdout_alone_and_once(mesh: Shell) -> None:
    done = mesh.try_("ca", "token", "mcp-prod/files")
    token = Token.parse(done.stdout)
    assert done.stdout == f"{token}\n"
    assert token.pin == open_ca(mesh.ca).root_sha256
    assert token.secret not in done.stderr
    kept = "".join(path.read_text() for path in mesh.ca.rglob("*") if path.is_file())
    assert token.secret not in kept


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["files"], 1),
        (["spiffe://other.test/ns/a/sa/b"], 2),
        (["spiffe://cluster.local/ca"], 2),
        (["mcp-prod/files", "--ttl", "11m"], 2),
        (["mcp-prod/files", "--dns", "no host"], 1),
    ],
)
def test_a_token_for_what_cannot_be_is_not_made(
    mesh: Shell, arguments: list[str], code: int
) -> None:
    done = mesh.try_("ca", "token", *arguments)
    assert done.returncode == code
    assert not done.stdout
    assert "error: " in done.stderr


def test_a_named_ca_that_is_missing_is_not_made(shell: Shell) -> None:
    for what in (["token", "a/b"], ["list"], ["bundle"], ["rotate"], ["log", "verify"], ["serve"]):
        done = shell.try_("ca", *what, "--ca", "./elsewhere")
        assert done.returncode == 1
        assert "there is no CA in" in done.stderr
    assert not (shell.folder / "elsewhere").exists()


def test_the_list_fits_a_hundred_columns(mesh: Shell) -> None:
    long = f"{'n' * 40}/{'a' * 40}"
    for who in ("agent/alice", long):
        mesh.run("issue-cert", who, "--ca", "certs/ca")
    mesh.run("ca", "revoke", "agent/alice")
    lines = mesh.run("ca", "list").splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 100
    assert lines[1].startswith("agent/alice ")
    assert lines[1].endswith(" revoked")
    assert lines[2].endswith(" good")
    rows = json.loads(mesh.run("ca", "list", "-o", "json"))
    assert [row["state"] for row in rows] == ["revoked", "good"]
    assert rows[1]["serial"] in lines[2]


def test_one_certificate_is_revoked_by_its_serial(mesh: Shell) -> None:
    for _ in range(2):
        mesh.run("issue-cert", "agent/alice", "--ca", "certs/ca")
    serial = json.loads(mesh.run("ca", "list", "-o", "json"))[0]["serial"]
    mesh.run("ca", "revoke", serial)
    states = [row["state"] for row in json.loads(mesh.run("ca", "list", "-o", "json"))]
    assert states == ["revoked", "good"]
    assert mesh.try_("ca", "revoke", "0" * 32).returncode == 1
    assert mesh.try_("ca", "revoke", serial, "--undo").returncode == 2


def test_an_identity_is_revoked_and_let_in_again(mesh: Shell) -> None:
    mesh.run("ca", "revoke", "agent/alice")
    refused = mesh.try_("ca", "token", "agent/alice")
    assert refused.returncode == 1
    assert "--undo agent/alice" in refused.stderr
    mesh.run("ca", "revoke", "--undo", "agent/alice")
    mesh.run("ca", "token", "agent/alice")
    assert mesh.try_("ca", "revoke", "--undo", "agent/alice").returncode == 1


def test_the_bundle_comes_in_both_forms(mesh: Shell) -> None:
    pem = TrustBundle.from_pem(mesh.run("ca", "bundle").encode(), "cluster.local")
    document = mesh.run("ca", "bundle", "--format", "spiffe").encode()
    assert TrustBundle.from_spiffe(document, "cluster.local").roots == pem.roots


def test_a_rotation_says_until_when_the_old_one_is_trusted(mesh: Shell) -> None:
    before = open_ca(mesh.ca).issuer.certificate.sha256
    facts = json.loads(mesh.run("ca", "rotate", "-o", "json"))
    assert facts["intermediate"] != before
    assert facts["old_one_trusted_until"] < facts["ends"]
    dropped = json.loads(mesh.run("ca", "rotate", "--drop-now", "-o", "json"))
    assert dropped == {"dropped": [before]}


def test_a_log_that_was_changed_is_found_and_a_whole_one_is_not(mesh: Shell) -> None:
    mesh.run("ca", "token", "agent/alice")
    facts = json.loads(mesh.run("ca", "log", "verify", "-o", "json"))
    assert facts == {"chain": "whole", "entries": 2, "made": 1, "token_made": 1}
    path = mesh.ca / "issued.jsonl"
    mesh.run("ca", "token", "agent/bob")
    path.write_text(path.read_text().replace("alice", "malice"))
    done = mesh.try_("ca", "log", "verify")
    assert done.returncode == 1
    assert "line 3" in done.stderr


def test_a_log_grows_over_files_as_long_as_it_is_told(mesh: Shell) -> None:
    facts = json.loads(
        mesh.run("ca", "log", "limit", "--size", "64KiB", "--keep", "2", "-o", "json")
    )
    assert facts == {"size": 65536, "keep": 2}
    ca = open_ca(mesh.ca)
    for number in range(6):
        ca.record("looked", {"number": number, "with": "x" * 30_000}, 1_790_000_000.0)
    assert len(list(mesh.ca.glob("issued*.jsonl"))) == 2
    facts = json.loads(mesh.run("ca", "log", "verify", "-o", "json"))
    assert facts == {"chain": "whole", "entries": 7, "looked": 6, "made": 1}


@pytest.mark.parametrize("terms", [["--size", "1KiB"], ["--keep", "0"], ["--size", "much"]])
def test_a_log_that_would_hold_nothing_is_refused(mesh: Shell, terms: list[str]) -> None:
    done = mesh.try_("ca", "log", "limit", *terms)
    assert done.returncode in (1, 2)
    assert "error: " in done.stderr


@pytest.mark.parametrize("name", ["root_key.pem", "intermediate_key.pem"])
def test_keys_that_others_may_read_are_refused(mesh: Shell, name: str) -> None:
    (mesh.ca / name).chmod(0o640)
    for what in (["token", "a/b"], ["list"], ["serve", "--listen", "127.0.0.1:0"]):
        done = mesh.try_("ca", *what)
        assert done.returncode == 77
        assert name in done.stderr


@pytest.mark.parametrize(
    "terms", [["--ttl", "0s"], ["--ttl", "91d"], ["--grace", "31d"], ["--refresh", "0s"]]
)
def test_terms_that_cannot_be_are_refused(mesh: Shell, terms: list[str]) -> None:
    done = mesh.try_("ca", "serve", "--listen", "127.0.0.1:0", *terms)
    assert done.returncode in (1, 2)
    assert "error: " in done.stderr


def test_a_full_disk_is_an_error_in_a_line(mesh: Shell) -> None:
    done = subprocess.run(
        ["bash", "-c", f'ulimit -f 0; exec "{sys.executable}" -m sidecar ca token agent/me'],
        cwd=mesh.folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert list((mesh.ca / "tokens").glob("*.open")) == []


@pytest.mark.parametrize(
    "what",
    [
        ("init", "--root-ttl", "0s"),
        ("init", "--root-ttl", "99999999d"),
        ("init", "--intermediate-ttl", "1s"),
    ],
)
def test_a_ca_that_would_end_at_once_or_never_is_not_made(shell: Shell, what: list[str]) -> None:
    done = shell.try_("ca", *what)
    assert done.returncode == 1
    assert "a CA's lifetime is from" in done.stderr
    assert not shell.ca.exists()


def test_nobody_may_be_revoked_by_an_empty_name(mesh: Shell) -> None:
    done = mesh.try_("ca", "revoke", "")
    assert (done.returncode, done.stdout) == (1, "")
    assert "is not an identity" in done.stderr
