"""Making a connection to an endpoint: in plaintext or over TLS, over HTTP/1.1 or HTTP/2.

In plaintext what is spoken is known before; over TLS it is what both agreed on.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from ..errors import IdentityError
from ..upstream.cluster import ClusterSpec
from ..upstream.endpoint import Endpoint
from .dial import PROTOCOLS, Held, connect_inside, connect_plain, hand_over
from .means import Means
from .pulse import Pulse
from .shelf import Shelf
from .tls import HTTP2
from .upstream import Upstream
from .upstream2 import Upstream2

# What this process, or its machine, has no more of: it says nothing of who is called.
EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


async def connect(
    endpoint: Endpoint,
    shelf: Shelf,
    spec: ClusterSpec,
    world: Means,
    lost: Callable[[Held], None],
) -> Held:
    """Return a new connection to *endpoint* for *shelf*; *lost* is told once it is no more.

    What was agreed on is spoken: a server that takes no HTTP/2 is spoken to over HTTP/1.1.
    Raises OSError where nobody answers, IdentityError where somebody else does.
    """
    wants = shelf.http2
    if endpoint.is_inside:
        upstream = _made(endpoint, shelf, spec, world, lost, http2=False)
        await connect_inside(upstream, world.inside(endpoint.address))
        return upstream
    if spec.tls is None:
        upstream = _made(endpoint, shelf, spec, world, lost, http2=wants)
        await connect_plain(upstream)
        return _watched(upstream, spec, world)
    if world.dialler is None:
        raise IdentityError("no_identity", "nothing is there to speak TLS with")
    if not wants:
        upstream = _made(endpoint, shelf, spec, world, lost, http2=False)
        await world.dialler.connect(upstream, spec.tls, world.now)
        return upstream
    secured = await world.dialler.open(endpoint, spec.tls, (HTTP2, *PROTOCOLS))
    upstream = _made(endpoint, shelf, spec, world, lost, http2=secured.protocol == HTTP2)
    hand_over(secured, upstream, spec.tls, world.now())
    return _watched(upstream, spec, world)


def _watched(upstream: Held, spec: ClusterSpec, world: Means) -> Held:
    keepalive = spec.pool.http2_keepalive
    if keepalive is not None and isinstance(upstream, Upstream2):
        Pulse(upstream, keepalive, world.deadlines)
    return upstream


def _made(
    endpoint: Endpoint,
    shelf: Shelf,
    spec: ClusterSpec,
    world: Means,
    lost: Callable[[Held], None],
    *,
    http2: bool,
) -> Held:
    table, bounds = world.tables.of(endpoint.address), world.bounds
    made: Held
    if http2:
        pool = spec.pool
        most = pool.max_requests_per_connection or 1 << 30
        made = Upstream2(endpoint, table, bounds, world.now, lost, pool.max_streams, most)
    else:
        made = Upstream(endpoint, table, bounds, world.now(), lost, world.outbox)
    made.shelf = shelf
    return made
