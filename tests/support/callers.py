"""A caller's connection in memory, and whatever serves it.

caller = Callers(serve).connect()
caller.say(request("GET", "/a"))
await loop().settle()
assert caller.heard() == ...
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from sidecar.http.h1 import Bounds
from sidecar.http.lines import LineTables
from sidecar.net.caller import Connection, Door, Serve, Times
from sidecar.net.deadlines import Deadlines
from sidecar.net.downstream import Downstream
from sidecar.net.downstream2 import Downstream2
from sidecar.net.tasks import Tasks
from sidecar.policy.call import Peer
from sidecar.spiffe.id import SpiffeId

from .memory import Pipe, loop

ALICE = "spiffe://cluster.local/ns/agent/sa/alice"


def request(method: str, target: str, body: bytes = b"", *lines: str) -> bytes:
    """The bytes of one request."""
    head = [f"{method} {target} HTTP/1.1", "host: files.local", *lines]
    if body:
        head.append(f"content-length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


@dataclass
class Callers:
    """All that connections share; *serve* is given their requests."""

    serve: Serve
    times: Times = field(default_factory=lambda: Times(head=10, body=30, idle=60))
    bounds: Bounds = field(default_factory=lambda: Bounds(head=1024, fields=20, body=4096))
    peer: Peer | None = field(default_factory=lambda: Peer(SpiffeId.parse(ALICE), "10.0.0.9"))
    inbound: str = "127.0.0.1:8443"

    def __post_init__(self) -> None:
        self.faults: list[BaseException] = []
        self.live: set[Connection] = set()
        self.tasks = Tasks(lambda _, fault: self.faults.append(fault))
        self.deadlines = Deadlines(loop(), loop().clock)
        self.deadlines.start()

    def identify(self, transport: asyncio.BaseTransport, down: Connection) -> Peer | None:
        down.forwarded_for = b"x-forwarded-client-cert: URI=%b\r\n" % str(self.peer).encode()
        return self.peer

    def connect(self, *, secure: bool = True) -> Pipe:
        """Return a new connection; the test is its caller."""
        return Pipe(Downstream(self._door(), loop()), secure=secure)

    def connect2(self, *, streams: int = 100, secure: bool = True) -> Pipe:
        """The same over HTTP/2."""
        return Pipe(Downstream2(self._door(streams), loop()), secure=secure)

    def _door(self, streams: int = 100) -> Door:
        return Door(
            inbound=self.inbound,
            port=8443,
            bounds=self.bounds,
            times=self.times,
            tables=LineTables(32_768, 16),
            deadlines=self.deadlines,
            serve=self.serve,
            spawn=self.tasks.spawn,
            report=lambda _, fault: self.faults.append(fault),
            live=self.live,
            identify=self.identify,
            streams=streams,
        )
