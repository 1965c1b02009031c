"""Outbound listeners as they are written: where, for whom, and to which service."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.config.addresses import Address
from sidecar.config.bootstrap import Outbound
from sidecar.config.loaded import Loaded, parse_documents

SOCKET = "unix:/run/agent/files.sock"


def read(*outbound: dict[str, Any], **spec: Any) -> Loaded:
    written = {
        "apiVersion": "sidecar/v1",
        "kind": "Sidecar",
        "metadata": {"name": "agent", "namespace": "prod"},
        "spec": {"outbound": list(outbound), **spec},
    }
    return parse_documents(json.dumps(written).encode(), "boot.yaml")


def sound(**outbound: Any) -> Outbound:
    loaded = read({"service": "files.mesh", **outbound})
    assert loaded.problems == ()
    assert loaded.bootstrap is not None
    (found,) = loaded.bootstrap.spec.outbound
    return found


def problem(**outbound: Any) -> tuple[str, str]:
    """Return the code of the one problem, and all that is said of it."""
    (found,) = read({"service": "files.mesh", **outbound}).problems
    return found.code, f"{found.message} {found.why} {found.help}"


def test_a_socket_is_for_the_own_user_until_others_are_named() -> None:
    own = sound(listen=SOCKET)
    assert own.listen == Address(unix="/run/agent/files.sock")
    assert (own.to.host, own.to.port, own.to.authority) == ("files.mesh", 0, "files.mesh")
    assert (own.allow_uids, own.any_process) == ((), False)
    assert sound(listen=SOCKET, allowUids=[1000, 0]).allow_uids == (1000, 0)
    assert sound(listen=SOCKET, allowAnyLocalProcess=True).any_process


def test_loopback_is_for_every_process_where_that_is_said() -> None:
    for address in ("127.0.0.1:15001", "[::1]:15001", "127.0.0.1:0"):
        assert str(sound(listen=address, allowAnyLocalProcess=True).listen) == address


@pytest.mark.parametrize("service", ["files.mesh:8080", "http://files.mesh:8080"])
def test_a_service_may_name_its_port(service: str) -> None:
    found = sound(listen=SOCKET, service=service)
    assert (found.to.host, found.to.port) == ("files.mesh", 8080)
    assert found.to.authority == "files.mesh:8080"


@pytest.mark.parametrize(
    ("written", "code", "said"),
    [
        ({"listen": "127.0.0.1:15001"}, "SC0708", "allowAnyLocalProcess: true"),
        (
            {"listen": "127.0.0.1:15001", "allowAnyLocalProcess": False},
            "SC0708",
            "every process on this machine could call",
        ),
        ({"listen": "127.0.0.1:15001", "allowUids": [0]}, "SC0708", "only a Unix socket tells"),
        (
            {"listen": SOCKET, "allowUids": [0], "allowAnyLocalProcess": True},
            "SC0708",
            "keep the one that is meant",
        ),
        ({"listen": "0.0.0.0:15001", "allowAnyLocalProcess": True}, "SC0709", "other machines"),
        ({"listen": "10.0.0.1:15001", "allowAnyLocalProcess": True}, "SC0709", "other machines"),
        ({"listen": "unix:run/x"}, "SC0211", "absolute path"),
        ({"listen": SOCKET, "service": "http://10.0.0.1:80"}, "SC0211", "ServiceEntry"),
        ({"listen": SOCKET, "service": "unix:/run/y"}, "SC0211", "ServiceEntry"),
        ({"listen": SOCKET, "service": "localhost:80"}, "SC0211", "ServiceEntry"),
        ({"listen": SOCKET, "allowUids": []}, "SC0210", "allowUids"),
        ({"listen": SOCKET, "allowUids": [-1]}, "SC0206", "allowUids"),
        ({"listen": SOCKET, "allowUids": ["alice"]}, "SC0203", "allowUids"),
        ({"listen": SOCKET, "to": "files.mesh"}, "SC0204", "to"),
    ],
    ids=str,
)
def test_what_is_wrong_is_told_with_its_remedy(
    written: dict[str, Any], code: str, said: str
) -> None:
    found, text = problem(**written)
    assert found == code
    assert said in text


def test_a_sidecar_has_a_listener_of_one_kind_at_least() -> None:
    loaded = parse_documents(
        b"apiVersion: sidecar/v1\nkind: Sidecar\nmetadata: {name: a}\nspec: {mtls: STRICT}\n", "b"
    )
    assert [one.code for one in loaded.problems] == ["SC0202"]


@pytest.mark.parametrize(
    "spec",
    [
        {"admin": {"listen": SOCKET}},
        {"outbound": [{"listen": SOCKET, "service": "a"}, {"listen": SOCKET, "service": "b"}]},
    ],
    ids=["admin", "outbound"],
)
def test_two_listeners_do_not_share_an_address(spec: dict[str, Any]) -> None:
    loaded = read(**{"outbound": [{"listen": SOCKET, "service": "a"}], **spec})
    assert [one.code for one in loaded.problems] == ["SC0705"]
