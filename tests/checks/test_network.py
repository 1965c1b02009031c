"""Addresses: free or answering ports, servers that are there, and the way around."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sidecar.checks import network
from sidecar.upstream.cluster import ClusterSpec, EndpointSpec, TlsMode, TlsSpec

from ..support.daemon import free_port


class Plan:
    """A snapshot as far as these checks look at it."""

    def __init__(
        self, listen: str = "", servers: tuple[str, ...] = (), tls: TlsSpec | None = None
    ) -> None:
        self.services = {listen: None} if listen else {}
        endpoints = tuple(EndpointSpec(one) for one in servers)
        self.clusters = (ClusterSpec("c", endpoints, tls=tls),)


def test_a_port_is_free_before_a_start_and_answers_after_it() -> None:
    port = free_port()
    plan = Plan(f"127.0.0.1:{port}")
    assert [one.ok for one in network.ports(plan, running=False)] == [True]
    [cross] = network.ports(plan, running=True)
    assert cross.ok is False
    assert "refused" in cross.said
    with socket.create_server(("127.0.0.1", port)):
        assert [one.ok for one in network.ports(plan, running=True)] == [True]
        [cross] = network.ports(plan, running=False)
        assert cross.ok is False
        assert cross.remedy


def test_a_server_on_a_unix_socket_is_reached_and_has_no_way_around(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    plan = Plan(servers=(f"unix:{path}",))
    assert [one.ok for one in network.servers(plan)] == [False]
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        assert [(one.name, one.ok) for one in network.servers(plan)] == [("server", True)]


def test_an_outbound_on_a_unix_socket_is_always_free_and_answers_while_it_runs(
    tmp_path: Path,
) -> None:
    plan = Plan(f"unix:{tmp_path}/s")
    assert [one.ok for one in network.ports(plan, running=False)] == [True]
    [cross] = network.ports(plan, running=True)
    assert (cross.ok, cross.said) == (False, f"unix:{tmp_path}/s: No such file or directory")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{tmp_path}/s")
        sock.listen()
        assert [one.ok for one in network.ports(plan, running=True)] == [True]


@pytest.mark.parametrize(
    ("mode", "looked_at"),
    [(TlsMode.ISTIO_MUTUAL, ["server"]), (TlsMode.SIMPLE, ["server", "last metre"])],
)
def test_who_asks_for_certificates_may_be_open_to_the_network(
    mode: TlsMode, looked_at: list[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        plan = Plan(servers=(address,), tls=TlsSpec(mode))
        assert [one.name for one in network.servers(plan)] == looked_at


def test_a_server_on_loopback_alone_is_well() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        plan = Plan(servers=(f"127.0.0.1:{sock.getsockname()[1]}",))
        assert [one.ok for one in network.servers(plan)] == [True, True]


def test_a_server_that_answers_on_another_address_too_is_a_cross(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Another loopback address stands for one of the network's.
    monkeypatch.setattr(network, "own_addresses", lambda: iter(["127.0.0.2"]))
    with socket.create_server(("0.0.0.0", 0)) as sock:
        port = sock.getsockname()[1]
        _, cross = network.servers(Plan(servers=(f"127.0.0.1:{port}",)))
    assert cross.ok is False
    assert f"127.0.0.2:{port}" in cross.said
    assert "Unix socket" in cross.remedy


def test_a_server_that_is_not_on_loopback_is_a_cross(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "unreachable", lambda host, port: "")
    reached, cross = network.servers(Plan(servers=("192.0.2.1:9",)))
    assert reached.ok is True
    assert cross.ok is False
    assert "around this sidecar" in cross.said


def test_the_addresses_of_this_machine_are_none_of_loopback() -> None:
    assert not [one for one in network.own_addresses() if one.startswith("127.") or one == "::1"]


@pytest.mark.parametrize(("address", "parts"), [("a:1", ("a", 1)), ("[::1]:8443", ("::1", 8443))])
def test_an_address_is_a_host_and_a_port(address: str, parts: tuple[str, int]) -> None:
    assert network.split(address) == parts
