"""Clusters in memory: what leases are given, what is dialled, what is told.

net = Net(endpoints=("a:80", "b:80"), max_connections=1)
lease = await net.lent()
pipe = net.pipe(lease)          # the server's end of it
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidecar.http.h1 import Bounds
from sidecar.http.lines import LineTables
from sidecar.net.cluster import Cluster
from sidecar.net.clusters import Clusters
from sidecar.net.deadlines import Deadlines
from sidecar.net.lease import Lease
from sidecar.net.means import Means
from sidecar.net.outbox import Outbox
from sidecar.net.tasks import Tasks
from sidecar.net.wake import Wake
from sidecar.policy.verdict import Permit, Refusal
from sidecar.upstream.balance import Algorithm
from sidecar.upstream.cluster import ClusterSpec, EndpointSpec
from sidecar.upstream.endpoint import OutlierSpec, PoolSpec
from sidecar.upstream.outlier import Events

from .memory import Pipe, loop

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
EJECT = OutlierSpec(consecutive_5xx=2, base_ejection_time=10, interval=1, max_ejection_percent=100)


BOUNDS = Bounds(head=16_384, fields=100, body=0)


class Net:
    """One cluster named `files`, in memory."""

    def __init__(
        self,
        endpoints: Sequence[str] = ("a:80",),
        outlier: OutlierSpec | None = None,
        balance: Algorithm = Algorithm.ROUND_ROBIN,
        bounds: Bounds = BOUNDS,
        **pool: float,
    ) -> None:
        self.loop = loop()
        self.faults: list[BaseException] = []
        self.told: list[str] = []
        self.tasks = Tasks(lambda _, fault: self.faults.append(fault))
        self.deadlines = Deadlines(self.loop, self.loop.clock)
        self.deadlines.start()
        self.outbox = Outbox()
        self.clusters = Clusters(
            Means(
                tasks=self.tasks,
                deadlines=self.deadlines,
                tables=LineTables(32_768, 16, replies=True),
                bounds=bounds,
                now=self.loop.clock,
                random=lambda: 0.0,
                tell=self._tell,
                outbox=self.outbox,
            )
        )
        self.spec = self.make(endpoints, outlier, balance, **pool)
        self.clusters.replace([self.spec])

    def _tell(self, cluster: str, events: Events) -> None:
        self.told += [f"{event.action} {event.address}" for event in events]

    @staticmethod
    def make(
        endpoints: Sequence[str],
        outlier: OutlierSpec | None = None,
        balance: Algorithm = Algorithm.ROUND_ROBIN,
        **pool: float,
    ) -> ClusterSpec:
        """Return a spec of the cluster `files`."""
        members = tuple(EndpointSpec(one) for one in endpoints)
        return ClusterSpec("files", members, PoolSpec(**pool), outlier, balance)  # type: ignore[arg-type]

    @property
    def cluster(self) -> Cluster:
        return next(iter(self.clusters))

    def counter(self, name: str) -> int:
        return self.cluster.counters[name]

    def ask(self, avoid: Sequence[str] = (), **more: Any) -> Lease | Refusal:
        """Ask for a connection, as a call does that was permitted."""
        again = bool(avoid)
        wake = Wake(self.loop)
        return self.clusters.lease(Permit(), "files", wake, avoid, again=again, **more)

    def asked(self, avoid: Sequence[str] = (), **more: Any) -> Lease:
        """Ask for a connection that is not refused; it may not be there yet."""
        lease = self.ask(avoid, **more)
        assert isinstance(lease, Lease)
        return lease

    async def lent(self, avoid: Sequence[str] = (), **more: Any) -> Lease:
        """Return a lease whose connection is there."""
        lease = self.asked(avoid, **more)
        await self.loop.settle()
        assert lease.upstream is not None
        return lease

    def pipe(self, lease: Lease) -> Pipe:
        """Return the server's end of what *lease* holds."""
        return next(
            pipe
            for pipes in self.loop.pipes.values()
            for pipe in pipes
            if pipe.protocol is lease.upstream
        )

    def send(self, lease: Lease, answer: bytes = b"") -> Pipe:
        """Send a call over *lease*, and let the server say *answer*."""
        assert lease.upstream is not None
        pipe = self.pipe(lease)
        lease.upstream.send("GET", b"GET / HTTP/1.1\r\n\r\n", lease.wake)
        self.outbox.flush()  # the turn is over
        if answer:
            pipe.say(answer)
        return pipe

    def end(self, lease: Lease) -> None:
        """The exchange is over."""
        if lease.upstream is not None:
            lease.upstream.take()
        lease.end(self.loop.clock())

    def served(self, lease: Lease, answer: bytes = OK) -> Pipe:
        """A whole exchange over *lease*."""
        pipe = self.send(lease, answer)
        head = lease.upstream.reply.head if lease.upstream is not None else None
        if head is not None:
            lease.answered(head.status, self.loop.clock())
        self.end(lease)
        return pipe
