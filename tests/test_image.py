"""What the image is made of: locked, without a compiler, and nobody's root."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
LOCKS = {"runtime": [], "test": ["test"]}


def instructions(name: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.startswith(f"{name} ")]


def locked(name: str) -> dict[str, str]:
    """Name -> version of what the lock *name* holds."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", text, re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in found}


def test_the_base_is_named_by_its_digest_and_both_stages_have_it() -> None:
    [base] = instructions("ARG")
    assert re.fullmatch(r"ARG BASE=python:3\.1[1-9]-slim@sha256:[0-9a-f]{64}", base)
    assert instructions("FROM") == ["FROM ${BASE} AS build", "FROM ${BASE}"]


def test_what_is_fetched_is_fetched_by_hash_and_never_compiled() -> None:
    fetching = [part for run in instructions("RUN") for part in run.split("&&") if "pip" in part]
    for part in fetching:
        if " -r " in part:
            assert "--require-hashes --only-binary :all:" in part
        else:
            assert "--no-deps" in part or "uninstall" in part
    assert not re.search(r"apt|gcc|build-essential", DOCKERFILE)


def test_it_runs_as_a_number_that_is_not_root_and_says_how_it_is() -> None:
    assert instructions("USER") == ["USER 10001:10001"]
    assert 'CMD ["sidecar", "check", "--quiet"' in DOCKERFILE


def test_the_build_leaves_a_list_of_what_is_in_it() -> None:
    assert "cyclonedx-py environment" in DOCKERFILE


@pytest.mark.parametrize("name", [*LOCKS, "build"])
def test_every_locked_package_has_its_hashes(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = re.split(r"\n(?=[A-Za-z0-9])", text)
    assert len(entries) > 5
    for entry in entries:
        assert "==" in entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]
    assert "://" not in text


@pytest.mark.parametrize(("name", "extras"), LOCKS.items())
def test_the_lock_holds_what_the_project_asks_for(name: str, extras: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"]]
    for extra in extras:
        asked += project["optional-dependencies"][extra]
    have = locked(name)
    for requirement in asked:
        match = re.match(r"([A-Za-z0-9._-]+)>=([0-9.]+)(?:,<([0-9.]+))?", requirement)
        assert match is not None, requirement
        version = have.get(match[1].lower().replace("_", "-"))
        assert version is not None, f"{match[1]} is not in requirements/{name}.txt: lock anew"
        assert parts(version) >= parts(match[2]), requirement
        assert match[3] is None or parts(version) < parts(match[3]), requirement


def parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
