"""Documents to a Snapshot: the compiled, immutable configuration of one workload.

What several documents mean together is settled here, once: which of them are for
this workload, which mode each port has, what decides about calls, where they go.
A reload replaces one reference; an exchange pins one at its start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from ..errors import Where
from ..policy.authz import Mesh, RuleSet
from ..policy.decide import Policy, Scans
from ..policy.limit import RateLimits
from ..policy.origin import ANY, Origins, origins
from ..policy.path import Normalisation
from ..policy.spec import Action, PolicySpec
from ..policy.tokens.keys import KeyRing
from ..policy.tokens.rules import TokenRules
from ..upstream.cluster import ClusterSpec
from ..upstream.route import Routes, Way
from .bootstrap import Compat, DefaultAction, HostMode, Inbound, Outbound, Sidecar
from .clusters import NobodyNamed, cluster_of, merged, note_plaintext, note_upgrade
from .documents import (
    AuthorizationPolicy,
    DestinationRule,
    Direction,
    Document,
    Inspection,
    MtlsMode,
    PeerAuthentication,
    RateLimit,
    RequestAuthentication,
    Selector,
    ServiceEntry,
    VirtualService,
    WasmPlugin,
)
from .limits import Limits
from .problem import ConfigError, Notes, Place, Problem
from .routes import RouteCompiler, Ways
from .scans import ScanCompiler
from .selection import Workload, mtls_of
from .tokens import note_unverified, token_rules

_SELECTS_NOTHING: Final = "SC0901"
_NO_TARGET: Final = "SC0902"
_NOBODY: Final = "SC0907"
_SAME_ADDRESS: Final = "SC0705"
_NOWHERE: Final = Where("the bootstrap")  # of a bootstrap that was made, not read

_Selecting: TypeAlias = (
    AuthorizationPolicy
    | Inspection
    | WasmPlugin
    | PeerAuthentication
    | RateLimit
    | RequestAuthentication
)


@dataclass(frozen=True, slots=True)
class Locals:
    """The users whose processes may call; None is every one of this machine, () the sidecar's."""

    uids: tuple[int, ...] | None = ()


