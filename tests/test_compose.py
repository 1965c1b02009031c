"""compose.yaml as it is written: whole, without a secret, and with no door left open.

How it runs is tried in live/test_image.py.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.config.loaded import parse_documents

ROOT = Path(__file__).parents[1]
FILE = ROOT / "compose.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]
ONE_SHOT = "service_completed_successfully"

each_service = pytest.mark.parametrize("name", SERVICES)


def dependencies(name: str) -> dict[str, str]:
    return {one: how["condition"] for one, how in SERVICES[name].get("depends_on", {}).items()}


@each_service
def test_what_a_service_names_is_there(name: str) -> None:
    service = SERVICES[name]
    assert service["image"] == "mcp-sidecar:local"
    assert dependencies(name).keys() <= SERVICES.keys()
    shares = service.get("network_mode", "none")
    assert shares == "none" or shares.removeprefix("service:") in SERVICES
    volumes = {one.split(":")[0] for one in service.get("volumes", [])}
    assert volumes <= DOCUMENT["volumes"].keys()
    assert {one["source"] for one in service.get("configs", [])} <= DOCUMENT["configs"].keys()


def test_one_service_builds_the_image_and_all_use_it() -> None:
    assert [name for name, one in SERVICES.items() if "build" in one] == ["ca-init"]


@each_service
def test_a_config_may_be_read_by_the_images_user(name: str) -> None:
    """Compose from 2.34 on writes what is told inline as root's, of mode 0440."""
    assert {one["mode"] for one in SERVICES[name].get("configs", [])} <= {0o444}


def test_all_that_is_declared_is_used() -> None:
    used = {one.split(":")[0] for x in SERVICES.values() for one in x.get("volumes", [])}
    assert used == DOCUMENT["volumes"].keys()
    shown = {one["source"] for x in SERVICES.values() for one in x.get("configs", [])}
    assert shown == DOCUMENT["configs"].keys()


@each_service
def test_a_service_may_do_no_more_than_any_process_of_its_user(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "user", "pid", "ipc", "devices", "ports"} & service.keys()
    assert not [one for one in service.get("volumes", []) if one.startswith((".", "/"))]


@each_service
def test_what_is_waited_for_says_when_it_is_so(name: str) -> None:
    for other, condition in dependencies(name).items():
        if condition == "service_healthy":
            assert SERVICES[other]["healthcheck"]["test"][0] == "CMD"
            assert SERVICES[other]["restart"] == "unless-stopped"
        else:
            assert condition == ONE_SHOT
            assert "restart" not in SERVICES[other]


@pytest.mark.parametrize("who", ["files", "notes", "agent"])
def test_a_token_is_shared_by_who_makes_it_and_who_joins_with_it_alone(who: str) -> None:
    holders = {
        name: one
        for name, service in SERVICES.items()
        for one in service.get("volumes", [])
        if one.startswith(f"{who}-token:")
    }
    assert holders == {
        f"{who}-token": f"{who}-token:/run/credentials",
        f"{who}-sidecar": f"{who}-token:/run/credentials:ro",
    }
    assert "umask 077" in SERVICES[f"{who}-token"]["entrypoint"][-1]
    assert dependencies(f"{who}-sidecar")[f"{who}-token"] == ONE_SHOT


def test_the_keys_of_the_ca_are_seen_by_the_ca_and_by_what_makes_tokens() -> None:
    seen = {
        name for name, one in SERVICES.items() if "ca:/var/lib/sidecar" in one.get("volumes", [])
    }
    assert seen == {"ca-init", "ca", "files-token", "notes-token", "agent-token"}
    for name in seen - {"ca"}:
        assert SERVICES[name]["network_mode"] == "none", "it needs nobody to talk to"


def test_no_secret_stands_in_it() -> None:
    assert "secrets" not in DOCUMENT
    text = FILE.read_text()
    assert not re.search(r"BEGIN [A-Z ]*KEY|v1\.[0-9a-f]{64}|password|[0-9a-f]{32}", text, re.I)
    told = {name: one["environment"] for name, one in SERVICES.items() if "environment" in one}
    assert {key for one in told.values() for key in one} == {"WHO", "HOST"}


@pytest.mark.parametrize("name", [one for one in DOCUMENT["configs"] if one.endswith("-sidecar")])
def test_the_configuration_of_a_sidecar_is_sound(name: str) -> None:
    loaded = parse_documents(DOCUMENT["configs"][name]["content"].encode(), name)
    assert [problem.message for problem in loaded.errors] == []


@pytest.mark.parametrize("who", ["files", "notes"])
def test_a_server_shares_the_network_of_its_sidecar_and_listens_on_loopback(who: str) -> None:
    assert SERVICES[f"{who}-sidecar"]["network_mode"] == f"service:{who}"
    assert SERVICES[who]["entrypoint"][-1] == "127.0.0.1:9000"


def schema() -> dict[str, Any]:
    """The schema of the Compose Specification, as a checker of the test extras carries it."""
    checker = pytest.importorskip("check_jsonschema", reason="check-jsonschema is not here")
    path = Path(checker.__file__).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    if not path.exists():
        pytest.skip("this check-jsonschema carries no schema of the Compose Specification")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_it_keeps_to_the_schema_of_compose() -> None:
    from jsonschema.validators import validator_for

    told = schema()
    validator = validator_for(told)(told)
    assert [error.message for error in validator.iter_errors(DOCUMENT)] == []
    document = json.loads(json.dumps(DOCUMENT))
    document["services"]["ca"]["portz"] = ["8444:8444"]
    assert len(list(validator.iter_errors(document))) == 1, "and the schema finds a mistake"


def test_an_engine_takes_it() -> None:
    if shutil.which("docker") is None:
        pytest.skip("docker is not here")
    argv = ["docker", "compose", "-f", str(FILE)]
    if subprocess.run([*argv[:2], "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker has no compose plugin here")
    done = subprocess.run([*argv, "config", "-q"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
