"""The README does what it says: its commands are run, its output is compared, its links lead on."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from support.daemon import free_port, running
from support.pages import ROOT, Folder, Page, demo_server
from support.wire import eventually

README = Page(ROOT / "README.md")
SEE_IT = "python3 -m venv .venv && .venv/bin/pip install -q -e . && .venv/bin/sidecar demo"
TEST_IT = "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/pytest -q"

pytestmark = pytest.mark.timeout(120)


def test_it_is_short() -> None:
    assert len(README.text.splitlines()) <= 120


@pytest.mark.parametrize("command", [SEE_IT, TEST_IT])
def test_the_two_commands_stand_there_to_the_letter(command: str) -> None:
    assert f"{command}\n" in README.blocks("sh")


def test_what_is_checked_before_a_change_is_taken_is_what_the_readme_says() -> None:
    assert TEST_IT in (ROOT / ".ci" / "run").read_text()


def shape(table: str) -> list[list[str]]:
    """What of the demo's table is the same each time: no times, no ports."""
    lines = [re.sub(r"port \d+", "port N", line) for line in table.strip().splitlines()]
    return [re.sub(r"\s+[\d.]+$", "", line).split() for line in lines]


def test_the_demo_says_what_the_readme_shows(tmp_path: Path) -> None:
    said = Folder(tmp_path, {"1": 1}).run(".venv/bin/sidecar demo 2>/dev/null")
    assert shape(said) == shape(README.block("", "#  caller"))


def test_the_way_to_a_server_of_ones_own_works(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    folder = Folder(tmp_path, {"9000": free_port(), "8443": free_port()})
    (tmp_path / "served").mkdir()
    issue, run = (README.block("sh", f".venv/bin/sidecar {name}") for name in ("issue-cert", "run"))
    call = README.block("sh", "curl")
    port = int(folder.placed(":9000")[1:])
    listen = folder.placed("--listen 127.0.0.1:8443")
    with running("server", demo_server(port), tmp_path) as server:
        server.wait_for("listening")
        assert "spiffe://cluster.local/ns/agent/sa/me" in folder.run(issue)
        argv = shlex.split(f"{folder.placed(run)} {listen}")
        with running("sidecar", argv, tmp_path, folder.env) as sidecar:
            eventually(lambda: "sidecar: ready\n" in sidecar.said(), "readiness")
            assert '"name":"read_file"' in folder.run(f"{call.rstrip()} -sS")
            nameless = re.sub(r"--cert \S+ --key \S+ ", "", call.replace("\\\n ", ""))
            assert "--cert " not in nameless
            with pytest.raises(AssertionError, match=r"curl: \(\d+\)"):
                folder.run(f"{nameless.rstrip()} -sS")


def test_its_links_lead_somewhere() -> None:
    assert README.broken_links() == []


def test_it_shows_where_the_table_of_the_race_stands() -> None:
    assert "## Speed\n" in README.text
