"""What operators write, typed: one frozen class a kind, checked and nothing more.

A document that exists passed every check of its own; what several documents
mean together is compiled from them elsewhere. Durations are seconds, sizes are
bytes, None is a field that was not written. Every document knows its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

from ..errors import Where
from ..policy.limit import LimitPolicy, LimitSpec
from ..policy.spec import Action, PolicySpec, RuleSpec
from ..policy.tokens.spec import JwtRuleSpec, TokenPolicySpec

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Metadata:
    """Name, namespace and labels; `created` is seconds since 1970, 0 where not written."""

    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: _NONE)
    annotations: Mapping[str, str] = field(default_factory=lambda: _NONE)
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class Selector:
    """Which workloads a document is for; no labels means every one in its reach."""

    match_labels: Mapping[str, str] = field(default_factory=lambda: _NONE)

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Return whether all of the selector's labels are among *labels*."""
        return all(labels.get(name) == value for name, value in self.match_labels.items())


EVERY_WORKLOAD: Final = Selector()


class MtlsMode(StrEnum):
    """What a listener asks of callers; UNSET takes what the level above says."""

    STRICT = "STRICT"
    PERMISSIVE = "PERMISSIVE"
    DISABLE = "DISABLE"
    UNSET = "UNSET"


@dataclass(frozen=True, slots=True)
class PeerAuthenticationSpec:
    """`port_modes` is keyed by the workload's port."""

    selector: Selector = EVERY_WORKLOAD
    mode: MtlsMode = MtlsMode.UNSET
    port_modes: Mapping[int, MtlsMode] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class RequestAuthenticationSpec:
    """Which tokens are accepted: those that one of the rules accepts."""

    selector: Selector = EVERY_WORKLOAD
    jwt_rules: tuple[JwtRuleSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class AuthorizationPolicySpec:
    """Istio's AuthorizationPolicy, with the attributes of MCP."""

    selector: Selector = EVERY_WORKLOAD
    action: Action = Action.ALLOW
    rules: tuple[RuleSpec, ...] = ()


class OnMatch(StrEnum):
    """What a finding of the scan does: refuse, record and mark, or only count."""

    DENY = "DENY"
    FLAG = "FLAG"
    SHADOW = "SHADOW"


class Direction(StrEnum):
    """Which way a message goes: from the caller, or back to it."""

    REQUEST = "request"
    RESPONSE = "response"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text that the scan looks for; findings are named by its *id*."""

    id: str
    text: str
    at: Where | None = None


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file that a document names; *path* is already relative to the document's folder."""

    path: str
    at: Where
    width: int = 1


@dataclass(frozen=True, slots=True)
class InspectionSpec:
    """What is scanned for, in what, and what a finding does. `max_body_bytes`: None = the limit."""

    selector: Selector = EVERY_WORKLOAD
    patterns: tuple[Pattern, ...] = ()
    pattern_files: tuple[FileRef, ...] = ()
    max_body_bytes: int | None = None
    action: OnMatch = OnMatch.DENY
    directions: tuple[Direction, ...] = tuple(Direction)


class Phase(StrEnum):
    """Where Istio would put a WasmPlugin; the scan here is always after the rules."""

    UNSPECIFIED_PHASE = "UNSPECIFIED_PHASE"
    AUTHN = "AUTHN"
    AUTHZ = "AUTHZ"
    STATS = "STATS"


@dataclass(frozen=True, slots=True)
class WasmPluginSpec:
    """What its `pluginConfig` asks for; the module at `url` is not loaded."""

    inspection: InspectionSpec
    url: str = ""
    phase: Phase = Phase.UNSPECIFIED_PHASE


@dataclass(frozen=True, slots=True)
class RateLimitSpec:
    """How often which calls may happen; all of the limits count."""

    limits: tuple[LimitSpec, ...]
    selector: Selector = EVERY_WORKLOAD


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


@dataclass(frozen=True, slots=True)
class TcpPool:
    """Limits of connections; `idle_timeout` 0 is no timeout."""

    max_connections: int | None = None
    connect_timeout: float | None = None
    max_connection_duration: float | None = None
    idle_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class HttpPool:
    """Limits of requests."""

    http1_max_pending_requests: int | None = None
    http2_max_requests: int | None = None
    max_requests_per_connection: int | None = None
    idle_timeout: float | None = None
    h2_upgrade_policy: H2UpgradePolicy = H2UpgradePolicy.DEFAULT


@dataclass(frozen=True, slots=True)
class ConnectionPool:
    """Limits of one destination; a written 0 is read as not written, as Istio does."""

    tcp: TcpPool = field(default_factory=TcpPool)
    http: HttpPool = field(default_factory=HttpPool)


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    """How calls are spread."""

    simple: Balance = Balance.LEAST_REQUEST


@dataclass(frozen=True, slots=True)
class TrafficPolicy:
    """How the way to one destination is kept healthy; None is a block not written."""

    load_balancer: LoadBalancer = field(default_factory=LoadBalancer)
    connection_pool: ConnectionPool = field(default_factory=ConnectionPool)
    outlier_detection: OutlierDetection | None = None


@dataclass(frozen=True, slots=True)
class DestinationRuleSpec:
    """The traffic policy of *host*, a service's name or `*.suffix`."""

    host: str
    traffic_policy: TrafficPolicy = field(default_factory=TrafficPolicy)


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port callers name; `target_port` is where endpoints listen, 0 the same."""

    number: int
    name: str
    protocol: str = "HTTP"
    target_port: int = 0


@dataclass(frozen=True, slots=True)
class ServiceEndpoint:
    """One address of a service: an IP, or the path of a Unix socket."""

    ip: str = ""
    unix: str = ""
    ports: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    labels: Mapping[str, str] = field(default_factory=lambda: _NONE)
    weight: int = 1
    at: Where | None = None

    def port_for(self, port: ServicePort) -> int:
        """Return where this endpoint listens for calls to *port* (0 for a Unix socket)."""
        if self.unix:
            return 0
        return self.ports.get(port.name) or port.target_port or port.number


@dataclass(frozen=True, slots=True)
class ServiceEntrySpec:
    """A service by name, with its endpoints."""

    hosts: tuple[str, ...]
    ports: tuple[ServicePort, ...]
    endpoints: tuple[ServiceEndpoint, ...]


@dataclass(frozen=True, slots=True)
class PeerAuthentication:
    """Whether callers must prove who they are."""

    metadata: Metadata
    spec: PeerAuthenticationSpec
    at: Where


@dataclass(frozen=True, slots=True)
class RequestAuthentication:
    """Which tokens are accepted."""

    metadata: Metadata
    spec: RequestAuthenticationSpec
    at: Where

    @property
    def tokens(self) -> TokenPolicySpec:
        """Return what token rules are compiled from."""
        meta = self.metadata
        return TokenPolicySpec(meta.name, meta.namespace, self.spec.jwt_rules, self.at)


@dataclass(frozen=True, slots=True)
class AuthorizationPolicy:
    """Who may call what."""

    metadata: Metadata
    spec: AuthorizationPolicySpec
    at: Where

    @property
    def dry_run(self) -> bool:
        """Whether the policy is only recorded (annotation `istio.io/dry-run`)."""
        return self.metadata.annotations.get(DRY_RUN, "") in TRUE_WORDS

    @property
    def policy(self) -> PolicySpec:
        """Return what rules are compiled from."""
        return PolicySpec(
            name=self.metadata.name,
            namespace=self.metadata.namespace,
            action=self.spec.action,
            rules=self.spec.rules,
            at=self.at,
            dry_run=self.dry_run,
        )


DRY_RUN: Final = "istio.io/dry-run"
# What Istio reads as true and false in an annotation (Go's strconv.ParseBool).
TRUE_WORDS: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
FALSE_WORDS: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})


@dataclass(frozen=True, slots=True)
class Inspection:
    """What messages are scanned for."""

    metadata: Metadata
    spec: InspectionSpec
    at: Where

    @property
    def inspection(self) -> InspectionSpec:
        """Return what is scanned for; a WasmPlugin has the same property."""
        return self.spec


@dataclass(frozen=True, slots=True)
class WasmPlugin:
    """Istio's WasmPlugin, honoured through its `pluginConfig` as an inspection."""

    metadata: Metadata
    spec: WasmPluginSpec
    at: Where

    @property
    def inspection(self) -> InspectionSpec:
        """Return what is scanned for; an Inspection has the same property."""
        return self.spec.inspection


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How often calls may happen."""

    metadata: Metadata
    spec: RateLimitSpec
    at: Where

    @property
    def policy(self) -> LimitPolicy:
        """Return what limits are compiled from."""
        return LimitPolicy(self.metadata.name, self.metadata.namespace, self.spec.limits, self.at)


@dataclass(frozen=True, slots=True)
class DestinationRule:
    """How the way to one destination is kept healthy."""

    metadata: Metadata
    spec: DestinationRuleSpec
    at: Where


@dataclass(frozen=True, slots=True)
class ServiceEntry:
    """A service that sidecar can send calls to."""

    metadata: Metadata
    spec: ServiceEntrySpec
    at: Where


Document: TypeAlias = (
    PeerAuthentication
    | RequestAuthentication
    | AuthorizationPolicy
    | Inspection
    | WasmPlugin
    | RateLimit
    | DestinationRule
    | ServiceEntry
)
