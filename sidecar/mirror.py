"""Copies of calls to mirrors: sent and forgotten.

A copy never touches its call: it waits for nothing, its answer goes nowhere, and what
fails of it is counted at the mirror's cluster and nowhere else. Copies under way are
bounded; beyond that calls are not copied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from .config.limits import Limits
from .config.snapshot import Service
from .errors import UpstreamError
from .http.h1 import Request
from .http.head import ReplyHead
from .net.caller import Caller
from .net.lease import Lease
from .net.wake import Wake
from .policy.call import Call
from .policy.verdict import Permit
from .replies import forwarded
from .upstream.route import Way

if TYPE_CHECKING:
    from .exchange import World

_SUFFIX: Final = b"-shadow"  # Envoy's, by which a server knows a copy


@dataclass(slots=True)
class Mirrors:
    """How many copies are under way."""

    active: int = 0


def mirror(
    request: Request,
    call: Call,
    permit: Permit,
    way: Way,
    service: Service,
    down: Caller,
    request_id: str,
    world: World,
    limits: Limits,
) -> None:
    """Send copies of *call* to the mirrors of its *way*, beside it."""
    for cluster in _drawn(way, world):
        if world.mirrors.active >= limits.mirrored_calls:
            world.clusters.count(cluster, "upstream_rq_mirror_overflow")
            continue
        head = request.head
        assert head is not None
        host = way.authority or (head.host if service.preserve_host else service.authority)
        copied = replace(way, authority=shadowed(host))
        data = forwarded(request, call, down, service, request_id, copied)
        world.mirrors.active += 1
        http2, patience = down.speaks_http2, limits.call_timeout
        copy = _send(call.method, data, permit, cluster, world, patience, http2=http2)
        down.door.spawn(copy, "mirror")


def shadowed(host: bytes) -> bytes:
    """Return *host* as a mirror sees it: `-shadow` behind the name, before a port."""
    name, colon, port = host.rpartition(b":")
    if not colon or not port.isdigit():
        return host + _SUFFIX
    return name + _SUFFIX + colon + port


def _drawn(way: Way, world: World) -> Iterator[str]:
    for one in way.action.mirrors:
        if world.clusters.random() * 100 < one.percent:
            yield one.cluster


async def _send(
    method: str,
    data: bytes,
    permit: Permit,
    cluster: str,
    world: World,
    patience: float,
    *,
    http2: bool,
) -> None:
    try:
        async with asyncio.timeout(patience):
            await _exchange(method, data, permit, cluster, world, http2=http2)
    except (UpstreamError, TimeoutError):
        pass  # it is counted where it happened
    finally:
        world.mirrors.active -= 1


async def _exchange(
    method: str, data: bytes, permit: Permit, cluster: str, world: World, *, http2: bool
) -> None:
    """One exchange, of which nothing is kept."""
    wake = Wake(asyncio.get_running_loop())
    lease = world.clusters.lease(permit, cluster, wake, http2=http2)
    if not isinstance(lease, Lease):
        return
    try:
        while lease.upstream is None:
            if lease.fault is not None:
                raise lease.fault
            await wake
        up = lease.upstream
        up.send(method, data, wake)
        while up.reply.head is None or not up.reply.whole:
            if up.fault is not None:
                raise up.fault
            if up.reply.head is not None and method == "GET" and _listens(up.reply.head):
                break  # a stream without an end would only take another copy's place
            await wake
            up.take()
        up.take()
        lease.answered(up.reply.head.status, world.now())
    except UpstreamError:
        lease.reset(world.now())
        raise
    finally:
        lease.end(world.now())


def _listens(head: ReplyHead) -> bool:
    """Whether what follows is a stream of events."""
    return head.content_type.partition(b";")[0].strip().lower() == b"text/event-stream"
