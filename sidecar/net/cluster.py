"""One cluster's connections: which endpoint, which connection, who waits, who is ejected.

A lease is what a call holds. Ending it gives the connection back, closes it, or
lets a dial that nobody waits for serve the next. Only `Clusters.lease` may ask for
one here: it has seen the permit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from ..errors import IdentityError, UpstreamError
from ..policy.verdict import Refusal
from ..upstream.balance import Balancer
from ..upstream.cluster import ClusterSpec
from ..upstream.endpoint import Endpoint
from ..upstream.outlier import Outcome, Outlier
from .connect import EXHAUSTED, connect
from .counters import COUNTERS, FAMILY, LOCAL
from .dial import Held
from .lease import FULL, GONE, NO_ENDPOINT, Lease, none_fit
from .means import Addresses, Means, no_addresses
from .shelf import Shelf
from .wake import Wake


class Cluster:
    """The connections to one cluster's endpoints; outlives reloads."""

    def __init__(
        self, spec: ClusterSpec, world: Means, now: float, addresses: Addresses = no_addresses
    ) -> None:
        self.spec = spec
        self._world = world
        self._addresses = addresses
        self._shelve()
        self._waiting: deque[Lease] = deque()
        self._secured: set[Held] = set()  # connections over TLS, lent or not
        self.connections = 0
        self.active = 0  # leases that have not ended, those in the queue among them
        self.retrying = 0  # those of them that are retries
        self.promised = 0  # retries that are allowed and whose pause has not ended
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self.outlier = Outlier(spec.outlier, self._found(now), world.random)
        self.endpoints = {one.address: one for one in self.outlier.endpoints}
        self._balance()

    # -- configuration

    def replace(self, spec: ClusterSpec, now: float) -> None:
        """Take a new *spec*; endpoints that stay keep their connections and their state."""
        old, self.spec = self.spec, spec
        if spec == old:
            return
        if (spec.tls, spec.pool.spoken) != (old.tls, old.pool.spoken):
            for shelf in self._shelves:
                shelf.shut()
            self._shelve()
        self.refresh(now)

    def _shelve(self) -> None:
        """Keep one shelf for everybody, or one for the callers of each protocol."""
        pool = self.spec.pool
        apart = pool.http2 and pool.preserve
        self._shelf = Shelf(http2=pool.http2 and not apart)
        self._framed = Shelf(http2=True) if apart else None  # for callers who speak HTTP/2
        self._shelves = (self._shelf,) if self._framed is None else (self._shelf, self._framed)

    def _shelf_of(self, lease: Lease) -> Shelf:
        """Return where the connection is or comes from that *lease*, which waits, may have."""
        return self._framed if lease.http2 and self._framed is not None else self._shelf

    def refresh(self, now: float) -> None:
        """Use the addresses that the endpoints' names have now; who stays keeps its state."""
        kept = self.outlier.replace(self.spec.outlier, self._found(now))
        self.endpoints = {one.address: one for one in kept}
        self._balance()
        for shelf in self._shelves:
            shelf.keep(self.endpoints)
        self._dial_for_next()

    def _found(self, now: float) -> list[Endpoint]:
        """Return the endpoints, in the place of names those at their addresses."""
        found: dict[str, Endpoint] = {}
        for one in self.spec.endpoints:
            for address in self._addresses(one.address) if one.resolve else (one.address,):
                if address not in found:
                    found[address] = Endpoint(address, one.weight, since=now)
        return list(found.values())

    def _balance(self) -> None:
        outlier = self.spec.outlier
        self._splits = outlier is not None and outlier.split_external_local_origin_errors
        self._all = tuple(self.endpoints.values())
        self.balancer = Balancer(
            self.spec.balance,
            self._world.random,
            min_health_percent=self.spec.min_health_percent,
            warmup=self.spec.warmup,
        )

    # -- leases

    def lease(
        self,
        wake: Wake,
        avoid: Sequence[str],
        now: float,
        key: bytes | None = None,
        at: str = "",
        again: bool = False,
        http2: bool = False,
    ) -> Lease | Refusal:
        """Lend a connection: an idle one, a new one, or a place in the queue.

        Calls of one *key* go to one endpoint, and with *at* to that one or nowhere. *http2*:
        the caller speaks it.
        """
        if at:
            endpoint = self._at(at)
        elif avoid:
            endpoint = self._pick(avoid, now, key)
        else:
            endpoint = self.balancer.pick(self._all, now, (), key)
        if endpoint is None:
            return GONE if at else none_fit(self.outlier.next_return(now))
        counters = self.counters
        if self.active >= self.spec.pool.max_requests:
            counters["upstream_rq_pending_overflow"] += 1
            return FULL
        fixed = key is not None or at != ""
        lease = Lease(self, endpoint, wake, fixed, again)
        shelf = self._shelf
        if http2 and self._framed is not None:
            shelf = self._framed
        upstream = shelf.take(endpoint)
        if upstream is not None:
            self._lend(lease, upstream)
        elif self.connections < self.spec.pool.max_connections and endpoint not in shelf.coming:
            self._dial(endpoint, lease, shelf)
        elif not fixed and (upstream := shelf.take_any(avoid)) is not None:
            lease.endpoint = upstream.endpoint
            self._lend(lease, upstream)
        elif len(self._waiting) >= self.spec.pool.max_pending:
            counters["upstream_rq_pending_overflow"] += 1
            return FULL
        else:
            counters["upstream_rq_pending_total"] += 1
            lease.http2 = http2
            self._waiting.append(lease)
            if endpoint not in shelf.coming:
                counters["upstream_cx_overflow"] += 1
                self._make_room()
        lease.endpoint.begin()
        self.active += 1
        counters["upstream_rq_total"] += 1
        if again:
            self.retrying += 1
            counters["upstream_rq_retry"] += 1
        return lease

    def may_retry(self, *, again: bool = False) -> bool:
        """Whether one more retry is within the budget, with *again* in place of one that failed.

        It then counts, until `redeem` is told that its pause is over.
        """
        others = self.retrying + self.promised - again
        allowed = self.spec.budget.allows(others, self.active)
        self.promised += allowed
        self.counters["upstream_rq_retry_overflow"] += not allowed
        return allowed

    def redeem(self) -> None:
        """A retry that was allowed begins now, or will not come."""
        self.promised = max(0, self.promised - 1)

    def _at(self, address: str) -> Endpoint | None:
        endpoint = self.endpoints.get(address)
        fit = endpoint is not None and self.balancer.admits(self._all, endpoint)
        return endpoint if fit else None

    def _pick(self, avoid: Sequence[str], now: float, key: bytes | None = None) -> Endpoint | None:
        shunned = tuple(self.endpoints[a] for a in avoid if a in self.endpoints)
        return self.balancer.pick(self._all, now, shunned, key)

    def _make_room(self) -> None:
        """Close a connection that may not be lent now, so that who waits can dial."""
        for shelf in self._shelves:
            if shelf.spare():
                return

    def _lend(self, lease: Lease, upstream: Held) -> None:
        lease.upstream = upstream.lend()
        if self._splits:
            # With the split, only this ends a run of local failures.
            now = self._world.now()
            self.outlier.report_local(upstream.endpoint, Outcome.CONNECTED, now)

    def answered(self, lease: Lease, status: int, now: float) -> None:
        """Count an answer, and let the outlier detection know."""
        self.counters[FAMILY.get(status // 100, "upstream_rq_other")] += 1
        events = self.outlier.report_status(lease.endpoint, status, now)
        if events:
            self._world.tell(self.spec.name, events)

    def failed(self, endpoint: Endpoint, outcome: Outcome, now: float) -> None:
        """Count a failure of ours to get an answer from *endpoint*."""
        self.counters[LOCAL[outcome]] += 1
        self._world.tell(self.spec.name, self.outlier.report_local(endpoint, outcome, now))

    def take_back(self, lease: Lease, now: float) -> None:
        """Take back what an exchange no longer needs."""
        lease.endpoint.end()
        self.active -= 1
        self.retrying -= lease.again
        upstream, lease.upstream = lease.upstream, None
        if upstream is None:
            if lease in self._waiting:
                self._waiting.remove(lease)
            return
        held = upstream.give_back()
        if self._keeps(held, now):
            self._rest(held, now)
        else:
            held.leave()
            if held.fault is not None and held.fault.stale:
                self.close()  # what was idle beside it has most likely ended too

    def _keeps(self, upstream: Held, now: float) -> bool:
        pool = self.spec.pool
        most = pool.max_requests_per_connection
        return (
            upstream.settled()
            and not (self._waiting and upstream.endpoint.ejected)
            and (not most or upstream.served < most)
            and now - upstream.opened < pool.max_connection_duration
            and now < upstream.expires
            and upstream.shelf.open
            and self.endpoints.get(upstream.endpoint.address) is upstream.endpoint
        )

    def _rest(self, upstream: Held, now: float) -> None:
        """Give a free connection to those who wait and may use it, or let it be idle."""
        while self._waiting and (lease := self._next_for(upstream)) is not None:
            self._waiting.remove(lease)
            if lease.ended:
                continue
            lease.endpoint.end()
            lease.endpoint = upstream.endpoint
            lease.endpoint.begin()
            self._lend(lease, upstream)
            lease.wake()
            if not upstream.room:
                return
        if self._waiting and not upstream.carries:
            upstream.leave()  # its place is for one who waits for another
            return
        upstream.deadline = min(now + self.spec.pool.idle_timeout, upstream.expires)
        idle = upstream.shelf.idle.setdefault(upstream.endpoint, [])
        if not upstream.shares or upstream not in idle:
            idle.append(upstream)

    def _next_for(self, upstream: Held) -> Lease | None:
        """Return the first who waits and may have *upstream*."""
        shelf, endpoint = upstream.shelf, upstream.endpoint
        for one in self._waiting:
            if (not one.fixed or one.endpoint is endpoint) and self._shelf_of(one) is shelf:
                return one
        return None

    # -- connections

    def _dial(self, endpoint: Endpoint, lease: Lease, shelf: Shelf) -> None:
        self.connections += 1
        self.counters["upstream_cx_total"] += 1
        if shelf.http2:
            shelf.coming.add(endpoint)
        self._world.tasks.spawn(self._connect(endpoint, lease, shelf), "dial")

    async def _connect(self, endpoint: Endpoint, lease: Lease, shelf: Shelf) -> None:
        """Open a connection beside the flow, so that the flow waits in one place only."""
        world, tls = self._world, self.spec.tls
        try:
            async with asyncio.timeout(self.spec.pool.connect_timeout):
                upstream = await connect(endpoint, shelf, self.spec, world, self._lost)
        except (OSError, TimeoutError, IdentityError) as error:
            self.connections -= 1
            for one in (lease, *self._who_awaits(endpoint, shelf)):
                self._unreached(endpoint, one, error)
            self._dial_for_next()
            return
        shelf.coming.discard(endpoint)
        if self.spec.pool.keepalive is not None:
            upstream.probe(self.spec.pool.keepalive)
        if tls is not None:
            self._secured.add(upstream)
        if not upstream.alive():  # lost at once; `_lost` frees its place
            self._unreached(endpoint, lease, ConnectionResetError("closed at once"))
            self._dial_for_next()
            return
        world.deadlines.add(upstream)
        if lease.ended:
            if shelf.open:
                self._rest(upstream, world.now())
            else:
                upstream.abort()  # another configuration asked for it
            return
        self._lend(lease, upstream)
        lease.wake()
        if upstream.room:
            self._rest(upstream, world.now())
        if shelf.http2 and self._waiting:  # who found no room on it needs another
            self._dial_for_next()
            if self._waiting:
                self._make_room()

    def _who_awaits(self, endpoint: Endpoint, shelf: Shelf) -> list[Lease]:
        """Take out of the queue who waits for the connection that was being made to *endpoint*."""
        if endpoint not in shelf.coming:
            return []
        shelf.coming.discard(endpoint)
        waiting, self._waiting = self._waiting, deque()
        those: list[Lease] = []
        for one in waiting:
            awaits = one.endpoint is endpoint and self._shelf_of(one) is shelf
            (those if awaits else self._waiting).append(one)
        return those

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
        if isinstance(error, OSError) and error.errno in EXHAUSTED:
            self.counters[LOCAL[Outcome.CONNECT_FAILED]] += 1  # by us
        else:
            self.failed(endpoint, Outcome.CONNECT_FAILED, self._world.now())
        why = "no connection in time" if late else str(error)
        lease.fault = UpstreamError(
            f"{endpoint.address}: {why}", sent=False, status=504 if late else 503
        )
        lease.wake()

    def _lost(self, upstream: Held) -> None:
        """A connection is gone: its place is free."""
        self.connections -= 1
        self._secured.discard(upstream)
        self._world.deadlines.remove(upstream)
        upstream.shelf.lose(upstream)
        self._dial_for_next()

    def _dial_for_next(self) -> None:
        """Let the first who waits have the place that has become free."""
        served: list[Lease] = []  # by a connection that is coming
        while self._waiting and self.connections < self.spec.pool.max_connections:
            lease = self._waiting.popleft()
            if lease.ended:
                continue
            endpoint, shelf = self._wanted(lease), self._shelf_of(lease)
            if endpoint in shelf.coming:
                served.append(lease)
                continue
            if endpoint is None:
                lease.fault = UpstreamError(NO_ENDPOINT.detail, sent=False, status=503)
                lease.wake()
                continue
            lease.endpoint.end()
            lease.endpoint = endpoint
            endpoint.begin()
            self._dial(endpoint, lease, shelf)
        self._waiting.extendleft(reversed(served))

    def _wanted(self, lease: Lease) -> Endpoint | None:
        """Return where to dial for *lease*: anywhere, or where alone it may go."""
        if lease.fixed:
            return self._at(lease.endpoint.address)
        return self._pick((), self._world.now())

    def close(self) -> None:
        """Close what is idle."""
        for shelf in self._shelves:
            shelf.clear()

    @property
    def pending(self) -> int:
        """How many calls wait for a connection."""
        return len(self._waiting)
