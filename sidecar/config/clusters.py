"""Where calls go: the cluster of an inbound, made of its target and of documents.

The rule that governs a cluster is the one for its service's name. What a rule
does not say is our default, not Istio's four thousand million.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ..upstream.balance import Algorithm
from ..upstream.cluster import ClusterSpec, EndpointSpec
from ..upstream.endpoint import OutlierSpec, PoolSpec
from .addresses import Target
from .documents import (
    ConnectionPool,
    DestinationRule,
    OutlierDetection,
    ServiceEntry,
    TrafficPolicy,
)
from .limits import Limits

_FOREVER: Final = float("inf")


def cluster_of(
    target: Target,
    service: str,
    entries: Iterable[ServiceEntry],
    rules: Iterable[DestinationRule],
    limits: Limits,
) -> ClusterSpec:
    """Return the cluster that *target* means. Raises ValueError if nothing has its addresses."""
    endpoints = _endpoints(target, entries)
    rule = _rule_for(service, rules)
    policy = rule.spec.traffic_policy if rule is not None else TrafficPolicy()
    health = policy.outlier_detection
    return ClusterSpec(
        service,
        endpoints,
        pool=_pool(policy.connection_pool, limits),
        outlier=None if health is None else _outlier(health),
        balance=Algorithm(policy.load_balancer.simple.value),
        min_health_percent=0 if health is None else health.min_health_percent,
    )


def _endpoints(target: Target, entries: Iterable[ServiceEntry]) -> tuple[EndpointSpec, ...]:
    if target.address:
        return (EndpointSpec(target.address),)
    for entry in entries:
        if target.host.lower() not in (host.lower() for host in entry.spec.hosts):
            continue
        ports = [p for p in entry.spec.ports if not target.port or p.number == target.port]
        if not ports:
            raise ValueError(f"the ServiceEntry of `{target.host}` has no port {target.port}")
        found: dict[str, EndpointSpec] = {}
        for one in entry.spec.endpoints:
            ip = f"[{one.ip}]" if ":" in one.ip else one.ip
            address = f"unix:{one.unix}" if one.unix else f"{ip}:{one.port_for(ports[0])}"
            found.setdefault(address, EndpointSpec(address, max(1, one.weight)))
        return tuple(found.values())
    raise ValueError(
        f"`{target.host}` is no address, and no ServiceEntry has it among its `hosts`: write "
        "`http://host:port`, `unix:/path`, or add the ServiceEntry"
    )


def _rule_for(service: str, rules: Iterable[DestinationRule]) -> DestinationRule | None:
    """The exact host wins over `*.suffix`, a longer suffix over a shorter (Istio)."""
    best: DestinationRule | None = None
    for rule in rules:
        host = rule.spec.host.lower()
        fits = host == service.lower() or (
            host.startswith("*") and service.lower().endswith(host[1:])
        )
        if fits and (best is None or _rank(host) > _rank(best.spec.host.lower())):
            best = rule
    return best


def _rank(host: str) -> tuple[bool, int]:
    return (not host.startswith("*"), len(host))


def _pool(written: ConnectionPool, limits: Limits) -> PoolSpec:
    tcp, http = written.tcp, written.http
    idle = next((t for t in (http.idle_timeout, tcp.idle_timeout) if t is not None), None)
    return PoolSpec(
        max_connections=tcp.max_connections or limits.upstream_connections,
        max_pending=http.http1_max_pending_requests or limits.upstream_pending,
        max_requests=http.http2_max_requests or limits.upstream_requests,
        max_requests_per_connection=http.max_requests_per_connection or 0,
        connect_timeout=tcp.connect_timeout or limits.connect_timeout,
        idle_timeout=limits.upstream_idle_timeout if idle is None else idle or _FOREVER,
        max_connection_duration=tcp.max_connection_duration or _FOREVER,
    )


def _outlier(written: OutlierDetection) -> OutlierSpec:
    return OutlierSpec.of_istio(
        consecutive_5xx_errors=written.consecutive_5xx_errors,
        consecutive_gateway_errors=written.consecutive_gateway_errors,
        split_external_local_origin_errors=written.split_external_local_origin_errors,
        consecutive_local_origin_failures=written.consecutive_local_origin_failures,
        interval=written.interval,
        base_ejection_time=written.base_ejection_time,
        max_ejection_percent=written.max_ejection_percent,
    )
