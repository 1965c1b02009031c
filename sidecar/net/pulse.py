"""Signs of life of a server over HTTP/2: asked for in time, and the connection left without one.

Whatever a server says is a sign, not only the answer to a PING. (Istio's `http2KeepAlive`.)
"""

from __future__ import annotations

from ..upstream.endpoint import Http2Keepalive
from .deadlines import Deadlines
from .upstream2 import Upstream2


class Pulse:
    """Watches one connection until it is gone."""

    __slots__ = ("_deadlines", "_pinged", "_spec", "_upstream", "deadline")

    def __init__(self, upstream: Upstream2, spec: Http2Keepalive, deadlines: Deadlines) -> None:
        self._upstream = upstream
        self._spec = spec
        self._deadlines = deadlines
        self._pinged = 0.0  # when a sign was asked for that has not come yet
        self.deadline = deadlines.now() + spec.interval
        deadlines.add(self)

    def expire(self) -> None:
        """Ask for a sign, or look whether the one that was asked for has come."""
        upstream, now = self._upstream, self._deadlines.now()
        if upstream.gone:
            self._deadlines.remove(self)
        elif not self._pinged:
            self._pinged = now
            upstream.ping()
            self.deadline = now + self._spec.timeout
        elif upstream.heard < self._pinged:
            upstream.silent()
            self.deadline = now  # looked at once more, when it is gone
        else:
            self.deadline = max(now, self._pinged + self._spec.interval)
            self._pinged = 0.0