@dataclass(frozen=True, slots=True)
class Service:
    """One listener: what decides about its calls, and where they go.

    `local` says which processes of this machine may call; None is an inbound.
    """

    listen: str
    port: int
    policy: Policy
    cluster: str
    authority: bytes
    preserve_host: bool
    normalization: Normalisation
    mtls: MtlsMode
    body_bytes: int
    way: Way
    routes: Routes | None = None  # None: all calls go by `way`
    spread: bool = False  # calls may go to more than one address
    trusted_proxies: int = 0
    http2: bool = True
    h2c: bool = False
    local: Locals | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a reload replaces, as one value."""

    workload: Workload
    services: Mapping[str, Service]
    clusters: tuple[ClusterSpec, ...]
    limits: Limits
    policies: tuple[PolicySpec, ...]
    allow_empty: bool
    warnings: tuple[Problem, ...] = ()
    rate_limits: RateLimits | None = None  # of all inbounds together
    tokens: TokenRules | None = None  # likewise

    @property
    def key_rings(self) -> tuple[KeyRing, ...]:
        """The rings of keys that somebody must fetch."""
        return () if self.tokens is None else self.tokens.fetched

    @property
    def allow_policies(self) -> int:
        """How many policies let somebody in."""
        return sum(policy.action is Action.ALLOW and not policy.dry_run for policy in self.policies)


def compile_snapshot(bootstrap: Sidecar, documents: Iterable[Document]) -> Snapshot:
    """Return what *bootstrap* and *documents* mean together. Raises ConfigError with all problems.

    Files that documents name have been read: an inspection holds all its patterns.
    """
    return _Compiler(bootstrap, tuple(documents)).snapshot()


class _Compiler:
    def __init__(self, bootstrap: Sidecar, documents: tuple[Document, ...]) -> None:
        meta = bootstrap.metadata
        self._spec = bootstrap.spec
        self._notes = Notes()
        self._workload = Workload(meta.namespace, meta.labels, self._spec.root_namespace)
        self._peers = [d for d in documents if isinstance(d, PeerAuthentication)]
        rules = [d for d in documents if isinstance(d, DestinationRule)]
        self._rules = merged(rules, self._notes)
        self._entries = [d for d in documents if isinstance(d, ServiceEntry)]
        self._routes = RouteCompiler(
            [d for d in documents if isinstance(d, VirtualService)],
            self._entries,
            self._rules,
            self._spec.limits,
            self._notes,
        )
        self._policies = [
            d
            for d in documents
            if isinstance(d, AuthorizationPolicy) and self._is_ours(d, d.spec.selector)
        ]
        inspections = [
            d
            for d in documents
            if isinstance(d, Inspection | WasmPlugin) and self._is_ours(d, d.inspection.selector)
        ]
        self._scans = ScanCompiler(inspections, self._notes)
        limiting = [
            d.policy
            for d in documents
            if isinstance(d, RateLimit) and self._is_ours(d, d.spec.selector)
        ]
        own = self._spec
        mesh = Mesh(own.trust_domain, own.trust_domain_aliases, own.spaced_claims)
        self._rate_limits = RateLimits(limiting, mesh) if limiting else None
        self._tokens = token_rules(
            d.tokens
            for d in documents
            if isinstance(d, RequestAuthentication) and self._is_ours(d, d.spec.selector)
        )
        if self._tokens is None:
            asking = [document.policy for document in self._policies]
            note_unverified([*asking, *(one.as_rules for one in limiting)], self._notes)
        for peer in self._peers:
            if self._is_ours(peer, peer.spec.selector):
                self._check_level(peer)

    def snapshot(self) -> Snapshot:
        """Compile everything, or raise with everything that is wrong."""
        self._scans.check_patterns()
        requests, replies = map(self._scans.scans, (Direction.REQUEST, Direction.RESPONSE))
        services: dict[str, Service] = {}
        clusters: dict[str, ClusterSpec] = {}
        inbounds = [(inbound, None) for inbound in self._spec.inbound]
        for inbound, outbound in (*inbounds, *((_inward(x), x) for x in self._spec.outbound)):
            self._check_listen(inbound, services)
            cluster = self._cluster(inbound)
            if cluster is None:
                continue
            cluster = _told_apart(cluster, inbound, clusters)
            ways = self._routes.ways(inbound.to, cluster, _service_of(inbound))
            self._add(ways, clusters, inbound, meshed=outbound is not None)
            policy = self._policy(inbound, ways, requests, replies)
            service = self._service(inbound, cluster, policy, ways)
            if outbound is not None:
                service = self._outbound(outbound, service, requests, replies)
            services[service.listen] = service
        self._routes.note_unused()
        if self._notes.errors:
            raise ConfigError(self._notes.problems)
        return Snapshot(
            self._workload,
            services,
            tuple(clusters.values()),
            self._spec.limits,
            tuple(document.policy for document in self._policies),
            self._spec.allow_empty,
            self._notes.problems,
            self._rate_limits,
            self._tokens,
        )

    def _is_ours(
        self,
        document: _Selecting,
        selector: Selector,
    ) -> bool:
        """Whether *document* is for this workload; one that is not draws a warning."""
        ours = self._workload.selects(document.metadata, selector)
        if not ours:
            labels = ", ".join(f"{k}={v}" for k, v in self._workload.labels.items()) or "none"
            self._notes.warning(
                _SELECTS_NOTHING,
                f"`{document.metadata.name}` is not for this workload and has no effect here",
                Place(document.at),
                why=f"this workload is in namespace `{self._workload.namespace}` "
                f"and its labels are: {labels}",
                help="check the namespace and `selector.matchLabels` for a typing mistake",
            )
        return ours

    def _check_level(self, peer: PeerAuthentication) -> None:
        """Note a policy that `mtls_of` passes over although its labels are ours."""
        root = self._workload.root_namespace
        if peer.metadata.namespace == root and peer.spec.selector.match_labels:
            self._notes.warning(
                _SELECTS_NOTHING,
                f"`{peer.metadata.name}` has a selector in the root namespace and has no effect",
                Place(peer.at),
                why=f"a PeerAuthentication of `{root}` is for the whole mesh, as in Istio",
                help="remove the selector, or write it in the workload's own namespace",
            )

    # -- one listener

    def _check_listen(self, inbound: Inbound, services: Mapping[str, Service]) -> None:
        """Note a second listener on one address: it would take the first one's place."""
        if str(inbound.listen) in services:
            self._notes.error(
                _SAME_ADDRESS,
                f"a second listener is on {inbound.listen}",
                Place(inbound.at or _NOWHERE),
                why="a listener goes by the address that is written, and this one is taken",
                help="give it a port of its own",
            )

    def _cluster(self, inbound: Inbound) -> ClusterSpec | None:
        service = _service_of(inbound)
        try:
            return cluster_of(
                inbound.to,
                service,
                self._entries,
                self._rules,
                self._spec.limits,
                h2c=inbound.h2c,
            )
        except ValueError as error:
            place = Place(inbound.at) if inbound.at is not None else None
            if place is None:
                raise
            code = _NOBODY if isinstance(error, NobodyNamed) else _NO_TARGET
            self._notes.error(code, str(error), place)
            return None

    def _add(
        self, ways: Ways, clusters: dict[str, ClusterSpec], inbound: Inbound, *, meshed: bool
    ) -> None:
        """Add the clusters of *ways*; one name must not stand for two."""
        unsaid = [] if inbound.to.address else ways.clusters  # else noted where it is written
        note_upgrade(ways.clusters, Place(inbound.at or _NOWHERE), self._notes)
        note_plaintext(unsaid, Place(inbound.at or _NOWHERE), self._notes, meshed=meshed)
        for cluster in ways.clusters:
            if clusters.setdefault(cluster.name, cluster) != cluster:
                self._notes.error(
                    _NO_TARGET,
                    f"`{cluster.name}` is two things: an inbound's service, and a route's host",
                    Place(inbound.at or _NOWHERE),
                    help="give the inbound another `service`",
                )

    def _outbound(
        self, outbound: Outbound, made: Service, requests: Scans, replies: Scans
    ) -> Service:
        """Return the service *made* of an inbound as processes of this machine call it.

        Who may connect may call, and is asked for no certificate.
        """
        policy = Policy(
            RuleSet((), Mesh(self._spec.trust_domain), Action.ALLOW),
            requests=requests,
            replies=replies,
            max_depth=self._spec.limits.json_depth,
            origins=origins((), outbound.listen.ip),
            counts_messages=made.routes is not None and made.routes.uses_mcp,
        )
        local = Locals(None if outbound.any_process else outbound.allow_uids)
        return replace(
            made, policy=policy, mtls=MtlsMode.DISABLE, trusted_proxies=0, http2=False, local=local
        )

    def _service(
        self, inbound: Inbound, cluster: ClusterSpec, policy: Policy, ways: Ways
    ) -> Service:
        port = inbound.listen.port
        mode, ports = mtls_of(self._workload, self._peers, self._spec.mtls)
        return Service(
            listen=str(inbound.listen),
            port=port,
            policy=policy,
            cluster=cluster.name,
            authority=inbound.to.authority.encode("ascii"),
            preserve_host=inbound.host is HostMode.PRESERVE,
            normalization=self._spec.path_normalization,
            mtls=ports.get(port, mode),
            body_bytes=self._scans.body_bytes(self._spec.limits.request_body_bytes),
            way=ways.straight,
            routes=ways.routes,
            spread=ways.spread,
            trusted_proxies=self._spec.trusted_proxies,
            http2=inbound.http2,
            h2c=inbound.h2c,
        )

    def _policy(self, inbound: Inbound, ways: Ways, requests: Scans, replies: Scans) -> Policy:
        spec = self._spec
        counts = self._rate_limits is not None and self._rate_limits.uses_mcp
        rules = RuleSet(
            [document.policy for document in self._policies],
            Mesh(spec.trust_domain, spec.trust_domain_aliases, spec.spaced_claims),
            Action.ALLOW if spec.default_action is DefaultAction.ALLOW else Action.DENY,
        )
        return Policy(
            rules,
            requests=requests,
            replies=replies,
            plain_paths=frozenset(inbound.plain_paths),
            max_depth=spec.limits.json_depth,
            origins=self._origins(inbound),
            tokens=self._tokens,
            # A route that asks for a tool must know it of every call, as a limit must.
            counts_messages=counts or (ways.routes is not None and ways.routes.uses_mcp),
        )

    def _origins(self, inbound: Inbound) -> Origins:
        """Which pages may call; Istio asks none where the file says nothing."""
        open_ = self._spec.compat is Compat.ISTIO and not inbound.allowed_origins
        return origins([ANY] if open_ else inbound.allowed_origins, inbound.listen.ip)


