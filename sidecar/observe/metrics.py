"""The numbers: what was asked, what was said, how long it took, and how long of that was ours.

Counting is adding to plain integers; the exposition is made when somebody
scrapes. Label values never come unbounded from an attacker: a tool or method
that nobody knows, and any beyond the limit, is `_other`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from itertools import accumulate
from typing import Final, TypeAlias, TypeVar

from ..mcp.methods import METHODS, NOTIFICATIONS
from ..policy.limit import Limiter
from ..policy.verdict import Reason
from .family import Family, counter, gauge, histogram
from .record import Record

# Seconds. Ours: 100 us to 100 ms. The server's: OpenTelemetry's buckets for MCP.
_OVERHEAD: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)
_DURATION: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_OTHER: Final = "_other"

# Statuses that are counted one by one; others count with their hundred.
_STATUSES: Final = frozenset(HTTPStatus) - {100, 101, 102, 103}

_Key = TypeVar("_Key")
Stat: TypeAlias = tuple[str, float]  # Envoy's dotted name, value


class _Histogram:
    """Counts by bucket, and their sum; bounds are upper and inclusive, as Prometheus has them."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    @classmethod
    def total(cls, bounds: tuple[float, ...], parts: Iterable[_Histogram]) -> _Histogram:
        """Return the sum of histograms that have the same *bounds*."""
        whole = cls(bounds)
        for part in parts:
            whole.sum += part.sum
            whole.counts = [a + b for a, b in zip(whole.counts, part.counts, strict=True)]
        return whole

    def buckets(self) -> list[tuple[str, float]]:
        names = [str(bound) for bound in self.bounds] + ["+Inf"]
        return list(zip(names, accumulate(self.counts), strict=True))


class Series:
    """What is counted of exchanges that have their labels and their status in common."""

    __slots__ = ("count", "duration", "labels", "overhead", "status")

    def __init__(self, labels: tuple[str, str, str, str], status: int) -> None:
        self.labels = labels  # method, tool, verdict, reason
        self.status = status
        self.count = 0
        self.overhead = _Histogram(_OVERHEAD)
        self.duration = _Histogram(_DURATION)

    def add(self, overhead: float, duration: float | None) -> None:
        """Count one more; *duration* is the server's, None where none was asked. Seconds."""
        self.count += 1
        mine, theirs = self.overhead, self.duration
        mine.counts[bisect_left(_OVERHEAD, overhead)] += 1
        mine.sum += overhead
        if duration is not None:
            theirs.counts[bisect_left(_DURATION, duration)] += 1
            theirs.sum += duration


