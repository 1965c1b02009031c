"""The units: what stands in `systemd/` is what the program prints, and systemd takes it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sidecar import units
from sidecar.cli import main

ROOT = Path(__file__).parents[1]
UNITS = [units.service(), units.stdio(), units.socket(), units.authority()]
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here"
)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_shipped_unit_is_the_one_that_is_printed(unit: units.Unit) -> None:
    assert (ROOT / "systemd" / unit.name).read_text() == unit.text


def test_nothing_else_is_shipped_for_systemd() -> None:
    assert {path.name for path in (ROOT / "systemd").iterdir()} == {unit.name for unit in UNITS}


def written(folder: Path, *found: units.Unit) -> list[str]:
    paths = []
    for unit in found:
        (folder / unit.name).write_text(unit.text)
        paths.append(str(folder / unit.name))
    return paths


@needs_systemd
def test_systemd_takes_the_units_without_a_word(tmp_path: Path) -> None:
    program = "/bin/true"
    paths = written(
        tmp_path,
        units.service("files", program=program),
        units.stdio("git", program=program),
        units.socket("files"),
        units.authority(program=program),
    )
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


@needs_systemd
@pytest.mark.parametrize(
    "unit", [units.service("files"), units.stdio("git"), units.authority()], ids=str
)
def test_a_service_is_as_closed_as_a_network_service_can_be(
    tmp_path: Path, unit: units.Unit
) -> None:
    [path] = written(tmp_path, unit)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", path],
        capture_output=True,
        text=True,
        timeout=60,
    )
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert exposure is not None, done.stdout + done.stderr
    assert float(exposure[1]) <= 1.4


def test_a_program_gets_a_cache_and_may_make_code_and_nothing_else_is_open() -> None:
    plain, program = units.service().text.splitlines(), units.stdio().text.splitlines()
    assert set(plain) - set(program) == {
        "MemoryDenyWriteExecute=yes",
        "Description=sidecar %i: mTLS and rules in front of an MCP server",
    }
    more = [line.partition("=")[0] for line in program if line not in plain and line[0] != "#"]
    assert sorted(more) == sorted(
        [
            *("Description", "CacheDirectory", "CacheDirectoryMode", "Environment", "Environment"),
            *("EnvironmentFile", "KillMode", "SystemCallErrorNumber", "TasksMax"),
        ]
    )


@pytest.mark.parametrize("unit", [units.service(), units.stdio()], ids=lambda unit: unit.name)
def test_instances_of_a_template_share_no_user_with_each_other_or_the_ca(unit: units.Unit) -> None:
    """A user is named after its unit without the instance, unless it is said otherwise."""
    [user] = [line for line in unit.text.splitlines() if line.startswith("User=")]
    assert user == "User=sidecar_%i"
    for other in (units.service("ca"), units.stdio("ca"), units.authority()):
        assert "\nUser=" not in other.text
        assert not other.name.startswith("sidecar_")


def test_a_unit_is_printed_for_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "unit", "files", "--program", "/opt/x/sidecar"]) == 0
    out = capsys.readouterr().out
    assert "ExecStart=/opt/x/sidecar run -c /etc/sidecar/files.yaml\n" in out
    assert main(["export", "unit", "files", "--socket", "127.0.0.1:8443"]) == 0
    assert "ListenStream=127.0.0.1:8443\n" in capsys.readouterr().out
    assert main(["export", "unit", "git", "--stdio"]) == 0
    assert "CacheDirectory=sidecar/git\n" in capsys.readouterr().out
    assert main(["export", "unit", "ca"]) == 0
    assert " ca serve " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["", "-x", "a/b", "a b", "x" * 65, "a\nUser=root"])
def test_a_name_that_no_unit_can_have_is_a_matter_of_usage(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "unit", "--", name]) == 2
    assert "is no name of a unit" in capsys.readouterr().err


def test_a_program_that_the_unit_cannot_see_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "unit", "files", "--program", "/run/user/1000/sidecar"]) == 0
    assert "ProtectHome" in capsys.readouterr().err
