"""A cluster whose servers speak HTTP/2, in memory; the test plays them.

shared = Shared()
lease = await shared.sent()
await shared.say(shared.server.reply(1))
"""

from __future__ import annotations

from typing import Any

from sidecar.errors import UpstreamError
from sidecar.net.lease import Lease

from .clusters import Net
from .memory import Pipe
from .server2 import Server2

REQUEST = b"POST /a HTTP/1.1\r\nhost: up.test\r\ncontent-length: 4\r\n\r\nbody"


class Shared:
    """A cluster whose servers speak HTTP/2; the test plays them."""

    def __init__(self, *endpoints: str, streams: int = 100, **pool: Any) -> None:
        self.net = Net(endpoints or ("a:80",), http2=True, **pool)
        self.net.loop.on_open = self._opened
        self._streams = streams
        self.servers: dict[Pipe, Server2] = {}

    def _opened(self, pipe: Pipe) -> None:
        self.servers[pipe] = Server2(streams=self._streams)

    async def settle(self, seconds: float = 0.0) -> None:
        """Let everything happen that can, on both sides."""
        await self.net.loop.settle(seconds)
        for pipe, server in self.servers.items():
            while data := pipe.heard():
                answer = server.hear(data)
                if answer:
                    pipe.say(answer)
                await self.net.loop.settle()

    async def sent(self, data: bytes = REQUEST, method: str = "POST") -> Lease:
        """Return the lease of a call that was sent."""
        lease = self.net.asked()
        await self.settle()
        assert lease.upstream is not None, lease.fault
        lease.upstream.send(method, data, lease.wake)
        await self.settle()
        return lease

    @property
    def pipe(self) -> Pipe:
        [pipe] = self.servers
        return pipe

    @property
    def server(self) -> Server2:
        return self.servers[self.pipe]

    async def say(self, data: bytes) -> None:
        self.pipe.say(data)
        await self.settle()


def fault(lease: Lease) -> UpstreamError:
    assert lease.upstream is not None
    assert lease.upstream.fault is not None
    return lease.upstream.fault
