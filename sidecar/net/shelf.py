"""The connections of a cluster that can be lent now, and the endpoints that one is coming to.

A cluster has one shelf for everybody, or where calls go on in the protocol that they came in,
one for the callers of each. It knows no limits: how many there may be is the cluster's.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from ..upstream.endpoint import Endpoint
from .dial import Held


class Shelf:
    """The connections that one sort of callers shares; with `http2` it is offered to servers."""

    __slots__ = ("coming", "http2", "idle", "open")

    def __init__(self, *, http2: bool) -> None:
        self.http2 = http2
        self.open = True  # its connections are made as they are asked for now
        self.idle: dict[Endpoint, list[Held]] = {}
        self.coming: set[Endpoint] = set()  # a connection that will carry many is being made

    def take(self, endpoint: Endpoint) -> Held | None:
        """Return a connection to *endpoint*, which stays if it has room for more than one call."""
        idle = self.idle.get(endpoint)
        while idle:
            upstream = idle.pop()
            if upstream.alive():
                if upstream.room > 1:
                    idle.append(upstream)
                return upstream
        return None

    def take_any(self, avoid: Sequence[str]) -> Held | None:
        """Return a connection to whichever endpoint is in and not at an address in *avoid*."""
        for endpoint in self.idle:
            if not endpoint.ejected and endpoint.address not in avoid:
                upstream = self.take(endpoint)
                if upstream is not None:
                    return upstream
        return None

    def lose(self, upstream: Held) -> None:
        """Forget *upstream*, which is no more."""
        idle = self.idle.get(upstream.endpoint)
        if idle is not None and upstream in idle:
            idle.remove(upstream)

    def spare(self) -> bool:
        """Close a connection that carries nothing; return whether there was one."""
        for idle in self.idle.values():
            for upstream in idle:
                if not upstream.carries:
                    idle.remove(upstream)
                    upstream.leave()
                    return True
        return False

    def keep(self, addresses: Container[str]) -> None:
        """Close what leads to none of *addresses*."""
        for endpoint in [one for one in self.idle if one.address not in addresses]:
            for upstream in self.idle.pop(endpoint):
                upstream.leave()

    def clear(self) -> None:
        """Close what can be lent."""
        for idle in self.idle.values():
            for upstream in list(idle):
                upstream.leave()
        self.idle.clear()

    def shut(self) -> None:
        """Close what can be lent, and for good: what is lent goes once it comes back."""
        self.open = False
        self.coming.clear()
        self.clear()
