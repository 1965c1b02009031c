"""Whatever happens in whatever order: no connection is lent twice, lost, or one too many.

A machine asks, answers, breaks, ejects, reloads and waits at random, and after
every step the books must balance.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.clusters import EJECT, OK, Net
from support.memory import MemoryLoop, Pipe

from sidecar.net.lease import Lease
from sidecar.policy.verdict import Refusal
from sidecar.upstream.outlier import Outcome

ADDRESSES = ("a:80", "b:80", "c:80")
BAD = b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n"
LAST = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
LIMITS = {"max_connections": 3, "max_pending": 2, "max_requests_per_connection": 4}


class Pool(RuleBasedStateMachine):
    """One cluster of three endpoints, and every lease that has not ended."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=MemoryLoop)
        self.leases: list[Lease] = []
        self.fixed: dict[Lease, str] = {}
        self.sent: set[int] = set()
        self.most = LIMITS["max_connections"]
        self.net: Net
        self.run(self.make())

    async def make(self) -> None:
        self.net = Net(ADDRESSES, outlier=EJECT, idle_timeout=5, **LIMITS)

    def run(self, story: Coroutine[object, object, None]) -> None:
        async def settled() -> None:
            await story
            await self.net.loop.settle()

        self.runner.run(settled())

    def teardown(self) -> None:
        async def end_all() -> None:
            for lease in self.leases:
                lease.end(self.net.loop.clock())
            await self.net.loop.settle()
            cluster = self.net.cluster
            assert (cluster.active, cluster.pending) == (0, 0)
            assert all(one.in_flight == 0 for one in cluster.endpoints.values())
            await self.net.loop.settle(60)
            await self.net.loop.settle(60)
            assert cluster.connections == 0, "what is idle is closed in the end"
            assert len(self.net.deadlines) == 0
            assert len(self.net.tasks) == 0

        self.runner.run(end_all())
        assert self.net.faults == []
        self.runner.close()

    def pipes(self) -> list[Pipe]:
        return [pipe for pipes in self.net.loop.pipes.values() for pipe in pipes if not pipe.end]

    def one(self, index: int) -> Lease | None:
        return self.leases[index % len(self.leases)] if self.leases else None

    # -- what may happen

    @rule()
    def ask(self) -> None:
        async def step() -> None:
            lease = self.net.ask()
            if not isinstance(lease, Refusal):
                self.leases.append(lease)

        self.run(step())

    @rule(address=st.sampled_from(ADDRESSES))
    def ask_at(self, address: str) -> None:
        """A session's call: for one endpoint and no other."""

        async def step() -> None:
            lease = self.net.ask(at=address)
            if not isinstance(lease, Refusal):
                self.leases.append(lease)
                self.fixed[lease] = address

        self.run(step())

    @rule(key=st.sampled_from([b"a", b"b", b"c"]))
    def ask_for(self, key: bytes) -> None:
        """A call that belongs with others."""

        async def step() -> None:
            lease = self.net.ask(key=key)
            if not isinstance(lease, Refusal):
                self.leases.append(lease)
                self.fixed[lease] = lease.endpoint.address

        self.run(step())

    @rule(index=st.integers(0, 9), answer=st.sampled_from([OK, OK, OK, BAD, LAST, b"HTTP"]))
    def answer(self, index: int, answer: bytes) -> None:
        lease = self.one(index)
        if lease is None or lease.upstream is None or not lease.upstream.alive():
            return

        async def step(lease: Lease = lease) -> None:
            self.net.send(lease, answer)
            head = lease.upstream.reply.head if lease.upstream is not None else None
            if head is not None:
                lease.answered(head.status, self.net.loop.clock())
            self.net.end(lease)

        self.leases.remove(lease)
        self.run(step())

    @rule(index=st.integers(0, 9))
    def leave(self, index: int) -> None:
        """A caller goes, wherever its call is."""
        lease = self.one(index)
        if lease is None:
            return

        async def step(lease: Lease = lease) -> None:
            lease.end(self.net.loop.clock())

        self.leases.remove(lease)
        self.run(step())

    @rule(index=st.integers(0, 9), how=st.sampled_from(["hang_up", "reset", "babble"]))
    def fail(self, index: int, how: str) -> None:
        """A server ends one of its connections, or talks out of turn."""
        pipes = self.pipes()
        if not pipes:
            return
        pipe = pipes[index % len(pipes)]

        async def step() -> None:
            if how == "babble":
                pipe.say(OK[:11])
            else:
                getattr(pipe, how)()

        self.run(step())

    @rule(address=st.sampled_from(ADDRESSES), refuses=st.booleans())
    def switch(self, address: str, refuses: bool) -> None:
        """A server stops listening, or listens again."""
        (self.net.loop.refuse.add if refuses else self.net.loop.refuse.discard)(address)

    @rule(greeting=st.sampled_from(["", "", "hang_up", "reset", "babble"]))
    def greet(self, greeting: str) -> None:
        """From now on servers do this as soon as they are connected."""

        def babble(pipe: Pipe) -> None:
            pipe.say(OK[:11])

        def hang_up(pipe: Pipe) -> None:
            getattr(pipe, greeting)()

        self.net.loop.on_open = babble if greeting == "babble" else hang_up
        if not greeting:
            self.net.loop.on_open = lambda pipe: None

    @rule(address=st.sampled_from(ADDRESSES), outcome=st.sampled_from(list(Outcome)[1:4]))
    def blame(self, address: str, outcome: Outcome) -> None:
        """An endpoint fails often enough to be ejected, whatever its connections do."""

        async def step() -> None:
            endpoint = self.net.cluster.endpoints.get(address)
            for _ in range(2 if endpoint is not None else 0):
                self.net.cluster.failed(endpoint, outcome, self.net.loop.clock())

        self.run(step())

    @rule(seconds=st.sampled_from([0.6, 3.0, 12.0]))
    def wait(self, seconds: float) -> None:
        async def step() -> None:
            await self.net.loop.settle(seconds)
            self.net.clusters.sweep(self.net.loop.clock())

        self.run(step())

    @rule(members=st.sets(st.sampled_from(ADDRESSES), min_size=1), most=st.integers(1, 4))
    def reload(self, members: set[str], most: int) -> None:
        async def step() -> None:
            limits = {**LIMITS, "max_connections": most}
            spec = Net.make(sorted(members), EJECT, idle_timeout=5, **limits)
            self.net.clusters.replace([spec])

        self.most = most
        self.run(step())

    # -- what must hold

    @invariant()
    def every_connection_is_counted(self) -> None:
        assert self.net.cluster.connections == len(self.pipes())

    @invariant()
    def none_is_lent_twice(self) -> None:
        lent = [id(lease.upstream) for lease in self.leases if lease.upstream is not None]
        assert len(lent) == len(set(lent))

    @invariant()
    def who_is_for_one_endpoint_gets_no_other(self) -> None:
        for lease, address in self.fixed.items():
            upstream = lease.upstream
            assert upstream is None or upstream.endpoint.address == address

    @invariant()
    def every_call_is_counted_once(self) -> None:
        assert self.net.cluster.active == len(self.leases)
        waiting = [x for x in self.leases if x.upstream is None and x.fault is None]
        assert self.net.cluster.pending == len(waiting)

    @invariant()
    def load_is_what_is_under_way(self) -> None:
        for address, endpoint in self.net.cluster.endpoints.items():
            here = [x for x in self.leases if x.endpoint is endpoint]
            assert endpoint.in_flight == len(here), address

    @invariant()
    def nobody_waits_while_there_is_room(self) -> None:
        cluster = self.net.cluster
        if cluster.pending:
            assert cluster.connections >= self.most
            idle = [
                pipe
                for pipe in self.pipes()
                if all(lease.upstream is not pipe.protocol for lease in self.leases)
            ]
            assert idle == []

    @invariant()
    def the_queue_has_an_end(self) -> None:
        assert self.net.cluster.pending <= LIMITS["max_pending"]


TestPool = Pool.TestCase
TestPool.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
