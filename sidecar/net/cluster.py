"""One cluster's connections: which endpoint, which connection, who waits, who is ejected.

A lease is what a call holds. Ending it gives the connection back, closes it, or
lets a dial that nobody waits for serve the next. Only `Clusters.lease` may ask for
one here: it has seen the permit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ..errors import IdentityError, UpstreamError
from ..http.h1 import Bounds
from ..http.lines import LineTables
from ..policy.verdict import Reason, Refusal
from ..upstream.balance import Balancer
from ..upstream.cluster import ClusterSpec
from ..upstream.endpoint import Endpoint
from ..upstream.outlier import Events, Outcome, Outlier
from .deadlines import Deadlines
from .dial import Dialler, connect_plain
from .tasks import Tasks
from .upstream import Upstream
from .wake import Wake

FULL: Final = Refusal(
    Reason.OVERLOADED, "too many calls are waiting for the server", detail="pending queue is full"
)
NO_ENDPOINT: Final = Refusal(
    Reason.UPSTREAM, "no healthy server", status=503, detail="no endpoint is fit to be picked"
)


@dataclass(frozen=True, slots=True)
class Means:
    """What all clusters are handed: tasks, clocks, tables, randomness, and whom to tell."""

    tasks: Tasks
    deadlines: Deadlines
    tables: LineTables
    bounds: Bounds
    now: Callable[[], float]  # seconds, monotonic
    random: Callable[[], float]  # from 0 up to 1
    tell: Callable[[str, Events], None]  # cluster's name, what the outlier detection did
    dialler: Dialler | None = None  # without one, nothing that asks for TLS is connected to


class Lease:
    """A connection lent to one exchange; `upstream` is None until it is there."""

    __slots__ = ("_cluster", "_told", "ended", "endpoint", "fault", "upstream", "wake")

    def __init__(self, cluster: Cluster, endpoint: Endpoint, wake: Wake) -> None:
        self._cluster = cluster
        self._told = False
        self.endpoint = endpoint
        self.wake = wake
        self.upstream: Upstream | None = None
        self.fault: UpstreamError | None = None
        self.ended = False

    def answered(self, status: int, now: float) -> None:
        """Tell that the server answered with *status*."""
        self._told = True
        self._cluster.answered(self, status, now)

    def reset(self, now: float) -> None:
        """Tell that the connection failed; before an answer, that counts against the endpoint."""
        self._failed(Outcome.RESET, now)

    def timed_out(self, now: float) -> None:
        """Tell that the exchange took too long; likewise."""
        self._failed(Outcome.TIMEOUT, now)

    def _failed(self, outcome: Outcome, now: float) -> None:
        if self.upstream is not None and not self._told:
            self._told = True
            self._cluster.failed(self.endpoint, outcome, now)

    def end(self, now: float) -> None:
        """Give the connection back. Once ended, a lease is nothing."""
        if not self.ended:
            self.ended = True
            self._cluster.take_back(self, now)


class Cluster:
    """The connections to one cluster's endpoints; outlives reloads."""

    def __init__(self, spec: ClusterSpec, world: Means, now: float) -> None:
        self.spec = spec
        self._world = world
        self._idle: dict[Endpoint, list[Upstream]] = {}
        self._waiting: deque[Lease] = deque()
        self._secured: set[Upstream] = set()  # connections over TLS, lent or not
        self.connections = 0
        self.active = 0  # leases that have not ended, those in the queue among them
        self.counters: dict[str, int] = dict.fromkeys(_COUNTERS, 0)
        self.outlier = Outlier(spec.outlier, _endpoints(spec, now), world.random)
        self.endpoints = {one.address: one for one in self.outlier.endpoints}
        self._balance()

    # -- configuration

    def replace(self, spec: ClusterSpec, now: float) -> None:
        """Take a new *spec*; endpoints that stay keep their connections and their state."""
        if spec == self.spec:
            return
        if spec.tls != self.spec.tls:
            self.close()  # what is lent goes once it comes back
        self.spec = spec
        kept = self.outlier.replace(spec.outlier, _endpoints(spec, now))
        self.endpoints = {one.address: one for one in kept}
        self._balance()
        for endpoint in [one for one in self._idle if one.address not in self.endpoints]:
            for upstream in self._idle.pop(endpoint):
                upstream.abort()
        self._dial_for_next()

    def _balance(self) -> None:
        outlier = self.spec.outlier
        self._splits = outlier is not None and outlier.split_external_local_origin_errors
        self._all = tuple(self.endpoints.values())
        self.balancer = Balancer(
            self.spec.balance,
            self._world.random,
            min_health_percent=self.spec.min_health_percent,
        )

    # -- leases

    def lease(self, wake: Wake, avoid: Sequence[str], now: float) -> Lease | Refusal:
        """Lend a connection: an idle one, a new one, or a place in the queue."""
        endpoint = self._pick(avoid, now)
        if endpoint is None:
            return NO_ENDPOINT
        counters = self.counters
        counters["upstream_rq_retry"] += bool(avoid)
        if self.active >= self.spec.pool.max_requests:
            counters["upstream_rq_pending_overflow"] += 1
            return FULL
        lease = Lease(self, endpoint, wake)
        upstream = self._idle_at(endpoint)
        if upstream is not None:
            self._lend(lease, upstream)
        elif self.connections < self.spec.pool.max_connections:
            self._dial(endpoint, lease)
        elif (upstream := self._idle_anywhere(avoid)) is not None:
            lease.endpoint = upstream.endpoint
            self._lend(lease, upstream)
        elif len(self._waiting) >= self.spec.pool.max_pending:
            counters["upstream_rq_pending_overflow"] += 1
            return FULL
        else:
            counters["upstream_cx_overflow"] += 1
            counters["upstream_rq_pending_total"] += 1
            self._waiting.append(lease)
            self._make_room()
        lease.endpoint.begin()
        self.active += 1
        counters["upstream_rq_total"] += 1
        return lease

    def _pick(self, avoid: Sequence[str], now: float) -> Endpoint | None:
        if not avoid:
            return self.balancer.pick(self._all, now)
        shunned = tuple(self.endpoints[a] for a in avoid if a in self.endpoints)
        return self.balancer.pick(self._all, now, avoid=shunned)

    def _idle_at(self, endpoint: Endpoint) -> Upstream | None:
        idle = self._idle.get(endpoint)
        while idle:
            upstream = idle.pop()
            if upstream.alive:
                return upstream
        return None

    def _idle_anywhere(self, avoid: Sequence[str]) -> Upstream | None:
        for endpoint in self._idle:
            if not endpoint.ejected and endpoint.address not in avoid:
                upstream = self._idle_at(endpoint)
                if upstream is not None:
                    return upstream
        return None

    def _make_room(self) -> None:
        """Close an idle connection that may not be lent now, so that who waits can dial."""
        for idle in self._idle.values():
            if idle:
                idle.pop().abort()
                return

    def _lend(self, lease: Lease, upstream: Upstream) -> None:
        # Nothing was asked yet: until `send` sets its wake, whatever comes closes it.
        upstream.reply.begin("GET")
        lease.upstream = upstream
        if self._splits:
            # With the split, only this ends a run of local failures.
            now = self._world.now()
            self.outlier.report_local(upstream.endpoint, Outcome.CONNECTED, now)

    def answered(self, lease: Lease, status: int, now: float) -> None:
        """Count an answer, and let the outlier detection know."""
        self.counters[_FAMILY.get(status // 100, "upstream_rq_other")] += 1
        events = self.outlier.report_status(lease.endpoint, status, now)
        if events:
            self._world.tell(self.spec.name, events)

    def failed(self, endpoint: Endpoint, outcome: Outcome, now: float) -> None:
        """Count a failure of ours to get an answer from *endpoint*."""
        self.counters[_LOCAL[outcome]] += 1
        self._world.tell(self.spec.name, self.outlier.report_local(endpoint, outcome, now))

    def take_back(self, lease: Lease, now: float) -> None:
        """Take back what an exchange no longer needs."""
        lease.endpoint.end()
        self.active -= 1
        upstream, lease.upstream = lease.upstream, None
        if upstream is None:
            if lease in self._waiting:
                self._waiting.remove(lease)
            return
        upstream.wake = None
        if self._keeps(upstream, now):
            self._rest(upstream, now)
        else:
            upstream.abort()

    def _keeps(self, upstream: Upstream, now: float) -> bool:
        pool = self.spec.pool
        most = pool.max_requests_per_connection
        return (
            upstream.settled
            and not (self._waiting and upstream.endpoint.ejected)
            and (not most or upstream.served < most)
            and now - upstream.opened < pool.max_connection_duration
            and now < upstream.expires
            and upstream.tls == self.spec.tls
            and self.endpoints.get(upstream.endpoint.address) is upstream.endpoint
        )

    def _rest(self, upstream: Upstream, now: float) -> None:
        """Give a free connection to the first who waits, or let it be idle."""
        while self._waiting:
            lease = self._waiting.popleft()
            if lease.ended:
                continue
            lease.endpoint.end()
            lease.endpoint = upstream.endpoint
            lease.endpoint.begin()
            self._lend(lease, upstream)
            lease.wake()
            return
        upstream.deadline = min(now + self.spec.pool.idle_timeout, upstream.expires)
        self._idle.setdefault(upstream.endpoint, []).append(upstream)

    # -- connections

    def _dial(self, endpoint: Endpoint, lease: Lease) -> None:
        self.connections += 1
        self.counters["upstream_cx_total"] += 1
        self._world.tasks.spawn(self._connect(endpoint, lease), "dial")

    async def _connect(self, endpoint: Endpoint, lease: Lease) -> None:
        """Open a connection beside the flow, so that the flow waits in one place only."""
        world = self._world
        table = world.tables.of(endpoint.address)
        upstream = Upstream(endpoint, table, world.bounds, world.now(), self._lost)
        try:
            async with asyncio.timeout(self.spec.pool.connect_timeout):
                await self._open(upstream)
        except (OSError, TimeoutError, IdentityError) as error:
            self.connections -= 1
            self._unreached(endpoint, lease, error)
            self._dial_for_next()
            return
        if not upstream.alive:  # lost at once; `_lost` frees its place
            self._unreached(endpoint, lease, ConnectionResetError("closed at once"))
            return
        world.deadlines.add(upstream)
        if lease.ended:
            if upstream.tls == self.spec.tls:
                self._rest(upstream, world.now())
            else:
                upstream.abort()  # another configuration asked for it
            return
        self._lend(lease, upstream)
        lease.wake()

    async def _open(self, upstream: Upstream) -> None:
        tls, world = self.spec.tls, self._world
        if tls is None:
            await connect_plain(upstream)
            return
        if world.dialler is None:
            raise IdentityError("no_identity", "nothing is there to speak TLS with")
        await world.dialler.connect(upstream, tls, world.now)
        self._secured.add(upstream)

    def judge_again(self) -> None:
        """Close the connections to servers that are not who is meant any more."""
        for upstream in list(self._secured):
            try:
                assert self._world.dialler is not None
                self._world.dialler.judge(upstream)
            except IdentityError as error:
                upstream.fault = UpstreamError(str(error), sent=True)
                upstream.abort()

    def _unreached(self, endpoint: Endpoint, lease: Lease, error: Exception) -> None:
        late = isinstance(error, TimeoutError)
        self.counters["upstream_cx_connect_timeout"] += late
        self.failed(endpoint, Outcome.CONNECT_FAILED, self._world.now())
        why = "no connection in time" if late else str(error)
        lease.fault = UpstreamError(
            f"{endpoint.address}: {why}", sent=False, status=504 if late else 503
        )
        lease.wake()

    def _lost(self, upstream: Upstream) -> None:
        """A connection is gone: its place is free."""
        self.connections -= 1
        self._secured.discard(upstream)
        self._world.deadlines.remove(upstream)
        idle = self._idle.get(upstream.endpoint)
        if idle is not None and upstream in idle:
            idle.remove(upstream)
        self._dial_for_next()

    def _dial_for_next(self) -> None:
        """Let the first who waits have the place that has become free."""
        while self._waiting and self.connections < self.spec.pool.max_connections:
            lease = self._waiting.popleft()
            if lease.ended:
                continue
            endpoint = self._pick((), self._world.now())
            if endpoint is None:
                lease.fault = UpstreamError(NO_ENDPOINT.detail, sent=False, status=503)
                lease.wake()
                continue
            lease.endpoint.end()
            lease.endpoint = endpoint
            endpoint.begin()
            self._dial(endpoint, lease)

    def close(self) -> None:
        """Close what is idle."""
        for idle in self._idle.values():
            for upstream in list(idle):
                upstream.abort()
        self._idle.clear()

    @property
    def pending(self) -> int:
        """How many calls wait for a connection."""
        return len(self._waiting)


def _endpoints(spec: ClusterSpec, now: float) -> list[Endpoint]:
    return [Endpoint(one.address, one.weight, since=now) for one in spec.endpoints]


# Envoy's names.
_FAMILY: Final = {
    2: "upstream_rq_2xx",
    3: "upstream_rq_3xx",
    4: "upstream_rq_4xx",
    5: "upstream_rq_5xx",
}
_LOCAL: Final = {
    Outcome.CONNECT_FAILED: "upstream_cx_connect_fail",
    Outcome.TIMEOUT: "upstream_rq_timeout",
    Outcome.RESET: "upstream_rq_rx_reset",
}
_COUNTERS: Final = (
    "upstream_cx_connect_timeout",
    "upstream_cx_total",
    "upstream_cx_overflow",
    "upstream_rq_total",
    "upstream_rq_other",
    "upstream_rq_retry",
    "upstream_rq_pending_total",
    "upstream_rq_pending_overflow",
    *_FAMILY.values(),
    *_LOCAL.values(),
)
