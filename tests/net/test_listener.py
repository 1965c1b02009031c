"""Where we listen: an address that cannot be had is an error with its remedy."""

from __future__ import annotations

import asyncio
import socket
from unittest.mock import create_autospec

import pytest

from sidecar.errors import StartError
from sidecar.net.downstream import Downstream
from sidecar.net.listener import Decrypted, bind


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
        with socket.create_connection((host.strip("[]"), port), timeout=5):
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
    listening.settimeout(5)
    port = listening.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        listening.accept()[0].close()  # who closes first keeps the port in TIME_WAIT
    listening.close()
    bind(f"127.0.0.1:{port}").close()


def test_what_was_decrypted_stays_as_it_was_when_the_next_comes() -> None:
    shared = memoryview(bytearray(8))
    one, other = (create_autospec(Downstream, instance=True) for _ in range(2))
    for to, data in ((one, b"GET /mcp"), (other, b"POST")):
        reads = Decrypted(to, shared)
        reads.get_buffer(-1)[: len(data)] = data
        reads.buffer_updated(len(data))
    ((first,),) = (call.args for call in one.data_received.call_args_list)
    ((second,),) = (call.args for call in other.data_received.call_args_list)
    assert (first, second) == (b"GET /mcp", b"POST")


def test_all_else_is_told_as_it_comes() -> None:
    to = create_autospec(Downstream, instance=True)
    to.eof_received.return_value = True
    reads, fault = Decrypted(to, memoryview(bytearray(8))), ConnectionResetError()
    assert reads.eof_received()
    reads.pause_writing()
    reads.resume_writing()
    reads.connection_lost(fault)
    assert not isinstance(reads, asyncio.Protocol), "or the loop would not use the buffer"
    assert [name for name, *_ in to.method_calls] == [
        "eof_received",
        "pause_writing",
        "resume_writing",
        "connection_lost",
    ]
    to.connection_lost.assert_called_once_with(fault)
