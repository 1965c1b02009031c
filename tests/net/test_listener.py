"""Where we listen: an address that cannot be had is an error with its remedy."""

from __future__ import annotations

import socket

import pytest

from sidecar.errors import StartError
from sidecar.net.listener import bind


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_an_address_is_bound_and_listens(host: str) -> None:
    try:
        listening = bind(f"{host}:0")
    except StartError as error:
        if host == "[::1]" and "assign" in str(error):
            pytest.skip("this machine has no IPv6")
        raise
    with listening:
        port = listening.getsockname()[1]
        assert not listening.getblocking()
        with socket.create_connection((host.strip("[]"), port), timeout=20):
            pass


def test_a_taken_address_names_itself_and_the_remedy() -> None:
    with bind("127.0.0.1:0") as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartError) as error:
            bind(address)
    assert f"`{address}`" in str(error.value)
    assert "free port" in error.value.help


@pytest.mark.parametrize(
    "address", ["192.0.2.1:80", "127.0.0.1:70000", "127.0.0.1:http", "no-such-host.invalid:80", ""]
)
def test_an_address_that_is_none_of_ours_is_an_error(address: str) -> None:
    with pytest.raises(StartError) as error:
        bind(address)
    assert f"cannot listen on `{address}`" in str(error.value)


def test_a_port_that_was_just_left_can_be_had_again() -> None:
    listening = bind("127.0.0.1:0")
    listening.settimeout(20)
    port = listening.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port), timeout=20):
        listening.accept()[0].close()  # who closes first keeps the port in TIME_WAIT
    listening.close()
    bind(f"127.0.0.1:{port}").close()
