"""Programs as servers: there or not, and where they are to run."""

from __future__ import annotations

from pathlib import Path

from sidecar.checks.programs import programs
from sidecar.config.stdio import StdioSpec


def looked(path: Path, **spec: object) -> list[tuple[bool | None, str]]:
    found = programs({"stdio:x": StdioSpec(**spec)}, {"PATH": str(path)})  # type: ignore[arg-type]
    return [(one.ok, f"{one.said} {one.remedy}") for one in found]


def make(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_program_is_found_as_it_will_be_started(tmp_path: Path) -> None:
    program = make(tmp_path / "bin" / "server")
    for word in ("server", str(program)):
        assert looked(program.parent, command=(word,)) == [(True, f"stdio:x: {program} ")]
    found = looked(Path("/nowhere"), command=("server",), env={"PATH": str(program.parent)})
    assert found[0][0] is True
    assert looked(Path("/nowhere"), command=("bin/server",), cwd=str(tmp_path))[0][0] is True


def test_what_is_missing_is_said_with_its_remedy(tmp_path: Path) -> None:
    [(ok, said)] = looked(tmp_path, command=("server",))
    assert ok is False
    assert "there is no program `server`" in said
    assert "install it" in said
    make(tmp_path / "server")
    [(ok, said)] = looked(tmp_path, command=("server",), cwd=str(tmp_path / "none"))
    assert ok is False
    assert "is no folder" in said
