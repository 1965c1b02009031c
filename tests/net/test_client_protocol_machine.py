"""Whatever happens in whatever order, where callers of two protocols share one pool.

A machine asks over both, answers, breaks, reloads and waits at random; after every step
nobody is served by what is not meant for him, and nobody waits while there is room.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.both import Both
from support.memory import MemoryLoop

from sidecar.errors import UpstreamError
from sidecar.net.lease import Lease
from sidecar.net.upstream2 import Upstream2

ADDRESSES = ("a:80", "b:80")
LIMITS = {"max_pending": 4, "max_requests_per_connection": 5, "max_streams": 2, "idle_timeout": 5}
WAYS = ((False, False), (True, False), (True, True), (True, True))


class Pool(RuleBasedStateMachine):
    """One cluster of two endpoints, and each lease that has not ended: does its caller speak it?"""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=MemoryLoop)
        self.leases: dict[Lease, bool] = {}
        self.meant: dict[Lease, bool] = {}  # what its connection speaks, since it is there
        self.most, self.way = 2, (True, True)
        self.net: Both
        self.run(self.make())

    async def make(self) -> None:
        self.net = Both(*ADDRESSES, streams=3, max_connections=self.most, **LIMITS)

    def run(self, story: Coroutine[object, object, None]) -> None:
        async def settled() -> None:
            await story
            await self.net.settle()

        self.runner.run(settled())

    def teardown(self) -> None:
        async def end_all() -> None:
            for lease in self.leases:
                lease.end(self.net.loop.clock())
            for _ in range(3):
                await self.net.settle(60)
            cluster = self.net.cluster
            assert (cluster.active, cluster.pending, cluster.connections) == (0, 0, 0)
            assert all(one.in_flight == 0 for one in cluster.endpoints.values())
            assert len(self.net.deadlines) == len(self.net.tasks) == 0

        self.runner.run(end_all())
        assert self.net.faults == []
        self.runner.close()

    def one(self, index: int) -> Lease | None:
        return list(self.leases)[index % len(self.leases)] if self.leases else None

    # -- what may happen

    @rule(
        callers=st.lists(st.booleans(), min_size=1, max_size=5),
        at=st.sampled_from(["", "", *ADDRESSES]),
    )
    def ask(self, callers: list[bool], at: str) -> None:
        """Callers of these protocols ask at once."""

        async def step() -> None:
            for http2 in callers:
                lease = self.net.ask(http2=http2, at=at)
                if isinstance(lease, Lease):
                    self.leases[lease] = http2

        self.run(step())

    @rule(hangs_up=st.booleans())
    def greet(self, *, hangs_up: bool) -> None:
        """From now on servers leave as soon as they are connected, or stay."""
        self.net.greets = not hangs_up

    @rule(index=st.integers(0, 9))
    def answer(self, index: int) -> None:
        lease = self.one(index)
        if lease is None or lease.upstream is None or self.net.pipe(lease).end:
            return

        async def step(lease: Lease = lease) -> None:
            try:
                await self.net.send_on(lease)
            except UpstreamError:  # a reload came between: it is for another try
                await self.ended(lease)
            else:
                await self.net.answered(lease)

        del self.leases[lease]
        self.run(step())

    @rule(index=st.integers(0, 9))
    def leave(self, index: int) -> None:
        lease = self.one(index)
        if lease is not None:
            del self.leases[lease]
            self.run(self.ended(lease))

    async def ended(self, lease: Lease) -> None:
        lease.end(self.net.loop.clock())

    @rule(index=st.integers(0, 9))
    def break_off(self, index: int) -> None:
        """A server's connection is reset, and whoever was on it gives up."""
        pipes = self.net.open
        if not pipes:
            return
        pipe = pipes[index % len(pipes)]
        those = [x for x in self.leases if x.upstream is not None and self.net.pipe(x) is pipe]

        async def step() -> None:
            pipe.reset()
            for lease in those:
                await self.ended(lease)

        for lease in those:
            del self.leases[lease]
        self.run(step())

    @rule(address=st.sampled_from(ADDRESSES), refuses=st.booleans())
    def switch(self, address: str, *, refuses: bool) -> None:
        (self.net.loop.refuse.add if refuses else self.net.loop.refuse.discard)(address)

    @rule(seconds=st.sampled_from([0.6, 12.0]))
    def wait(self, seconds: float) -> None:
        self.run(self.net.settle(seconds))

    @rule(way=st.sampled_from(WAYS), most=st.integers(1, 4))
    def reload(self, way: tuple[bool, bool], most: int) -> None:
        async def step() -> None:
            http2, preserve = self.way
            more = {"http2": http2, "preserve": preserve, "max_connections": most}
            self.net.clusters.replace([self.net.make(ADDRESSES, **LIMITS, **more)])

        self.way, self.most = way, most
        self.run(step())

    # -- what must hold

    @invariant()
    def every_connection_is_counted(self) -> None:
        assert self.net.cluster.connections == len(self.net.open)

    @invariant()
    def everybody_is_served_as_was_meant_when_the_connection_came(self) -> None:
        http2, preserve = self.way
        for lease, speaks in self.leases.items():
            if lease.upstream is not None:
                meant = http2 and (speaks or not preserve)
                spoken = isinstance(self.net.pipe(lease).protocol, Upstream2)
                assert spoken is self.meant.setdefault(lease, meant)

    @invariant()
    def every_call_is_counted_once(self) -> None:
        waiting = [x for x in self.leases if x.upstream is None and x.fault is None]
        assert self.net.cluster.active == len(self.leases)
        assert self.net.cluster.pending == len(waiting) <= LIMITS["max_pending"]

    @invariant()
    def nobody_waits_while_there_is_room(self) -> None:
        cluster = self.net.cluster
        if cluster.pending:
            assert cluster.connections >= self.most
            busy = {self.net.pipe(x) for x in self.leases if x.upstream is not None}
            assert set(self.net.open) <= busy


TestPool = Pool.TestCase
TestPool.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
