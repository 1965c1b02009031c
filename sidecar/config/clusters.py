"""Where calls go: the cluster of a service or of a subset, made of its target and of documents.

The rule that governs a cluster is the one for its service's name. What a rule
does not say is our default, not Istio's four thousand million.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from ..errors import IdentityError
from ..spiffe.id import SpiffeId
from ..upstream.balance import Algorithm
from ..upstream.cluster import ClusterSpec, EndpointSpec, NamesSpec, TlsMode, TlsSpec
from ..upstream.endpoint import OutlierSpec, PoolSpec
from ..upstream.retry import RetryBudget
from .addresses import Target
from .documents import DestinationRule, ServiceEntry
from .limits import Limits
from .problem import Notes, Place
from .traffic_specs import (
    ClientTls,
    ConnectionPool,
    H2UpgradePolicy,
    LoadBalancer,
    OutlierDetection,
    ServiceEntrySpec,
    Subset,
    TrafficPolicy,
)

T = TypeVar("T")

_FOREVER: Final = float("inf")
_TWO_RULES: Final = "SC0904"
_NOBODY: Final = "SC0907"
_NO_UPGRADE: Final = "SC0613"
_PLAINTEXT: Final = "SC0704"
_SAY_WHO: Final = (
    "add `subjectAltNames` to its ServiceEntry, such as `spiffe://cluster.local/ns/NS/sa/NAME`, "
    "or a `tls` with the `mode` that is meant to its DestinationRule"
)


def cluster_of(
    target: Target,
    service: str,
    entries: Sequence[ServiceEntry],
    rules: Iterable[DestinationRule],
    limits: Limits,
    subset: str = "",
    *,
    h2c: bool = False,
) -> ClusterSpec:
    """Return the cluster that *target* means, or the *subset* of it.

    With *h2c* HTTP/2 is spoken in plaintext as well, where it is asked for; a port of that
    protocol has both, but that callers of HTTP/1.1 may be let go on in theirs.
    Raises ValueError if nothing has its addresses or nobody knows the subset.
    """
    rule = rule_for(service, rules)
    port = _port(target, entries)
    policy = rule.spec.traffic_policy.for_port(port) if rule is not None else TrafficPolicy()
    labels: Mapping[str, str] = {}
    if subset:
        part = _subset(rule, service, subset)
        policy = rule.spec.traffic_policy.under(part.traffic_policy, port) if rule else policy
        labels = part.labels
    endpoints = _endpoints(target, entries, labels)
    if not endpoints:
        raise ValueError(f"no endpoint of `{service}` has the labels of its subset `{subset}`")
    pool = policy.connection_pool or ConnectionPool()
    balance = policy.load_balancer or LoadBalancer()
    health = policy.outlier_detection
    tls = _tls(policy.tls, target, entries)
    http2, preserve = _speaks_http2(target, entries), pool.http.use_client_protocol
    upgrade, h2c = http2 or preserve or upgrades(pool.http.h2_upgrade_policy), http2 or h2c
    return ClusterSpec(
        f"{service}|{subset}" if subset else service,
        endpoints,
        pool=_pool(pool, limits, http2=upgrade and (tls is not None or h2c)),
        outlier=None if health is None else _outlier(health),
        balance=Algorithm(balance.simple.value),
        min_health_percent=0 if health is None else health.min_health_percent,
        hash_on=balance.hash_on,
        warmup=balance.warmup,
        budget=policy.retry_budget or RetryBudget(pool.http.max_retries or limits.upstream_retries),
        tls=tls,
        upgrade=upgrade,
        h2c=h2c,
        plain=policy.tls is not None and policy.tls.spec is None,
        names=NamesSpec(limits.dns_refresh, limits.dns_addresses),
    )


class NobodyNamed(ValueError):
    """Calls go over mTLS, and nobody says which identity may answer."""


def _tls(
    written: ClientTls | None, target: Target, entries: Iterable[ServiceEntry]
) -> TlsSpec | None:
    """Return how the way to *target* is secured: as *written*, else by who is said to answer.

    Raises NobodyNamed.
    """
    entry = None if target.address else _entry_for(target, entries).spec
    known = entry.names if entry is not None else ()
    spec = None if written is None else written.spec
    if written is None and entry is not None and (known or _is_far_in_mesh(entry)):
        spec = TlsSpec(TlsMode.ISTIO_MUTUAL)
    if spec is None:
        return None
    spec = replace(spec, sni=spec.sni or target.host, names=spec.names or known)
    if spec.mode is TlsMode.ISTIO_MUTUAL:
        _check_identities(spec.names, target.host)
    return spec


def _is_far_in_mesh(entry: ServiceEntrySpec) -> bool:
    """Whether calls to *entry* would cross the network that the mesh is to be safe on."""
    return entry.internal and any(
        not EndpointSpec(one.address(entry.ports[0])).is_local for one in entry.endpoints
    )


def _check_identities(names: Sequence[str], host: str) -> None:
    for name in names:
        try:
            SpiffeId.parse(name)
        except IdentityError as error:
            raise NobodyNamed(
                f"the `subjectAltNames` of `{host}` have `{name}`, which is no SPIFFE ID: {error}"
            ) from None
    if not names:
        raise NobodyNamed(f"nobody is named who may answer for `{host}`: {_SAY_WHO}")


def note_plaintext(
    clusters: Iterable[ClusterSpec], place: Place, notes: Notes, *, meshed: bool
) -> None:
    """Note calls that would leave this machine in plaintext without anybody having said so.

    Where they are *meshed*, it is an error wherever they go.
    """
    for cluster in clusters:
        if cluster.tls is not None or cluster.plain:
            continue
        far = [one.address for one in cluster.endpoints if not one.is_local]
        if meshed:
            notes.error(
                _NOBODY,
                f"calls to `{cluster.name}` would go out in plaintext",
                place,
                why="nobody is named who may answer there",
                help=_SAY_WHO,
            )
        elif far:
            notes.warning(
                _PLAINTEXT,
                f"calls to {', '.join(f'`{one}`' for one in far[:4])} leave this machine in "
                "plaintext",
                place,
                why="whoever is on the way can read and change them",
                help=f"put a sidecar beside the server, and {_SAY_WHO}",
            )


def rule_for(service: str, rules: Iterable[DestinationRule]) -> DestinationRule | None:
    """Return the rule that governs *service*, None where there is none."""
    return nearest(service, ((rule.spec.host, rule) for rule in rules))


def nearest(name: str, known: Iterable[tuple[str, T]]) -> T | None:
    """Return what is *known* by the host nearest to *name*, None by none.

    The exact host wins over `*.suffix`, a longer suffix over a shorter, as in Istio.
    """
    name = name.lower()
    best: tuple[bool, int] | None = None
    found: T | None = None
    for written, thing in known:
        host = written.lower()
        fits = host == name or (host.startswith("*") and name.endswith(host[1:]))
        rank = (not host.startswith("*"), len(host))
        if fits and (best is None or rank > best):
            best, found = rank, thing
    return found


def merged(rules: Iterable[DestinationRule], notes: Notes) -> tuple[DestinationRule, ...]:
    """Return *rules* with those of one host joined, as Istio joins them.

    Subsets are added up; one of them may have the traffic policy. Where two say the same
    thing differently, which one counts would depend on the files' order: that is noted.
    """
    found: dict[str, DestinationRule] = {}
    for rule in rules:
        host = rule.spec.host.lower()
        first = found.setdefault(host, rule)
        if first is rule:
            continue
        spec, more = first.spec, rule.spec
        names = {one.name for one in spec.subsets}
        twice = next((one.name for one in more.subsets if one.name in names), "")
        if twice or TrafficPolicy() not in (spec.traffic_policy, more.traffic_policy):
            notes.error(
                _TWO_RULES,
                f"a second DestinationRule says what is done about `{host}`",
                Place(rule.at),
                why=f"the first is at {first.at}, and both have "
                + (f"a subset `{twice}`" if twice else "a `trafficPolicy`"),
                help="join the two",
            )
            continue
        policy = spec.traffic_policy if more.traffic_policy == TrafficPolicy() else None
        joined = replace(
            spec,
            traffic_policy=policy or more.traffic_policy,
            subsets=spec.subsets + more.subsets,
        )
        found[host] = replace(first, spec=joined)
    return tuple(found.values())


def upgrades(
    written: H2UpgradePolicy,
    mesh: H2UpgradePolicy = H2UpgradePolicy.DO_NOT_UPGRADE,
    *,
    is_http: bool = True,
    use_client_protocol: bool = False,
) -> bool:
    """Whether calls go on over HTTP/2, as Istio decides it.

    What is *written* overrides the *mesh*, which acts on ports that are named for HTTP only;
    who goes on in the caller's own protocol upgrades nothing.
    """
    if use_client_protocol:
        return False
    if written is not H2UpgradePolicy.DEFAULT:
        return written is H2UpgradePolicy.UPGRADE
    return is_http and mesh is H2UpgradePolicy.UPGRADE


def note_upgrade(clusters: Iterable[ClusterSpec], place: Place, notes: Notes) -> None:
    """Note where HTTP/2 is asked for and could only be guessed that the server speaks it."""
    for cluster in clusters:
        if cluster.upgrade and not cluster.pool.http2:
            written = "useClientProtocol" if cluster.pool.preserve else "h2UpgradePolicy: UPGRADE"
            notes.warning(
                _NO_UPGRADE,
                f"calls to `{cluster.name}` go on over HTTP/1.1 for all `{written}`",
                place,
                why="without TLS there is nobody to agree on HTTP/2 with",
                help="add `h2c: true` to the inbound if its server speaks HTTP/2 in plaintext",
            )


def _subset(rule: DestinationRule | None, service: str, name: str) -> Subset:
    known = {one.name: one for one in rule.spec.subsets} if rule is not None else {}
    if name not in known:
        names = ", ".join(f"`{one}`" for one in known) or "none"
        raise ValueError(
            f"`{service}` has no subset `{name}`: its DestinationRule's `subsets` are {names}"
        )
    return known[name]


def _entry_for(target: Target, entries: Iterable[ServiceEntry]) -> ServiceEntry:
    entry = nearest(target.host, ((h, one) for one in entries for h in one.spec.hosts))
    if entry is None:
        raise ValueError(
            f"`{target.host}` is no address, and no ServiceEntry has it among its `hosts`: write "
            "`http://host:port`, `unix:/path`, or add the ServiceEntry"
        )
    return entry


def _speaks_http2(target: Target, entries: Iterable[ServiceEntry]) -> bool:
    """Whether the port that callers of *target* name is one of HTTP/2."""
    ports = () if target.address else _entry_for(target, entries).spec.ports
    return next((p.protocol == "HTTP2" for p in ports if target.port in (0, p.number)), False)


def _port(target: Target, entries: Iterable[ServiceEntry]) -> int:
    """Return the port that callers of *target* name."""
    if target.address or target.port:
        return target.port
    return _entry_for(target, entries).spec.ports[0].number


def _endpoints(
    target: Target, entries: Iterable[ServiceEntry], labels: Mapping[str, str]
) -> tuple[EndpointSpec, ...]:
    if target.address:
        return () if labels else (EndpointSpec(target.address),)
    entry = _entry_for(target, entries)
    ports = [p for p in entry.spec.ports if not target.port or p.number == target.port]
    if not ports:
        raise ValueError(f"the ServiceEntry of `{target.host}` has no port {target.port}")
    found: dict[str, EndpointSpec] = {}
    for one in entry.spec.endpoints:
        if labels.items() <= one.labels.items():
            address = one.address(ports[0])
            spec = EndpointSpec(address, max(1, one.weight), resolve=bool(one.name))
            found.setdefault(address, spec)
    return tuple(found.values())


def _pool(written: ConnectionPool, limits: Limits, *, http2: bool) -> PoolSpec:
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
        keepalive=tcp.keepalive,
        http2=http2,
        preserve=http.use_client_protocol,
        max_streams=http.max_concurrent_streams or limits.upstream_streams,
        http2_keepalive=http.http2_keep_alive,
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
        errors=written.errors,
    )