def _inward(outbound: Outbound) -> Inbound:
    """Return the inbound that *outbound* is but for who may call, and how."""
    return Inbound(outbound.listen, outbound.to, at=outbound.at)


def _service_of(inbound: Inbound) -> str:
    """Return the name by which rules and routes know where *inbound* leads."""
    return inbound.service or inbound.to.host or "localhost"


def _told_apart(
    cluster: ClusterSpec, inbound: Inbound, others: Mapping[str, ClusterSpec]
) -> ClusterSpec:
    """Return *cluster* under a name that no different one of *others* has.

    Two servers may go by one service's name, such as the address of this machine.
    Of one service, what is written as `to` decides everything that a cluster is.
    """
    if others.get(cluster.name, cluster) == cluster:
        return cluster
    return replace(cluster, name=f"{cluster.name}|{inbound.to}")


def callers(snapshot: Snapshot) -> tuple[str, ...]:
    """Return, for a person, who may call by the ALLOW policies' words."""
    found: dict[str, None] = {}
    for policy in snapshot.policies:
        if policy.action is not Action.ALLOW or policy.dry_run:
            continue
        for rule in policy.rules:
            if not rule.sources:
                found["anyone with an identity of this mesh"] = None
            for source in rule.sources:
                for name in source.principals + source.service_accounts:
                    found[name] = None
                for namespace in source.namespaces:
                    found[f"namespace {namespace}"] = None
                if not source.principals + source.service_accounts + source.namespaces:
                    found["others, by rule"] = None
    return tuple(found)
