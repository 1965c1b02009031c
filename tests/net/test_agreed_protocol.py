"""Over TLS the server has a word in it: what is offered is what the caller speaks, or HTTP/1.1."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from support.both import Both
from support.memory import Pipe, in_memory, loop
from support.server2 import Server2

from sidecar.net.clusters import Clusters
from sidecar.net.dial import PROTOCOLS, Dialler, Secured
from sidecar.net.upstream import Upstream
from sidecar.net.upstream2 import Upstream2
from sidecar.upstream.cluster import TlsMode, TlsSpec
from sidecar.upstream.endpoint import Endpoint

NEW, OLD = "h2", "http/1.1"


class Agreeing(Dialler):
    """Servers that take *takes* of what they are offered; `offered` is what that was."""

    def __init__(self, servers: dict[Pipe, Server2], takes: str) -> None:
        super().__init__(lambda: None, lambda: 0.0, lambda *_: None)
        self.servers, self.takes = servers, takes
        self.offered: list[tuple[str, ...]] = []

    async def open(
        self, endpoint: Endpoint, spec: TlsSpec, protocols: Sequence[str] = PROTOCOLS
    ) -> Secured:
        self.offered.append(tuple(protocols))
        pipe, _ = await loop().create_connection(asyncio.Protocol, endpoint.host, endpoint.port)
        agreed = self.takes if self.takes in protocols else OLD
        if agreed == NEW:
            self.servers[pipe] = Server2()
        return Secured(pipe, agreed, 1e9)


class Secure(Both):
    """A cluster over TLS whose servers take *takes*."""

    def __init__(self, takes: str, **pool: int) -> None:
        super().__init__(**pool)
        self.dialler = Agreeing(self.servers, takes)
        self.clusters = Clusters(replace(self.clusters._means, dialler=self.dialler))
        self.spec = replace(self.spec, tls=TlsSpec(TlsMode.SIMPLE))
        self.clusters.replace([self.spec])


@in_memory
async def test_each_caller_has_its_own_protocol_offered() -> None:
    net = Secure(NEW)
    for _ in range(2):
        old, new = await net.sent(http2=False), await net.sent(http2=True)
        assert isinstance(net.pipe(old).protocol, Upstream)
        assert isinstance(net.pipe(new).protocol, Upstream2)
        await net.answered(old)
        await net.answered(new)
    assert net.dialler.offered == [(OLD,), (NEW, OLD)]


@in_memory
async def test_a_server_that_takes_no_http2_is_spoken_to_over_http1_all_the_same() -> None:
    net = Secure(OLD)
    for _ in range(3):
        lease = await net.sent(http2=True)
        assert isinstance(lease.upstream, Upstream)
        await net.answered(lease)
    assert net.dialler.offered == [(NEW, OLD)], "it is used again for who speaks HTTP/2"
    await net.answered(await net.sent(http2=False))
    assert net.dialler.offered == [(NEW, OLD), (OLD,)]
    assert net.counter("upstream_cx_connect_fail") == 0


@in_memory
async def test_who_waited_for_a_connection_that_shares_nothing_has_one_dialled() -> None:
    net = Secure(OLD)
    leases = [net.asked(http2=True) for _ in range(4)]
    await net.settle()
    assert all(isinstance(lease.upstream, Upstream) for lease in leases)
    assert net.cluster.connections == 4


@pytest.mark.parametrize("first", [False, True])
@in_memory
async def test_what_takes_no_http2_makes_room_like_any_other(*, first: bool) -> None:
    net = Secure(OLD, max_connections=1)
    held = await net.sent(http2=first)
    waiting = await net.asked_for(http2=not first)
    assert waiting.upstream is None
    await net.answered(held)
    assert waiting.upstream is not None
    await net.send_on(waiting)
    await net.answered(waiting)
    assert net.cluster.connections == 1
