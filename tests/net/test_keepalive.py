"""Probes are set on the socket of a connection, on either loop, and nothing else is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop
from support.clusters import Net
from support.memory import in_memory

from sidecar.net.keepalive import keep_alive
from sidecar.upstream.endpoint import Keepalive

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [
    asyncio.SelectorEventLoop,
    uvloop.new_event_loop,
]


def probes(transport: asyncio.BaseTransport) -> tuple[int, int, int, int]:
    sock = transport.get_extra_info("socket")
    tcp = (socket.TCP_KEEPCNT, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)
    on = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    count, idle, interval = [sock.getsockopt(socket.IPPROTO_TCP, one) for one in tcp]
    return on, count, idle, interval


async def end(transport: asyncio.Transport) -> None:
    transport.abort()
    await asyncio.sleep(0.01)


@pytest.mark.parametrize("new_loop", LOOPS)
def test_what_is_written_is_set_and_the_rest_is_the_systems(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
        _, count, _, interval = probes(transport)
        keep_alive(transport, Keepalive(time=7.4))
        assert probes(transport) == (1, count, 7, interval)
        keep_alive(transport, Keepalive(3, 0.2, 5.0))
        assert probes(transport) == (1, 3, 1, 5)
        await end(transport)
        listening.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(story())


def test_a_unix_socket_has_no_probes() -> None:
    async def story() -> None:
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        keep_alive(transport, Keepalive(3, 1.0, 5.0))
        await end(transport)
        theirs.close()

    asyncio.run(story())


@in_memory
async def test_a_clusters_connections_are_probed_where_its_rule_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Keepalive] = []
    monkeypatch.setattr("sidecar.net.upstream.keep_alive", lambda _, one: seen.append(one))
    await Net().lent()
    assert seen == []
    await Net(keepalive=Keepalive(3)).lent()  # type: ignore[arg-type]
    assert seen == [Keepalive(3)]
