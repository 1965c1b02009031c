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
from .traffic_specs import DestinationRuleSpec, ServiceEntrySpec, VirtualServiceSpec

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


@dataclass(frozen=True, slots=True)
class VirtualService:
    """Which calls go where, and what happens to them on the way."""

    metadata: Metadata
    spec: VirtualServiceSpec
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
    | VirtualService
)
