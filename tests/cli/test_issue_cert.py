"""`sidecar issue-cert`: one certificate, no questions, and no second mesh by mistake."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from sidecar.ca.identity import load_identity
from sidecar.ca.log import read_log
from sidecar.ca.store import make_ca
from sidecar.cli import main
from sidecar.cli.issue_cert import parse_duration
from sidecar.errors import StartError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Shell:
    """Run commands and keep what they said."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *args: str) -> int:
        try:
            code = main(["issue-cert", *args])
        except SystemExit as end:
            code = int(end.code or 0)
        self.out, self.err = self._capsys.readouterr()
        return code

    def json(self, *args: str) -> dict[str, Any]:
        assert self(*args, "-o", "json") == 0, self.err
        found: dict[str, Any] = json.loads(self.out)
        return found


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def leaf_of(folder: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(folder, "svid.pem").read_bytes())


def test_the_first_call_makes_the_ca_and_says_so_loudly(shell: Shell) -> None:
    assert shell("agent/alice") == 0
    assert "warning: there was no CA" in shell.err
    assert "certs/ca" in shell.err
    assert "another mesh" in shell.err
    found = load_identity(Path("certs/agent/alice"), time.time())
    assert str(found.svid.id) == "spiffe://cluster.local/ns/agent/sa/alice"
    assert shell("agent/bob") == 0
    assert shell.err == ""
    bundles = [Path(f"certs/agent/{who}/svid_bundle.pem").read_bytes() for who in ("alice", "bob")]
    assert bundles[0] == bundles[1] == Path("certs/ca/root.pem").read_bytes()


def test_the_table_says_who_until_when_where_and_who_renews(shell: Shell) -> None:
    assert shell("agent/alice") == 0
    for part in (
        "spiffe://cluster.local/ns/agent/sa/alice",
        "(in 24h)",
        "certs/agent/alice/svid.pem",
        "certs/agent/alice/svid_key.pem",
        "certs/agent/alice/svid_bundle.pem",
        "certs/ca",
        "by nobody",
    ):
        assert part in shell.out


def test_json_is_one_object_with_what_a_program_needs(shell: Shell) -> None:
    said = shell.json("agent/alice", "--ttl", "1h")
    found = load_identity(Path("certs/agent/alice"), time.time())
    assert said == {
        "spiffe_id": "spiffe://cluster.local/ns/agent/sa/alice",
        "not_after": said["not_after"],
        "serial": f"{found.svid.serial:032x}",
        "paths": {
            "svid": "certs/agent/alice/svid.pem",
            "key": "certs/agent/alice/svid_key.pem",
            "bundle": "certs/agent/alice/svid_bundle.pem",
        },
        "ca": "certs/ca",
        "ca_made": True,
    }
    assert datetime.fromisoformat(said["not_after"]).timestamp() == found.svid.not_after
    assert shell.json("agent/alice")["ca_made"] is False


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [("90s", 90), ("15m", 900), ("1h", 3600), ("24h", 86400), ("7d", 604800), ("1h30m", 5400)],
)
def test_a_lifetime_is_what_was_asked(shell: Shell, ttl: str, seconds: float) -> None:
    assert parse_duration(ttl) == seconds
    shell.json("agent/alice", "--ttl", ttl)
    leaf = leaf_of("certs/agent/alice")
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert life.total_seconds() == seconds + 60


@pytest.mark.parametrize("ttl", ["", "1", "h", "1y", "-1h", "1.5h", "1h ", "0x1h", "١h"])
def test_what_is_no_time_is_a_usage_error(shell: Shell, ttl: str) -> None:
    with pytest.raises(StartError) as raised:
        parse_duration(ttl)
    assert raised.value.code == 2
    assert shell("agent/alice", f"--ttl={ttl}") == 2
    assert not Path("certs").exists()


@pytest.mark.parametrize("ttl", ["0s", "91d"])
def test_a_lifetime_out_of_range_is_refused(shell: Shell, ttl: str) -> None:
    assert shell("agent/alice", "--ttl", ttl) == 1
    assert "90 days" in shell.err
    assert not Path("certs").exists()


def test_host_names_and_addresses_go_into_the_certificate(shell: Shell) -> None:
    assert shell("server/files", "--dns", "localhost", "--dns", "127.0.0.1", "--dns", "::1") == 0
    names = leaf_of("certs/server/files").extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert [str(name.value) for name in names.value][1:] == ["localhost", "127.0.0.1", "::1"]


def test_a_wrong_host_name_is_refused_before_anything_is_made(shell: Shell) -> None:
    assert shell("server/files", "--dns", "*.example.com") == 1
    assert "*.example.com" in shell.err
    assert not Path("certs").exists()


@pytest.mark.parametrize(
    "identity", ["alice", "a/b/c", "agent/*", "../x", "spiffe://A/b", "spiffe://a.test/", ""]
)
def test_what_is_no_identity_is_a_usage_error(shell: Shell, identity: str) -> None:
    assert shell(identity) == 2
    assert shell.err.startswith("error: ")
    assert not Path("certs").exists()


def test_a_trust_domain_alone_is_no_identity(shell: Shell) -> None:
    assert shell("spiffe://cluster.local", "--out", "x") == 2
    assert "not a workload" in shell.err
    assert list(Path.cwd().iterdir()) == []


def test_a_named_ca_must_exist(shell: Shell) -> None:
    assert shell("agent/alice", "--ca", "mesh-ca") == 1
    assert "there is no CA in `mesh-ca`" in shell.err
    assert "= help:" in shell.err
    assert list(Path.cwd().iterdir()) == []


def test_even_the_default_folder_must_exist_when_it_is_named(shell: Shell) -> None:
    assert shell("agent/alice", "--ca", "certs/ca") == 1
    assert not Path("certs").exists()


