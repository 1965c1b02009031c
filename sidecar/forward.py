"""The way there: a call is sent to an endpoint, and to another one where that may be.

What never left us is tried again; what was sent, only as its route says and where
twice does what once does. Without a route of its own a call costs nothing here that
it could spare.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final

from .config.limits import Limits
from .config.snapshot import Service
from .errors import DeadlinePassed, UpstreamError
from .http.h1 import Request
from .http.head import ReplyHead
from .mirror import mirror
from .net.caller import Caller
from .net.lease import GONE, Lease, Lent
from .observe.record import Record
from .policy.call import Call
from .policy.verdict import Permit, Reason, Refusal, Verdict
from .relay import Reply, begun, relay_whole
from .replies import forwarded
from .trip import Trip, TryTimedOut, Unwelcome, failure_of, may_try_again
from .upstream.route import Fault, Way
from .ways import find_way

if TYPE_CHECKING:
    from .exchange import World

_BEGINS: Final = "initialize"


def forward(
    request: Request,
    call: Call,
    permit: Permit,
    service: Service,
    down: Caller,
    record: Record,
    world: World,
    limits: Limits,
) -> Awaitable[Verdict]:
    """Send *call* where it goes and relay the reply; the verdict is the reply's in the end."""
    begins = call.message is not None and call.message.method == _BEGINS
    if service.spread or begins:
        return _guided(request, call, permit, service, down, record, world, limits)
    data = forwarded(request, call, down, service, record.request_id, service.way)
    return _send(data, call, permit, service.way, None, down, record, world, limits)


async def _guided(
    request: Request,
    call: Call,
    permit: Permit,
    service: Service,
    down: Caller,
    record: Record,
    world: World,
    limits: Limits,
) -> Verdict:
    """Send *call* the way that its route, its session or a hash has for it."""
    way: Way | Refusal = service.way
    if service.spread:
        way = find_way(call, service, world, limits.session_lifetime)
        if isinstance(way, Way) and way.action.fault is not None:
            way = await _injected(way.action.fault, way, down, world)
    if isinstance(way, Refusal):
        return way
    if way.action.mirrors:
        mirror(request, call, permit, way, service, down, record.request_id, world, limits)
    data = forwarded(request, call, down, service, record.request_id, way)
    trip = Trip(way, call, down, world, limits)
    record.cluster = way.cluster if service.spread else ""
    try:
        return await _send(data, call, permit, way, trip, down, record, world, limits)
    finally:
        trip.end()


async def _send(
    data: bytes,
    call: Call,
    permit: Permit,
    way: Way,
    trip: Trip | None,
    down: Caller,
    record: Record,
    world: World,
    limits: Limits,
) -> Verdict:
    """Send *data* to an endpoint and relay its reply; try again where that may be."""
    tries = 0
    tried: list[str] = []
    clusters, retry = world.clusters, way.action.retry
    while True:
        lease = clusters.lease(
            permit,
            way.cluster,
            down.wake,
            tried,
            way.key,
            way.at,
            tries > 0,
            down.speaks_http2,
        )
        if isinstance(lease, Refusal):
            return lease
        tries += 1
        try:
            if trip is not None:
                trip.begin(lease)
            while lease.upstream is None:
                if lease.fault is not None:
                    raise lease.fault
                await down.wake
            record.upstream = lease.endpoint.address
            record.sent = world.now()
            up = lease.upstream
            up.send(call.method, data, down.wake)
            while not begun(up, down):
                await down.wake
            head = _heard(up, lease, record, world.now(), trip)
            whole = relay_whole(up, head, permit, call, down, record, limits.reply_body_bytes)
            if whole is not None:
                return whole
            reply = Reply(up, head, permit, call, down, record, world.now, limits, trip)
            return await reply.run()
        except DeadlinePassed:
            lease.timed_out(world.now())
            raise
        except UpstreamError as fault:
            (lease.timed_out if isinstance(fault, TryTimedOut) else lease.reset)(world.now())
            if record.status:
                raise
            allowed = isinstance(fault, Unwelcome)  # which was asked about already
            if not (allowed or may_try_again(failure_of(fault), tries, way, call, world)):
                if way.at and not fault.sent:
                    return GONE  # its server answers nobody: the session is lost
                raise
            record.retries += 1
            if retry.avoid_previous:
                tried.append(lease.endpoint.address)
        finally:
            lease.end(world.now())
            if trip is not None:
                trip.rest()
        try:
            await _pause(retry.delay(tries, clusters.random()), down, world)
        finally:
            clusters.redeem(way.cluster)


def _heard(up: Lent, lease: Lease, record: Record, now: float, trip: Trip | None) -> ReplyHead:
    """Tell of the answer that has begun, and return its head as it goes on.

    *trip* is asked about it, and may have the call tried again.
    """
    head = up.reply.head
    assert head is not None
    record.answered = now
    lease.answered(head.status, now)
    return head if trip is None else trip.judge(head)


async def _pause(seconds: float, down: Caller, world: World) -> None:
    """Wait so long, or until something else ends the call."""
    until = world.now() + seconds
    loop = asyncio.get_running_loop()
    while (left := until - world.now()) > 0:
        timer = loop.call_later(left, down.wake)  # which may be a little early
        try:
            await down.wake
        finally:
            timer.cancel()


async def _injected(fault: Fault, way: Way, down: Caller, world: World) -> Way | Refusal:
    """Do to the call what its route has done to a share of its calls."""
    random = world.clusters.random
    delay, status = fault.draw(random(), random())
    await _pause(delay, down, world)
    if not status:
        return way
    return Refusal(
        Reason.UPSTREAM, "fault filter abort", status=status, detail="injected by its route"
    )
