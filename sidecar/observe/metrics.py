"""The numbers: what was asked, what was said, how long it took, and how long of that was ours.

Counting is adding to plain integers; the exposition is made when somebody
scrapes. Label values never come unbounded from an attacker: a tool or method
that nobody knows, and any beyond the limit, is `_other`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from ..mcp.methods import METHODS, NOTIFICATIONS
from ..policy.verdict import Refusal
from .record import Record

# Seconds. Ours: 100 us to 100 ms. The server's: OpenTelemetry's buckets for MCP.
_OVERHEAD: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)
_DURATION: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_OTHER: Final = "_other"

Stat: TypeAlias = tuple[str, float]  # Envoy's dotted name, value


class _Histogram:
    """Counts by bucket, and their sum; bounds are upper and inclusive, as Prometheus has them."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        names = [str(bound) for bound in self.bounds] + ["+Inf"]
        return list(zip(names, accumulate(self.counts), strict=True))


class Metrics(Collector):
    """Counts exchanges; `gauges` and `stats` bring what others count."""

    def __init__(
        self,
        version: str,
        max_tools: int,
        gauges: Callable[[], Iterable[Metric]] = tuple,
    ) -> None:
        self._version = version
        self._max_tools = max_tools
        self._gauges = gauges
        self._tools: set[str] = set()
        self._requests: dict[tuple[str, str, str, str], int] = {}
        self._statuses: dict[int, int] = {}
        self._durations: dict[str, _Histogram] = {}
        self._overhead = _Histogram(_OVERHEAD)
        self.faults = 0  # bugs that met the rescue
        self.lost_lines = 0  # access lines that could not be written
        self.handshakes = 0
        self.handshake_failures: dict[str, int] = {}
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def count(self, record: Record, ended: float) -> None:
        """Count one exchange that *ended* (seconds on the loop's clock)."""
        method, tool = self._labels(record)
        verdict = record.verdict
        reason = verdict.reason.value if type(verdict) is Refusal else ""
        key = (method, tool, record.outcome, reason)
        self._requests[key] = self._requests.get(key, 0) + 1
        self._statuses[record.status] = self._statuses.get(record.status, 0) + 1
        self._overhead.observe(record.overhead(ended))
        if record.sent:
            histogram = self._durations.get(method)
            if histogram is None:
                histogram = self._durations[method] = _Histogram(_DURATION)
            histogram.observe(ended - record.sent)

    def _labels(self, record: Record) -> tuple[str, str]:
        message = record.call.message if record.call is not None else None
        if message is None:
            return "", ""
        method = message.method
        if method not in METHODS and method:
            method = "notifications" if method.startswith(NOTIFICATIONS) else _OTHER
        tool = message.tool or ""
        if tool and tool not in self._tools:
            # Only a call that a rule allowed makes a tool's name known.
            if record.outcome != "allow" or len(self._tools) >= self._max_tools:
                return method, _OTHER
            self._tools.add(tool)
        return method, tool

    def stats(self) -> Iterator[Stat]:
        """Yield the counters under Envoy's names where it has them."""
        for status, count in sorted(self._statuses.items()):
            yield f"http.inbound.downstream_rq_{status}", count
        for family in (2, 3, 4, 5):
            total = sum(n for status, n in self._statuses.items() if status // 100 == family)
            yield f"http.inbound.downstream_rq_{family}xx", total
        yield "http.inbound.downstream_rq_total", sum(self._statuses.values())
        by_verdict = {"allow": 0, "deny": 0}
        for (_, _, verdict, _), count in self._requests.items():
            by_verdict[verdict] = by_verdict.get(verdict, 0) + count
        yield "http.inbound.rbac.allowed", by_verdict["allow"]
        yield "http.inbound.rbac.denied", by_verdict["deny"]
        yield "listener.ssl.handshake", self.handshakes
        yield "listener.ssl.connection_error", sum(self.handshake_failures.values())
        for reason, count in sorted(self.handshake_failures.items()):
            yield f"listener.ssl.fail_verify.{reason}", count
        yield "server.internal_faults", self.faults
        yield "access_log.lines_lost", self.lost_lines

    def text(self) -> bytes:
        """Return the exposition in Prometheus' text format."""
        return generate_latest(self.registry)

    def collect(self) -> Iterable[Metric]:
        """Yield all families, for prometheus_client."""
        info = GaugeMetricFamily("sidecar_build_info", "Always 1.", labels=["version"])
        info.add_metric([self._version], 1)
        yield info
        requests = CounterMetricFamily(
            "sidecar_requests",
            "Exchanges by what was asked and what was said.",
            labels=["method", "tool", "verdict", "reason"],
        )
        for key, count in self._requests.items():
            requests.add_metric(list(key), count)
        yield requests
        yield from self._histograms()
        yield from self._failures()
        yield from self._gauges()

    def _histograms(self) -> Iterator[Metric]:
        overhead = HistogramMetricFamily(
            "sidecar_overhead_seconds", "Time of an exchange that was spent in the sidecar."
        )
        overhead.add_metric([], self._overhead.buckets(), self._overhead.sum)
        yield overhead
        durations = HistogramMetricFamily(
            "mcp_server_operation_duration_seconds",
            "Time from sending a call to the server until its reply was through.",
            labels=["mcp_method_name"],
        )
        for method, histogram in self._durations.items():
            durations.add_metric([method], histogram.buckets(), histogram.sum)
        yield durations

    def _failures(self) -> Iterator[Metric]:
        handshakes = CounterMetricFamily("sidecar_handshakes", "TLS handshakes that succeeded.")
        handshakes.add_metric([], self.handshakes)
        yield handshakes
        refused = CounterMetricFamily(
            "sidecar_handshake_failures", "Connections refused at the handshake.", labels=["reason"]
        )
        for reason, count in self.handshake_failures.items():
            refused.add_metric([reason], count)
        yield refused
        faults = CounterMetricFamily("sidecar_internal_faults", "Bugs that met the rescue.")
        faults.add_metric([], self.faults)
        yield faults
        lost = CounterMetricFamily("sidecar_access_lines_lost", "Access lines not written.")
        lost.add_metric([], self.lost_lines)
        yield lost