def test_a_named_ca_signs_and_is_not_made(shell: Shell) -> None:
    shell("agent/alice")
    Path("certs/ca").rename("mesh-ca")
    said = shell.json("agent/bob", "--ca", "mesh-ca", "--out", "bob")
    assert (said["ca"], said["ca_made"], shell.err) == ("mesh-ca", False, "")
    assert said["paths"]["svid"] == "bob/svid.pem"
    assert not Path("certs/ca").exists()


def test_a_new_ca_takes_the_trust_domain_that_is_asked_for(shell: Shell) -> None:
    said = shell.json("agent/alice", "--trust-domain", "demo.local")
    assert said["spiffe_id"] == "spiffe://demo.local/ns/agent/sa/alice"
    # Afterwards it is the CA's own, without being named.
    assert shell.json("agent/bob")["spiffe_id"] == "spiffe://demo.local/ns/agent/sa/bob"


@pytest.mark.parametrize(
    "args",
    [["agent/bob", "--trust-domain", "other.test"], ["spiffe://other.test/ns/agent/sa/bob"]],
)
def test_a_ca_keeps_its_trust_domain(shell: Shell, args: list[str]) -> None:
    shell("agent/alice")
    assert shell(*args) == 1
    assert "`cluster.local`, not `other.test`" in shell.err
    assert not Path("certs/agent/bob").exists()


def test_two_trust_domains_in_one_command_are_a_usage_error(shell: Shell) -> None:
    assert shell("spiffe://a.test/ns/x/sa/y", "--trust-domain", "b.test") == 2


def test_a_whole_id_of_any_path_is_issued(shell: Shell) -> None:
    said = shell.json("spiffe://cluster.local/tools/search/v2")
    assert said["spiffe_id"] == "spiffe://cluster.local/tools/search/v2"
    assert said["paths"]["svid"] == "certs/tools/search/v2/svid.pem"


@pytest.mark.parametrize(
    "args",
    [["ca/alice"], ["spiffe://cluster.local/ca"], ["agent/alice", "--out", "certs/ca"]],
)
def test_nothing_is_written_into_the_cas_folder(shell: Shell, args: list[str]) -> None:
    shell("agent/alice")
    before = sorted(path.name for path in Path("certs/ca").iterdir())
    assert shell(*args) == 2
    assert "--out" in shell.err
    assert sorted(path.name for path in Path("certs/ca").iterdir()) == before


def test_a_second_certificate_replaces_the_first(shell: Shell) -> None:
    first, second = shell.json("agent/alice"), shell.json("agent/alice")
    assert first["serial"] != second["serial"]
    found = load_identity(Path("certs/agent/alice"), time.time())
    assert f"{found.svid.serial:032x}" == second["serial"]
    assert shell.err == ""


def test_replacing_another_identity_is_said(shell: Shell) -> None:
    shell("agent/alice", "--out", "id")
    assert shell("agent/bob", "--out", "id") == 0
    assert "`spiffe://cluster.local/ns/agent/sa/alice`, which is replaced" in shell.err


def test_an_exposed_ca_stops_with_77_and_the_remedy(shell: Shell) -> None:
    shell("agent/alice")
    Path("certs/ca/intermediate_key.pem").chmod(0o644)
    assert shell("agent/bob") == 77
    assert "chmod 600 certs/ca/intermediate_key.pem" in shell.err
    assert not Path("certs/agent/bob").exists()


def test_half_a_ca_is_an_error_and_not_filled_up(shell: Shell) -> None:
    shell("agent/alice")
    Path("certs/ca/root.pem").unlink()
    assert shell("agent/bob") == 1
    assert "`root.pem`" in shell.err
    assert not Path("certs/ca/root.pem").exists()


def test_a_place_that_cannot_be_written_is_named(shell: Shell) -> None:
    Path("file").write_text("")
    assert shell("agent/alice", "--out", "file/id") == 1
    assert "cannot write `file/id`" in shell.err


def test_what_the_system_does_not_permit_ends_with_77(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "certs/ca/.lock")

    monkeypatch.setattr("sidecar.ca.store.open_or_make_ca", denied)
    assert shell("agent/alice") == 77
    assert "certs/ca/.lock" in shell.err


def test_a_certificate_that_ends_with_its_ca_is_said_to(shell: Shell) -> None:
    make_ca(Path("mesh-ca"), "cluster.local", time.time(), life=90)
    assert shell("agent/alice", "--ca", "mesh-ca", "--ttl", "1h") == 0
    assert "ends with its CA" in shell.err
    assert re.search(r"\(in [0-9]+s\)", shell.out)


def test_many_at_once_make_one_ca_and_one_log(here: Path) -> None:
    names = [f"agent/n{n}" for n in range(6)]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "sidecar", "issue-cert", name, "-o", "json"],
            cwd=here,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for name in names
    ]
    ended = [(*process.communicate(timeout=40), process.returncode) for process in running]
    assert [code for _, _, code in ended] == [0] * 6, ended
    said = [json.loads(out) for out, _, _ in ended]
    assert [one["ca_made"] for one in said].count(True) == 1
    for name in names:
        load_identity(here / "certs" / name, time.time())
    with (here / "certs/ca/issued.jsonl").open("rb") as lines:
        entries = list(read_log(lines))
    assert [entry.event for entry in entries] == ["made", *["issued"] * 6]
    assert {entry.facts["serial"] for entry in entries[1:]} == {one["serial"] for one in said}


def test_asking_for_help_loads_no_cryptography(here: Path) -> None:
    program = (
        "import sys; from sidecar.cli import main\n"
        "try: main(['issue-cert', '--help'])\n"
        "except SystemExit: pass\n"
        "assert 'cryptography' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr
