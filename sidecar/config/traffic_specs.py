"""What operators write about the way to servers, typed: rules, routes, and services.

Checked and nothing more, like `documents`, which holds the documents these are
the specs of. None is a field that was not written; durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from ..errors import Where
from ..upstream.affinity import HashOn
from ..upstream.balance import Warmup
from ..upstream.cluster import TlsSpec
from ..upstream.edit import Edit
from ..upstream.endpoint import Http2Keepalive, Keepalive
from ..upstream.retry import RetryBudget
from ..upstream.route import Fault, Match, Rewrite
from ..upstream.text import TextMatch

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class H2UpgradePolicy(StrEnum):
    """Whether calls that came over HTTP/1.1 go on over HTTP/2."""

    DEFAULT = "DEFAULT"
    DO_NOT_UPGRADE = "DO_NOT_UPGRADE"
    UPGRADE = "UPGRADE"


class Balance(StrEnum):
    """How an endpoint is picked."""

    LEAST_REQUEST = "LEAST_REQUEST"
    ROUND_ROBIN = "ROUND_ROBIN"
    RANDOM = "RANDOM"


@dataclass(frozen=True, slots=True)
class OutlierDetection:
    """When an endpoint is ejected; defaults are Istio's, 0 errors turns a count off."""

    consecutive_5xx_errors: int = 5
    consecutive_gateway_errors: int = 0
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failures: int = 5
    interval: float = 10.0
    base_ejection_time: float = 30.0
    max_ejection_percent: int = 10
    min_health_percent: int = 0
    errors: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TcpPool:
    """Limits of connections; `idle_timeout` 0 is no timeout."""

    max_connections: int | None = None
    connect_timeout: float | None = None
    max_connection_duration: float | None = None
    idle_timeout: float | None = None
    keepalive: Keepalive | None = None


@dataclass(frozen=True, slots=True)
class HttpPool:
    """Limits of requests."""

    http1_max_pending_requests: int | None = None
    http2_max_requests: int | None = None
    max_requests_per_connection: int | None = None
    max_retries: int | None = None
    idle_timeout: float | None = None
    h2_upgrade_policy: H2UpgradePolicy = H2UpgradePolicy.DEFAULT
    use_client_protocol: bool = False
    max_concurrent_streams: int | None = None
    http2_keep_alive: Http2Keepalive | None = None


@dataclass(frozen=True, slots=True)
class ConnectionPool:
    """Limits of one destination; a written 0 is read as not written, as Istio does."""

    tcp: TcpPool = field(default_factory=TcpPool)
    http: HttpPool = field(default_factory=HttpPool)


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    """How calls are spread; with `hash_on`, calls of one key go to one endpoint."""

    simple: Balance = Balance.LEAST_REQUEST
    hash_on: HashOn | None = None
    warmup: Warmup | None = None


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How the way to the server is encrypted; no spec is DISABLE."""

    spec: TlsSpec | None = None


@dataclass(frozen=True, slots=True)
class TrafficPolicy:
    """How the way to one destination is kept healthy; None is a block not written.

    `ports` has whole policies in the place of this one, by the number that callers name.
    """

    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTls | None = None
    retry_budget: RetryBudget | None = None
    ports: Mapping[int, TrafficPolicy] = field(default_factory=lambda: MappingProxyType({}))

    def for_port(self, port: int) -> TrafficPolicy:
        """Return what holds for *port*: its own settings replace these, block for block unsaid."""
        return self.ports.get(port, self)

    def under(self, subset: TrafficPolicy, port: int) -> TrafficPolicy:
        """Return what holds for *port* of a *subset*: its blocks in the place of these."""
        own = subset.ports.get(port)
        if own is not None:
            return own
        inherited = self.for_port(port)
        blocks = {one.name: getattr(subset, one.name) for one in fields(subset)}
        written = {name: block for name, block in blocks.items() if block and name != "ports"}
        return replace(inherited, **written)


@dataclass(frozen=True, slots=True)
class Subset:
    """Those endpoints of a destination that have `labels`, all of them."""

    name: str
    at: Where
    labels: Mapping[str, str] = field(default_factory=lambda: _NONE)
    traffic_policy: TrafficPolicy = field(default_factory=TrafficPolicy)


@dataclass(frozen=True, slots=True)
class DestinationRuleSpec:
    """The traffic policy of *host*, a service's name or `*.suffix`, and of its subsets."""

    host: str
    traffic_policy: TrafficPolicy = field(default_factory=TrafficPolicy)
    subsets: tuple[Subset, ...] = ()


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port callers name; `target_port` is where endpoints listen, 0 the same."""

    number: int
    name: str
    protocol: str = "HTTP"
    target_port: int = 0


@dataclass(frozen=True, slots=True)
class ServiceEndpoint:
    """One address of a service: an IP, the path of a Unix socket, or a name to look up."""

    ip: str = ""
    unix: str = ""
    ports: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    labels: Mapping[str, str] = field(default_factory=lambda: _NONE)
    weight: int = 1
    at: Where | None = None
    name: str = ""

    def port_for(self, port: ServicePort) -> int:
        """Return where this endpoint listens for calls to *port* (0 for a Unix socket)."""
        if self.unix:
            return 0
        return self.ports.get(port.name) or port.target_port or port.number

    def address(self, port: ServicePort) -> str:
        """Return `host:port`, `[ipv6]:port` or `unix:/path` for calls to *port*."""
        if self.unix:
            return f"unix:{self.unix}"
        host = f"[{self.ip}]" if ":" in self.ip else self.ip or self.name
        return f"{host}:{self.port_for(port)}"


@dataclass(frozen=True, slots=True)
class ServiceEntrySpec:
    """A service by name, with its endpoints, and the names of which who answers must have one.

    One that is `internal` to the mesh is not called in plaintext over the network.
    """

    hosts: tuple[str, ...]
    ports: tuple[ServicePort, ...]
    endpoints: tuple[ServiceEndpoint, ...]
    names: tuple[str, ...] = ()
    internal: bool = False


@dataclass(frozen=True, slots=True)
class Goal:
    """A service, or a subset of it; port 0 is its only one."""

    host: str
    subset: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True)
class WeightedGoal:
    """Where a share of a route's calls goes, and what is edited of them."""

    goal: Goal
    at: Where
    weight: int = 0
    request: Edit | None = None
    reply: Edit | None = None


@dataclass(frozen=True, slots=True)
class MirrorGoal:
    """Where copies of a share (percentage) of a route's calls go."""

    goal: Goal
    at: Where
    percent: float = 100.0


@dataclass(frozen=True, slots=True)
class Retries:
    """When calls are tried again; see `upstream.retry.RetryPolicy`."""

    attempts: int | None = None
    retry_on: str | None = None
    per_try_timeout: float = 0.0
    backoff: float = 0.0
    ignore_previous_hosts: bool | None = None
    idempotent_tools: tuple[TextMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """One route: which calls, where they go, and what happens to them on the way."""

    route: tuple[WeightedGoal, ...]
    at: Where
    name: str = ""
    matches: tuple[Match, ...] = ()
    timeout: float = 0.0
    retries: Retries = field(default_factory=Retries)
    fault: Fault | None = None
    mirrors: tuple[MirrorGoal, ...] = ()
    rewrite: Rewrite | None = None
    request: Edit | None = None
    reply: Edit | None = None


@dataclass(frozen=True, slots=True)
class VirtualServiceSpec:
    """The routes of the services in *hosts*, in the order they are asked."""

    hosts: tuple[str, ...]
    http: tuple[HttpRoute, ...]
