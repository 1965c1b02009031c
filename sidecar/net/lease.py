"""A connection lent to one exchange, and what the exchange tells of it; or why there is none."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Final, TypeAlias

from ..errors import UpstreamError
from ..policy.verdict import Reason, Refusal
from ..upstream.endpoint import Endpoint
from ..upstream.outlier import Outcome
from .upstream import Upstream
from .upstream2 import UpstreamStream
from .wake import Wake

if TYPE_CHECKING:
    from .cluster import Cluster

FULL: Final = Refusal(
    Reason.OVERLOADED, "too many calls are waiting for the server", detail="pending queue is full"
)
NO_ENDPOINT: Final = Refusal(
    Reason.UPSTREAM, "no healthy server", status=503, detail="no endpoint is fit to be picked"
)
GONE: Final = Refusal(
    Reason.UPSTREAM,
    "the session's server is gone: initialize again",
    status=404,
    detail="the endpoint of the session is gone or ejected",
)


def none_fit(seconds: float) -> Refusal:
    """Return the refusal where no endpoint is fit; the first of them is back in *seconds*."""
    if not seconds > 0:
        return NO_ENDPOINT
    wait = ceil(seconds)
    headers = (b"retry-after: %d\r\n" % wait,)
    return replace(NO_ENDPOINT, headers=headers, retry_after=wait)


Lent: TypeAlias = Upstream | UpstreamStream  # what an exchange sends and hears by


class Lease:
    """A connection lent to one exchange; `upstream` is None until it is there.

    A `fixed` one is for its endpoint and no other; one that is had `again` is a retry's.
    """

    __slots__ = (
        "_cluster",
        "_told",
        "again",
        "ended",
        "endpoint",
        "fault",
        "fixed",
        "http2",
        "upstream",
        "wake",
    )

    def __init__(
        self, cluster: Cluster, endpoint: Endpoint, wake: Wake, fixed: bool, again: bool
    ) -> None:
        self._cluster = cluster
        self._told = False
        self.endpoint = endpoint
        self.wake = wake
        self.fixed = fixed
        self.again = again
        self.upstream: Lent | None = None
        self.fault: UpstreamError | None = None
        self.ended = False
        self.http2: bool  # whether its caller speaks it; known of those that wait

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
