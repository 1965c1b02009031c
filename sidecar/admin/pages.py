"""The admin pages: liveness, readiness, and the counters under Envoy's names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from urllib.parse import parse_qs

from ..net.cluster import Cluster
from ..net.clusters import Clusters
from ..net.counters import FAMILY, LOCAL
from ..observe.family import Family, counter, gauge
from ..observe.journal import Journal
from ..observe.metrics import Metrics, Stat
from .server import Make, Page


def pages(
    journal: Journal, clusters: Clusters, unready: Callable[[], str], more: Callable[[], list[Stat]]
) -> Mapping[str, Make]:
    """Return what each path answers; *unready* says why not, or nothing when ready."""
    metrics = journal.metrics

    def readyz(_: str) -> Page:
        why = unready()
        return Page(f"{why}\n".encode(), status=503) if why else Page(b"ready\n")

    def stats(_: str) -> Page:
        lines = [f"{name}: {value:.15g}" for name, value in _stats(metrics, clusters, more())]
        return Page(("\n".join(sorted(lines)) + "\n").encode())

    return {
        "/healthz": lambda _: Page(b"alive\n"),
        "/readyz": readyz,
        "/ready": readyz,
        "/metrics": lambda _: Page(metrics.text(), "text/plain; version=0.0.4; charset=utf-8"),
        "/stats": stats,
        "/clusters": lambda _: Page("".join(_cluster_lines(clusters)).encode()),
        "/why": lambda query: _why(journal, query),
    }


def _why(journal: Journal, query: str) -> Page:
    """Answer `?id=REQUEST_ID` with the request's access line."""
    (request_id,) = parse_qs(query, max_num_fields=8).get("id", [""])[-1:]
    line = journal.find(request_id) if request_id else None
    if line is not None:
        return Page(line + b"\n", "application/json")
    known = b'{"error": "no such request", "remembered": %d}\n' % journal.remembered
    return Page(known, "application/json", 404)


def _stats(metrics: Metrics, clusters: Clusters, more: Iterable[Stat]) -> Iterator[Stat]:
    yield from metrics.stats()
    yield from more
    for cluster in clusters:
        for name, value in cluster_stats(cluster).items():
            yield f"cluster.{cluster.spec.name}.{name}", value


def cluster_stats(cluster: Cluster) -> dict[str, float]:
    """Return the counters and gauges of one cluster, under Envoy's names."""
    endpoints = cluster.endpoints.values()
    return {
        **cluster.counters,
        "upstream_cx_active": cluster.connections,
        "upstream_rq_active": sum(endpoint.in_flight for endpoint in endpoints),
        "upstream_rq_pending_active": cluster.pending,
        "membership_total": len(cluster.endpoints),
        "membership_healthy": sum(not endpoint.ejected for endpoint in endpoints),
        **{
            f"outlier_detection.{name}": value
            for name, value in cluster.outlier.statistics().items()
        },
    }


def _cluster_lines(clusters: Clusters) -> Iterator[str]:
    for cluster in clusters:
        for endpoint in cluster.endpoints.values():
            yield f"{cluster.spec.name}::{endpoint}\n"


def cluster_gauges(clusters: Clusters) -> Iterator[Family]:
    """Yield what Prometheus is told of the clusters."""
    ejected = gauge(
        "sidecar_upstream_ejected", "1 while an endpoint is ejected.", "cluster", "endpoint"
    )
    connections = gauge("sidecar_upstream_connections", "Open connections to a cluster.", "cluster")
    pending = gauge("sidecar_upstream_pending", "Calls that wait for a connection.", "cluster")
    overflow = gauge(
        "sidecar_upstream_overflow", "Calls refused for a full queue so far.", "cluster"
    )
    for cluster in clusters:
        name = cluster.spec.name
        connections.add(cluster.connections, name)
        pending.add(cluster.pending, name)
        overflow.add(cluster.counters["upstream_rq_pending_overflow"], name)
        for endpoint in cluster.endpoints.values():
            ejected.add(float(endpoint.ejected), name, endpoint.address)
    yield from (ejected, connections, pending, overflow, *_cluster_counters(clusters))


def _cluster_counters(clusters: Clusters) -> Iterator[Family]:
    """Yield how each cluster answered: where versions are clusters, how each version does."""
    replies = counter(
        "sidecar_upstream_replies",
        "Replies of a cluster by the hundred of their status, copies' among them.",
        "cluster",
        "status",
    )
    failures = counter(
        "sidecar_upstream_failures",
        "Calls to a cluster that brought no reply, by why.",
        "cluster",
        "why",
    )
    retries = counter("sidecar_upstream_retries", "Calls that were tried again.", "cluster")
    for cluster in clusters:
        name, counters = cluster.spec.name, cluster.counters
        for hundred, counted in FAMILY.items():
            replies.add(counters[counted], name, f"{hundred}xx")
        for outcome, counted in LOCAL.items():
            failures.add(counters[counted], name, outcome.value)
        retries.add(counters["upstream_rq_retry"], name)
    yield from (replies, failures, retries)
