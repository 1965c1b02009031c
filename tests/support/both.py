"""A cluster in memory whose servers speak both protocols, each call over its caller's own.

net = Both(max_connections=2)
old, new = await net.sent(http2=False), await net.sent(http2=True)
await net.answered(new)
"""

from __future__ import annotations

from typing import Any

from sidecar.net.lease import Lease
from sidecar.net.upstream2 import Upstream2, UpstreamStream

from .clusters import OK, Net
from .memory import Pipe
from .server2 import Server2

REQUEST = b"GET /a HTTP/1.1\r\nhost: up.test\r\n\r\n"


class Both(Net):
    """One cluster named `files` that keeps its callers' protocols."""

    def __init__(self, *endpoints: str, streams: int = 100, **more: Any) -> None:
        self.streams = streams
        self.greets = True  # servers do not hang up at once
        self.servers: dict[Pipe, Server2] = {}
        super().__init__(endpoints or ("a:80",), **{"http2": True, "preserve": True} | more)
        self.loop.on_open = self._opened

    def _opened(self, pipe: Pipe) -> None:
        if not self.greets:
            pipe.reset()
        elif isinstance(pipe.protocol, Upstream2):
            self.servers[pipe] = Server2(streams=self.streams)

    @property
    def open(self) -> list[Pipe]:
        """The connections that nobody has ended."""
        return [pipe for pipes in self.loop.pipes.values() for pipe in pipes if not pipe.end]

    def speaks(self, address: str = "a:80") -> list[int]:
        """Return the version that each connection to *address* was opened with."""
        pipes = self.loop.pipes.get(address, [])
        return [2 if isinstance(pipe.protocol, Upstream2) else 1 for pipe in pipes]

    def pipe(self, lease: Lease) -> Pipe:
        upstream = lease.upstream
        held = upstream._carrier if isinstance(upstream, UpstreamStream) else upstream
        return next(pipe for pipe in self.loop.opened if pipe.protocol is held)

    async def settle(self, seconds: float = 0.0) -> None:
        """Let everything happen that can, on both sides."""
        await self.loop.settle(seconds)
        for pipe, server in list(self.servers.items()):
            while data := pipe.heard():
                answer = server.hear(data)
                if answer and not pipe.end:
                    pipe.say(answer)
                await self.loop.settle()

    async def asked_for(self, *, http2: bool, **more: Any) -> Lease:
        """Return a lease for a caller of that protocol, whose connection may not be there yet."""
        lease = self.asked(http2=http2, **more)
        await self.settle()
        return lease

    async def sent(self, *, http2: bool, **more: Any) -> Lease:
        """Return the lease of a call that was sent."""
        lease = await self.asked_for(http2=http2, **more)
        await self.send_on(lease)
        return lease

    async def send_on(self, lease: Lease) -> None:
        assert lease.upstream is not None, lease.fault
        lease.upstream.send("GET", REQUEST, lease.wake)
        await self.settle()

    async def answered(self, lease: Lease, status: int = 200) -> None:
        """The server answers what was sent, and the exchange is over."""
        upstream, pipe = lease.upstream, self.pipe(lease)
        if isinstance(upstream, UpstreamStream):
            pipe.say(self.servers[pipe].reply(upstream.number, b"ok", status=str(status)))
        else:
            pipe.say(OK.replace(b"200", b"%d" % status))
        await self.settle()
        lease.answered(status, self.loop.clock())
        self.end(lease)
        await self.settle()
