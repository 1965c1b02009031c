"""The image is built and run, and the mesh of compose.yaml comes up on it with no manual step.

Without an engine: buildah builds, systemd-nspawn and network namespaces stand for containers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.compose import Compose
from support.debian import ROOT, needs
from support.debian_tree import run
from support.image import Builder, Image
from support.pages import Page

pytestmark = [needs("buildah", "debootstrap"), pytest.mark.timeout(900)]

CALLS = Page(ROOT / "docs/how-to/run-in-containers.md").block("text", "files").splitlines()


@pytest.fixture(scope="module")
def image(debian: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    with Builder(tmp_path_factory.mktemp("image")) as builder:
        yield builder.build(builder.import_base(debian))


def inside(image: Image, *command: str) -> str:
    """Run *command* in the image as its user."""
    user, _, group = image.config["User"].partition(":")
    become = ("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups")
    environment = [f"{name}={value}" for name, value in image.environment.items()]
    return run("chroot", image.mount(), "env", "-i", *environment, *become, *command)


def test_its_entry_point_runs_as_nobody(image: Image) -> None:
    assert image.config["User"] == "10001:10001"
    entry = image.config["Entrypoint"]
    assert inside(image, *entry, "--version").startswith("sidecar ")
    assert inside(image, "id", "-u").strip() == "10001"


def test_it_holds_no_compiler_and_nothing_that_installs(image: Image) -> None:
    root = image.mount()
    found = {path.name for path in (root / "opt/sidecar/bin").iterdir()}
    assert {"sidecar", "python"} <= found
    assert not [name for name in found if name.startswith("pip")]
    for name in ("cc", "gcc", "g++", "make", "ld"):
        assert not (root / "usr/bin" / name).exists(), name
    assert not (root / "src").exists(), "the first stage is left behind"


def test_its_user_can_write_nothing_but_its_own_three_folders(image: Image) -> None:
    root = image.mount()
    own = ("var/lib/sidecar", "run/sidecar", "run/credentials")
    for name in own:
        status = (root / name).stat()
        assert (status.st_uid, status.st_mode & 0o777) == (10001, 0o700), name
    look = "find / -xdev -writable -not -type l -not -path '/proc/*' 2>/dev/null || true"
    found = inside(image, "sh", "-c", look).splitlines()
    open_to_all = ("/tmp", "/var/tmp", "/run/lock", "/dev")
    assert {path for path in found if not path.startswith(open_to_all)} == {f"/{x}" for x in own}


def test_what_is_in_it_is_listed(image: Image) -> None:
    listed = json.loads((image.mount() / "opt/sidecar/sbom.cdx.json").read_text())
    names = {one["name"] for one in listed["components"]}
    assert {"mcp-sidecar", "cryptography", "uvloop", "h2"} <= names


# -- compose.yaml


@pytest.fixture(scope="module")
def mesh(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    with Compose(ROOT / "compose.yaml", image, tmp_path_factory.mktemp("compose")) as mesh:
        mesh.up()
        yield mesh


needs_containers = needs("systemd-nspawn", "ip")


@needs_containers
def test_the_mesh_comes_up_by_itself_and_the_agent_calls_as_the_rules_allow(
    mesh: Compose,
) -> None:
    assert [line for line in mesh.wait("agent").splitlines() if line in CALLS] == CALLS


@needs_containers
def test_nobody_but_its_sidecar_reaches_a_server(mesh: Compose) -> None:
    knock = "import socket; socket.create_connection(('{}', {}), 3)"
    sidecar = mesh.run("agent", "python", "-c", knock.format("files", 8443))
    assert sidecar.returncode == 0, sidecar.stdout
    server = mesh.run("agent", "python", "-c", knock.format("files", 9000))
    assert "ConnectionRefusedError" in server.stdout


@needs_containers
def test_a_token_is_seen_by_its_sidecar_and_its_maker_and_is_spent(mesh: Compose) -> None:
    seen = {
        name: mesh.run(name, "cat", "/run/credentials/join-token").stdout.strip()
        for name in mesh.services
    }
    tokens = {seen[f"{who}-token"] for who in ("files", "notes", "agent")}
    assert len(tokens) == 3
    for who in ("files", "notes", "agent"):
        holders = {name for name, text in seen.items() if seen[f"{who}-token"] in text}
        assert holders == {f"{who}-token", f"{who}-sidecar"}
    log = mesh.run("ca", "sidecar", "ca", "log", "verify", "--ca", "/var/lib/sidecar/ca")
    assert "whole" in log.stdout
    left = mesh.run("ca", "ls", "/var/lib/sidecar/ca/tokens").stdout.split()
    assert [name.rpartition(".")[2] for name in left if "." in name] == ["spent"] * 3


@needs_containers
@pytest.mark.skipif(not os.environ.get("SIDECAR_LONG_TESTS"), reason="SIDECAR_LONG_TESTS is unset")
def test_it_comes_up_again_with_the_identities_that_it_has(mesh: Compose) -> None:
    shown = ("cat", "/var/lib/sidecar/certs/mcp/files/svid.pem")
    before = mesh.run("files-sidecar", *shown).stdout
    assert "BEGIN CERTIFICATE" in before
    mesh.down()
    mesh.up()
    said = mesh.wait("agent").splitlines()
    assert [line for line in said if line in CALLS] == CALLS * 2
    assert mesh.run("files-sidecar", *shown).stdout == before
