"""When a call is tried again: after which failures, how often, and how soon.

Names and defaults are Istio's, what they mean is Envoy's. It is told the chance
that spreads retries; it knows no connection and no clock, and whether a call may
be repeated at all is for its caller to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from .text import TextMatch, holds_for_any

BASE: Final = 0.025  # seconds; back-off is at most ten times its base (Envoy)
_CAP: Final = 10

STATUS_CODES: Final = "retriable-status-codes"
_RATELIMITED: Final = "envoy-ratelimited"
# What Istio takes where nothing is written, towards other services and towards the server
# that an inbound is for.
OUTBOUND: Final = ("connect-failure", "refused-stream", "unavailable", "cancelled", STATUS_CODES)
INBOUND: Final = ("reset-before-request",)

_GRPC: Final = {
    "cancelled": "1",
    "deadline-exceeded": "4",
    "resource-exhausted": "8",
    "internal": "13",
    "unavailable": "14",
}
# These concern what never left us, which is always tried again, or protocols not spoken here.
_UNSENT: Final = (
    "connect-failure",
    "refused-stream",
    "reset-before-request",
    "http3-post-connect-failure",
)
CONDITIONS: Final = frozenset(
    {
        *("5xx", "gateway-error", "reset", "retriable-4xx", _RATELIMITED),
        *("retriable-headers", STATUS_CODES),
        *_UNSENT,
        *_GRPC,
    }
)
_GATEWAY: Final = frozenset({502, 503, 504})
_KNOWN_STATUSES: Final = frozenset(int(status) for status in HTTPStatus)


@dataclass(frozen=True, slots=True)
class Failure:
    """What became of a try: the `status` of a reply, 0 where none came.

    Not `sent`: nothing of the call has left us. `stale`: it went into a connection that was
    about to end, and most likely nobody read it. `grpc` is the reply's `grpc-status`.
    """

    status: int = 0
    sent: bool = True
    grpc: str = ""
    ratelimited: bool = False
    stale: bool = False


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a call is tried again (`attempts`; 0: never), and after what.

    What never left us is always worth another try; `retry_on` and `statuses` say which
    other failures are. `per_try_timeout` (seconds, 0: none) ends one try. Of tools, those
    that `idempotent_tools` match may be called a second time.
    """

    attempts: int = 2
    retry_on: tuple[str, ...] = OUTBOUND
    statuses: tuple[int, ...] = ()
    per_try_timeout: float = 0.0
    avoid_previous: bool = True
    base: float = BASE
    idempotent_tools: tuple[TextMatch, ...] = ()

    @classmethod
    def of_istio(
        cls,
        *,
        attempts: int | None = None,
        retry_on: str | None = None,
        per_try_timeout: float = 0.0,
        backoff: float = 0.0,
        ignore_previous_hosts: bool | None = None,
        hashed: bool = False,
        idempotent_tools: tuple[TextMatch, ...] = (),
    ) -> RetryPolicy:
        """Return the policy that Istio makes of a route's `retries`; None is "not written".

        With a consistent hash (*hashed*) another endpoint would be the wrong one, so the
        previous one is not avoided unless that is written.
        """
        names, statuses = read_conditions(retry_on, OUTBOUND)
        avoid = not hashed if ignore_previous_hosts is None else ignore_previous_hosts
        return cls(
            2 if attempts is None else attempts,
            names,
            statuses,
            per_try_timeout,
            avoid,
            backoff or BASE,
            idempotent_tools,
        )

    @classmethod
    def of_inbound(
        cls, *, attempts: int | None = None, retry_on: str | None = None, backoff: float = 0.0
    ) -> RetryPolicy:
        """The same, as Istio has it towards the one server behind an inbound."""
        names, statuses = read_conditions(retry_on, INBOUND)
        return cls(
            2 if attempts is None else attempts,
            names,
            statuses,
            avoid_previous=False,
            base=backoff or BASE,
        )

    def wants(self, failure: Failure) -> bool:
        """Whether another try is worth it after *failure*, if there is one left."""
        if not failure.sent:
            return True
        if failure.ratelimited:  # who limits rates is asked again only where that is named (Envoy)
            return _RATELIMITED in self.retry_on
        return any(_names(name, failure, self.statuses) for name in self.retry_on)

    def delay(self, number: int, chance: float) -> float:
        """Return the seconds before retry *number* (from 1); *chance* is from 0 up to 1.

        Full jitter: from 0 up to (2^N - 1) times the base, at most ten times the base.
        """
        return chance * self.base * min(_CAP, (1 << min(number, 10)) - 1)

    def repeats_tool(self, tool: str) -> bool:
        """Whether calling *tool* twice does what calling it once does."""
        return holds_for_any(self.idempotent_tools, tool)


def read_conditions(
    written: str | None, default: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the names and the statuses in a `retryOn`; a number that is no status is a name."""
    if not written:
        return default, ()
    parts = [part.strip() for part in written.split(",")]
    names = [part for part in parts if part and not _is_status(part)]
    statuses = tuple(int(part) for part in parts if _is_status(part))
    if statuses and STATUS_CODES not in names:
        names.append(STATUS_CODES)
    return tuple(names), statuses


def unknown_conditions(written: str) -> list[str]:
    """Return the parts of a `retryOn` that name nothing."""
    names, _ = read_conditions(written, ())
    return [name for name in names if name not in CONDITIONS]


def _is_status(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) == 3 and int(part) in _KNOWN_STATUSES


def _names(name: str, failure: Failure, statuses: tuple[int, ...]) -> bool:
    """Whether the condition *name* is about *failure*, of a call that was sent."""
    status = failure.status
    match name:
        case "reset":
            return not status
        case "5xx":
            return not status or status >= 500
        case "gateway-error":
            return not status or status in _GATEWAY
        case "retriable-4xx":
            return status == 409
        case "retriable-status-codes":
            return status in statuses
    return bool(failure.grpc) and _GRPC.get(name) == failure.grpc


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """How many retries may be under way to a cluster at once.

    At most `most`; or, where `percent` is there in its place, that share of the calls under
    way, rounded down as Envoy does, and `least` in any case. Raises ValueError where a value
    has no meaning.
    """

    most: int = 1024
    percent: float | None = None
    least: int = 3

    def __post_init__(self) -> None:
        if self.most < 0 or self.least < 0:
            raise ValueError("a retry budget is never less than 0")
        if self.percent is not None and not 0 <= self.percent <= 100:
            raise ValueError(f"`percent` is {self.percent}: it must be 0 to 100")

    def allows(self, retrying: int, active: int) -> bool:
        """Whether one more retry may begin beside *retrying* others, of *active* calls."""
        if self.percent is None:
            return retrying < self.most
        return retrying < max(self.least, int(active * self.percent / 100))
