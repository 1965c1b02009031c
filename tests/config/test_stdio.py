"""Programs behind a listener as they are written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.config.addresses import Address
from sidecar.config.bootstrap import Inbound
from sidecar.config.loaded import Loaded, parse_documents
from sidecar.config.snapshot import compile_snapshot
from sidecar.config.stdio import StdioSpec, target_at

GIT = {"command": ["uvx", "mcp-server-git"]}


def read(**inbound: Any) -> Loaded:
    written = {
        "apiVersion": "sidecar/v1",
        "kind": "Sidecar",
        "metadata": {"name": "git", "namespace": "mcp"},
        "spec": {"inbound": [{"listen": "127.0.0.1:8443", **inbound}]},
    }
    return parse_documents(json.dumps(written).encode(), "etc/boot.yaml")


def sound(**stdio: Any) -> Inbound:
    loaded = read(stdio={**GIT, **stdio})
    assert loaded.problems == ()
    assert loaded.bootstrap is not None
    return loaded.bootstrap.spec.inbound[0]


def spec(**stdio: Any) -> StdioSpec:
    found = sound(**stdio).stdio
    assert found is not None
    return found


def problems(**inbound: Any) -> list[tuple[str, str]]:
    return [(one.code, f"{one.message} {one.help}") for one in read(**inbound).problems]


def test_a_program_needs_no_more_than_its_words() -> None:
    inbound = sound()
    assert inbound.stdio == StdioSpec(("uvx", "mcp-server-git"))
    assert inbound.to == target_at(Address("127.0.0.1", 8443))
    assert (str(inbound.to), inbound.to.is_local) == ("stdio:127.0.0.1:8443", True)
    assert inbound.service == "git"


def test_everything_can_be_said() -> None:
    found = spec(
        env={"A_1": "x y"},
        inheritEnv=["TOKEN"],
        cwd="work",
        children=3,
        childrenPerCaller=2,
        calls=5,
        idleTimeout="1m",
        startTimeout="2s",
        endTimeout="500ms",
        lineBytes="1MiB",
        queueBytes="64KiB",
        replayBytes=1000,
    )
    assert found == StdioSpec(
        ("uvx", "mcp-server-git"),
        {"A_1": "x y"},
        ("TOKEN",),
        "etc/work",
        3,
        2,
        5,
        60.0,
        2.0,
        0.5,
        1 << 20,
        1 << 16,
        1000,
    )


def test_the_program_gets_a_few_names_and_what_is_listed() -> None:
    own = {
        "PATH": "/bin",
        "HOME": "/home",
        "SECRET": "s",
        "TOKEN": "t",
        "NOTIFY_SOCKET": "/run/n",
        "LISTEN_FDS": "1",
        "CREDENTIALS_DIRECTORY": "/run/c",
        "WATCHDOG_USEC": "1",
    }
    found = spec(env={"HOME": "/srv", "MODE": "ro"}, inheritEnv=["TOKEN", "ABSENT"])
    assert found.environment(own) == {
        "PATH": "/bin",
        "HOME": "/srv",
        "MODE": "ro",
        "TOKEN": "t",
    }


@pytest.mark.parametrize(
    "name",
    ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "CREDENTIALS_DIRECTORY", "WATCHDOG_USEC"],
)
def test_what_is_the_service_managers_is_never_handed_on(name: str) -> None:
    for stdio in ({"inheritEnv": [name]}, {"env": {name: "x"}}):
        [(code, said)] = problems(stdio={**GIT, **stdio})
        assert code == "SC0711"
        assert f"`{name}` is never handed on" in said


@pytest.mark.parametrize(
    ("inbound", "code", "said"),
    [
        ({}, "SC0710", "neither `to` nor `stdio`"),
        ({"to": "http://127.0.0.1:9000", "stdio": GIT}, "SC0710", "both `to` and `stdio`"),
        ({"stdio": {}}, "SC0202", "`command`"),
        ({"stdio": {"command": []}}, "SC0210", "command"),
        ({"stdio": {"command": [""]}}, "SC0211", "names no program"),
        ({"stdio": {"command": "uvx mcp-server-git"}}, "SC0203", "a list"),
        ({"stdio": {"command": ["a\0b"]}}, "SC0211", "NUL"),
        ({"stdio": {**GIT, "env": {"a-b": "1"}}}, "SC0211", "not the name of a variable"),
        ({"stdio": {**GIT, "children": 0}}, "SC0206", "children"),
        ({"stdio": {**GIT, "children": 4}}, "SC0206", "childrenPerCaller"),
        ({"stdio": {**GIT, "idleTimeout": "0s"}}, "SC0207", "idleTimeout"),
        ({"stdio": {**GIT, "lineBytes": 0}}, "SC0208", "lineBytes"),
        ({"stdio": {**GIT, "shell": True}}, "SC0204", "shell"),
        ({"to": "stdio:127.0.0.1:8443"}, "SC0211", "not a host's name"),
    ],
)
def test_what_is_wrong_is_said(inbound: dict[str, Any], code: str, said: str) -> None:
    found = problems(**inbound)
    assert [one for one, _ in found] == [code]
    assert said in found[0][1]


def test_a_program_is_a_server_like_any_other_to_the_rest() -> None:
    loaded = read(stdio=GIT)
    assert loaded.bootstrap is not None
    snapshot = compile_snapshot(loaded.bootstrap, ())
    [cluster] = snapshot.clusters
    assert [one.address for one in cluster.endpoints] == ["stdio:127.0.0.1:8443"]
    assert all(one.is_local for one in cluster.endpoints)
    [service] = snapshot.services.values()
    assert (service.cluster, service.authority) == ("git", b"localhost")
    assert snapshot.warnings == ()
