"""`sidecar run --to URL`: from nothing to a guarded server in one line."""

from __future__ import annotations

import json
import re
import signal
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.daemon import PYTHON, Process, free_port, running
from support.shell import typed
from support.wire import Caller, Recorder, Reply, eventually, rpc, tool

from sidecar.cli import main

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers}
spec:
  rules:
  - from: [{source: {principals: ["cluster.local/ns/agent/sa/bob"]}}]
    to: [{operation: {tools: ["read_*"]}}]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


class Short:
    """A sidecar that was started by flags alone, and the folder it was started in."""

    def __init__(self, folder: Path, process: Process, port: int) -> None:
        self.folder, self.process, self.port = folder, process, port

    def said(self) -> str:
        return self.process.stderr.read_text()

    def ask(self, who: str, body: bytes) -> Reply:
        """Ask as *who*, an ordinary client that checks the name of whom it calls."""
        certs = self.folder / "certs" / who
        if not certs.exists():
            ca = str(self.folder / "certs" / "ca")
            assert main(["issue-cert", who, "--ca", ca, "--out", str(certs)]) == 0
        context = ssl.create_default_context(cafile=str(certs / "svid_bundle.pem"))
        context.load_cert_chain(certs / "svid.pem", certs / "svid_key.pem")
        sock = Caller.dial(self.port)
        with Caller(context.wrap_socket(sock, server_hostname="localhost")) as caller:
            return caller.ask("POST", "/mcp", body)


@contextmanager
def short(folder: Path, server: Recorder, *flags: str) -> Iterator[Short]:
    port = free_port()
    argv = [PYTHON, "-m", "sidecar", "run", "--to", server.url, "--listen", f"127.0.0.1:{port}"]
    env = {"XDG_RUNTIME_DIR": str(folder / "run")}
    with running("sidecar", [*argv, *flags], folder, env) as process:
        one = Short(folder, process, port)

        def ready() -> bool:
            assert process.is_alive(), process.said()
            return "ready\n" in one.said()

        eventually(ready, "ready")
        yield one


def test_a_ca_is_made_and_loudly(server: Recorder, tmp_path: Path) -> None:
    with short(tmp_path, server, "--allow", "agent/alice") as sidecar:
        said = sidecar.said()
        assert re.search(r"CA", said)
        assert "certs/ca" in said
        assert (tmp_path / "certs" / "ca" / "root.pem").exists()
        key = tmp_path / "certs" / "ca" / "root_key.pem"
        assert key.stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "certs" / "default" / "server" / "svid.pem").exists()
        assert sidecar.ask("agent/alice", rpc("ping")).status == 200
        assert sidecar.ask("agent/bob", rpc("ping")).status == 403
    root = (tmp_path / "certs" / "ca" / "root.pem").read_bytes()
    with short(tmp_path, server, "--allow", "agent/alice") as sidecar:
        assert "certs/ca" not in sidecar.said(), "it is not made again"
        assert sidecar.ask("agent/alice", rpc("ping")).status == 200
    assert (tmp_path / "certs" / "ca" / "root.pem").read_bytes() == root


def test_a_whole_namespace_may_be_let_in(server: Recorder, tmp_path: Path) -> None:
    flags = ("--allow", "agent/*", "--allow", "ops/root", "--as", "mcp/files")
    with short(tmp_path, server, *flags) as sidecar:
        asked = {
            "agent/alice": 200,
            "agent/bob": 200,
            "ops/root": 200,
            "ops/other": 403,
            "agents/alice": 403,
        }
        got = {who: sidecar.ask(who, rpc("ping")).status for who in asked}
    assert got == asked
    assert "By=spiffe://cluster.local/ns/mcp/sa/files;" in server.heard[-1].get(
        "x-forwarded-client-cert"
    )


def test_without_a_word_on_who_may_call_nobody_may(server: Recorder, tmp_path: Path) -> None:
    before = len(server)
    with short(tmp_path, server) as sidecar:
        assert "nobody may call" in sidecar.said()
        assert sidecar.ask("agent/alice", rpc("ping")).status == 403
    assert len(server) == before


def test_documents_say_more_and_can_be_changed(server: Recorder, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    file.chmod(0o644)
    with short(tmp_path, server, "--allow", "agent/alice", "--documents", "policy.yaml") as sidecar:
        assert sidecar.ask("agent/alice", tool("drop")).status == 200
        assert sidecar.ask("agent/bob", tool("read_file")).status == 200
        assert sidecar.ask("agent/bob", tool("drop")).status == 403
        file.write_text(POLICY.replace("read_*", "drop*"))
        sidecar.process.signal(signal.SIGHUP)
        eventually(lambda: "configuration reloaded" in sidecar.said(), "the reload")
        assert sidecar.ask("agent/bob", tool("drop")).status == 200
        assert sidecar.ask("agent/bob", tool("read_file")).status == 403


def test_it_prints_its_url_and_what_a_client_needs(server: Recorder, tmp_path: Path) -> None:
    with short(tmp_path, server, "--allow", "agent/alice") as sidecar:
        printed = sidecar.process.stdout.read_text() + sidecar.said()
    url = f"https://127.0.0.1:{sidecar.port}"
    assert url in printed
    assert any(url in json.dumps(one) for one in objects(printed)), "ready-made client JSON"


def objects(text: str) -> Iterator[object]:
    """Every JSON object in *text*."""
    for found in re.finditer(r"\{", text):
        try:
            yield json.JSONDecoder().raw_decode(text, found.start())[0]
        except ValueError:
            continue


TO = ("--to", "http://127.0.0.1:1")
# Flags -> exit code, and what the complaint names.
NONSENSE: dict[tuple[str, ...], tuple[int, str]] = {
    (*TO, "--allow", "alice"): (2, "--allow alice"),
    (*TO, "--allow", "*/alice"): (2, "--allow */alice"),
    (*TO, "--allow", "*"): (2, "--allow *"),
    (*TO, "--as", "files"): (2, "--as files"),
    (*TO, "-c", "sidecar.yaml"): (2, "not allowed with"),
    ("--to", "nonsense://x"): (78, "nonsense"),
    ("--to", "https://127.0.0.1:1"): (78, "https"),
    (*TO, "--listen", "8443"): (78, "8443"),
    (*TO, "--documents", "nowhere"): (78, "nowhere"),
    (*TO, "--admin", "0.0.0.0:15000"): (78, "0.0.0.0:15000"),
    ("-c", "nowhere.yaml"): (78, "nowhere.yaml"),
    (): (2, "--to"),
}


@pytest.mark.parametrize("flags", NONSENSE, ids=" ".join)
def test_flags_that_make_no_sense_are_refused_and_nothing_is_made(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    code, word = NONSENSE[flags]
    done = typed(tmp_path, "run", *flags)
    assert done.returncode == code
    assert word in done.stderr
    assert not (tmp_path / "certs").exists()


def test_a_process_ends_with_the_code_of_its_refusal(tmp_path: Path) -> None:
    with running(
        "sidecar", [PYTHON, "-m", "sidecar", "run", "-c", "nowhere.yaml"], tmp_path
    ) as one:
        assert one.wait() == 78
        assert "Traceback" not in one.said()
