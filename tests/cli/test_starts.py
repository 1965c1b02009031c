"""A command loads what it needs and no more: a person waits for it, or an engine asks often."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SERVING = {"sidecar.app", "uvloop", "h2", "prometheus_client"}
TALKING = {*SERVING, "asyncio", "ssl"}
READING = {"yaml", "sidecar.config.documents"}
SIGNING = {"cryptography", "jwt"}

ASK = """
import sys
from sidecar.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(*sys.modules)
"""


@pytest.mark.parametrize(
    ("line", "spared"),
    [
        ("--help", {*TALKING, *READING, *SIGNING}),
        ("issue-cert --help", {*TALKING, *READING, *SIGNING}),
        ("issue-cert agent/alice", {*SERVING, *READING, "asyncio", "jwt"}),
        ("explain SC0101", {*TALKING, *SIGNING}),
        ("validate sidecar.yaml", {*TALKING, *SIGNING}),
        ("check -c sidecar.yaml", {*SERVING, "jwt"}),
    ],
)
def test_a_command_loads_only_what_it_needs(line: str, spared: set[str], tmp_path: Path) -> None:
    argv = [sys.executable, "-c", ASK, *line.split()]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "sidecar.cli" in loaded
    assert loaded & spared == set()


def test_what_writes_the_format_of_metrics_is_not_loaded_before_somebody_scrapes() -> None:
    ask = "import sys, sidecar.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert "sidecar.observe.metrics" in done.stdout.split()
    assert not {"prometheus_client", "jwt"} & set(done.stdout.split())
