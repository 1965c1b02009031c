"""The page on programs does what it says: its commands are run, with a program of the tests'."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
from support.daemon import PYTHON, free_port, running
from support.pages import ROOT, Folder, Page
from support.stdio_world import PROGRAM
from support.wire import eventually

from sidecar.cli import main

PAGE = Page(ROOT / "docs" / "how-to" / "run-a-program.md")


def test_a_program_answers_behind_a_sidecar_as_the_page_has_it(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    folder = Folder(tmp_path, {"8443": free_port()})
    run, curl = PAGE.blocks("bash")
    folder.run(PAGE.block("sh", ".venv/bin/sidecar issue-cert"))
    run = run.replace("uvx mcp-server-time", f"{PYTHON} -I -S {PROGRAM}")
    argv = shlex.split(f"{run} {folder.placed('--listen 127.0.0.1:8443')}")
    with running("sidecar", argv, tmp_path, folder.env) as sidecar:
        eventually(lambda: "sidecar: ready\n" in sidecar.said(), "readiness")
        answer = json.loads(folder.run(f"{curl.rstrip()} -sS"))
    assert answer["result"]["serverInfo"]["name"] == "program"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("", "is empty"),
        ("server | tee log", "has `|`, and no shell reads it"),
        ("server > log", "has `>`"),
        ("server $(date)", "has `$(date)`"),
        ("server 'open", "no closing quotation"),
    ],
)
def test_a_command_that_needs_a_shell_is_refused(
    command: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--stdio", command]) == 2
    assert said in capsys.readouterr().err


def test_a_check_looks_for_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inbound = {"listen": f"127.0.0.1:{free_port()}", "stdio": {"command": ["no-such-program"]}}
    document = {
        "apiVersion": "sidecar/v1",
        "kind": "Sidecar",
        "metadata": {"name": "git", "namespace": "mcp"},
        "spec": {"inbound": [inbound]},
    }
    path = tmp_path / "sidecar.yaml"
    path.write_text(json.dumps(document))
    path.chmod(0o644)
    assert main(["check", "--pre", "-c", str(path), "--only", "server"]) == 1
    assert "there is no program `no-such-program`" in capsys.readouterr().out