class Metrics:
    """Counts exchanges; `gauges` and `stats` bring what others count."""

    def __init__(
        self,
        version: str,
        max_tools: int,
        gauges: Callable[[], Iterable[Family]] = tuple,
    ) -> None:
        self._version = version
        self._max_tools = max_tools
        self._gauges = gauges
        self._tools: set[str] = set()
        self._series: dict[tuple[str, str, str, str, int], Series] = {}
        self._tokens: dict[str, int] = {}  # what the tokens of calls came to
        self.faults = 0  # bugs that met the rescue
        self.lost_lines = 0  # access lines that could not be written
        self.handshakes = 0
        self.handshake_failures: dict[str, int] = {}
        self.upstream_handshake_failures: dict[str, int] = {}

    def count(self, record: Record, ended: float, overhead: float) -> Series:
        """Count one exchange that *ended* (on the loop's clock); *overhead* was ours. Seconds.

        Return what it was counted in: another of its kind can be added there straight away.
        """
        call = record.call
        message = call.message if call is not None else None
        method, tool = ("", "") if message is None else (message.method, message.tool or "")
        verdict, reason = record.outcome, record.reason
        # What nobody has been allowed to name yet is not found, and gets its labels first.
        series = self._series.get((method, tool, verdict, reason, record.status))
        if series is None:
            series = self._new(method, tool, verdict, reason, record.status)
        series.add(overhead, ended - record.sent if record.sent else None)
        if call is not None and call.checked is not None:
            outcome = call.checked.outcome
            self._tokens[outcome] = self._tokens.get(outcome, 0) + 1
        return series

    def _new(self, method: str, tool: str, verdict: str, reason: str, status: int) -> Series:
        """Return the series for names that may be a caller's invention; there are only so many."""
        if method and method not in METHODS:
            method = "notifications" if method.startswith(NOTIFICATIONS) else _OTHER
        if tool and tool not in self._tools:
            # Only a call that a rule allowed makes a tool's name known.
            if verdict == "allow" and len(self._tools) < self._max_tools:
                self._tools.add(tool)
            else:
                tool = _OTHER
        # An upstream's status is its own invention too.
        known = status if status in _STATUSES else status // 100 * 100
        labels = (method, tool, verdict, reason)
        return self._series.setdefault((*labels, known), Series(labels, known))

    def _by(self, key: Callable[[Series], _Key]) -> dict[_Key, int]:
        found: dict[_Key, int] = {}
        for series in self._series.values():
            found[key(series)] = found.get(key(series), 0) + series.count
        return found

    def stats(self) -> Iterator[Stat]:
        """Yield the counters under Envoy's names where it has them."""
        for status, count in sorted(self._by(lambda one: one.status).items()):
            yield f"http.inbound.downstream_rq_{status}", count
        families = self._by(lambda one: one.status // 100)
        for family in (2, 3, 4, 5):
            yield f"http.inbound.downstream_rq_{family}xx", families.get(family, 0)
        yield "http.inbound.downstream_rq_total", sum(families.values())
        verdicts = self._by(lambda one: one.labels[2])
        yield "http.inbound.rbac.allowed", verdicts.get("allow", 0)
        yield "http.inbound.rbac.denied", verdicts.get("deny", 0)
        reasons = self._by(lambda one: one.labels[3])
        limited = reasons.get(Reason.RATE_LIMITED.value, 0)
        yield "http.inbound.http_local_rate_limit.rate_limited", limited
        yield "listener.ssl.handshake", self.handshakes
        yield "listener.ssl.connection_error", sum(self.handshake_failures.values())
        for reason, count in sorted(self.handshake_failures.items()):
            yield f"listener.ssl.fail_verify.{reason}", count
        yield "upstream.ssl.connection_error", sum(self.upstream_handshake_failures.values())
        for reason, count in sorted(self.upstream_handshake_failures.items()):
            yield f"upstream.ssl.fail_verify.{reason}", count
        yield "server.internal_faults", self.faults
        yield "access_log.lines_lost", self.lost_lines

    def text(self) -> bytes:
        """Return the exposition in Prometheus' text format."""
        # Not before somebody asks: what writes the format takes a while to load.
        from .exposition import exposition

        return exposition(self.collect())

    def collect(self) -> Iterable[Family]:
        """Yield all that is told."""
        info = gauge("sidecar_build_info", "Always 1.", "version")
        info.add(1, self._version)
        yield info
        requests = counter(
            "sidecar_requests",
            "Exchanges by what was asked and what was said.",
            "method",
            "tool",
            "verdict",
            "reason",
        )
        for labels, count in self._by(lambda one: one.labels).items():
            requests.add(count, *labels)
        yield requests
        yield from self._histograms()
        yield from self._failures()
        yield from self._gauges()

    def _histograms(self) -> Iterator[Family]:
        overhead = histogram(
            "sidecar_overhead_seconds", "Time of an exchange that was spent in the sidecar."
        )
        own = _Histogram.total(_OVERHEAD, [one.overhead for one in self._series.values()])
        overhead.add((own.buckets(), own.sum))
        yield overhead
        durations = histogram(
            "mcp_server_operation_duration_seconds",
            "Time from sending a call to the server until its reply was through.",
            "mcp_method_name",
        )
        by_method: dict[str, list[_Histogram]] = {}
        for series in self._series.values():
            by_method.setdefault(series.labels[0], []).append(series.duration)
        for method, parts in by_method.items():
            taken = _Histogram.total(_DURATION, parts)
            durations.add((taken.buckets(), taken.sum), method)
        yield durations

    def _failures(self) -> Iterator[Family]:
        handshakes = counter("sidecar_handshakes", "TLS handshakes that succeeded.")
        handshakes.add(self.handshakes)
        yield handshakes
        refused = counter(
            "sidecar_handshake_failures", "Connections refused at the handshake.", "reason"
        )
        for reason, count in self.handshake_failures.items():
            refused.add(count, reason)
        yield refused
        servers = counter(
            "sidecar_upstream_handshake_failures",
            "Servers refused at the handshake, or that refused it.",
            "reason",
        )
        for reason, count in self.upstream_handshake_failures.items():
            servers.add(count, reason)
        yield servers
        tokens = counter(
            "sidecar_token_checks",
            "Calls where tokens are accepted, by what theirs came to.",
            "outcome",
        )
        for outcome, count in self._tokens.items():
            tokens.add(count, outcome)
        yield tokens
        faults = counter("sidecar_internal_faults", "Bugs that met the rescue.")
        faults.add(self.faults)
        yield faults
        lost = counter("sidecar_access_lines_lost", "Access lines not written.")
        lost.add(self.lost_lines)
        yield lost


def limiter_metrics(limiter: Limiter) -> Iterator[Family]:
    """Yield what Prometheus is told of rate limits; rules are those that are configured."""
    refused = counter("sidecar_rate_limited", "Calls that a RateLimit refused.", "rule")
    for rule, count in limiter.refused.items():
        refused.add(count, rule)
    buckets = gauge("sidecar_rate_limit_buckets", "Buckets that RateLimits have.")
    buckets.add(limiter.buckets)
    sharing = counter(
        "sidecar_rate_limit_sharing", "Calls that shared a bucket, all others being in use."
    )
    sharing.add(limiter.sharing)
    yield from (refused, buckets, sharing)
