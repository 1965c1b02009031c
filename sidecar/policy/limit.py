"""How often a call may happen: which limits it counts for, and whether each has a token.

Asked once a rule has allowed the call, so that nobody who is denied draws from
another's bucket. A limit matches as a rule of a DENY policy does: what cannot be
determined counts. The limiter outlives snapshots and is told the time; it counts
for this sidecar alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import blake2b
from math import ceil, inf
from operator import attrgetter
from typing import Final, TypeAlias

from ..errors import Where
from .attributes import Mesh
from .authz import asks_mcp, each_target
from .bucket import Key, Limit, Rate, Table
from .call import Call
from .facts import Facts
from .plan import Standings
from .rule import compile_rule
from .spec import Action, OperationSpec, PolicySpec, RuleSpec, SourceSpec
from .verdict import Permit, Reason, Refusal, RuleRef, Verdict

# What a call is told apart by: empty where it has none, None where that cannot be told.
Part: TypeAlias = Callable[[Facts], str | None]

MOST_BUCKETS: Final = 10_000
ANY_SOURCE: Final = SourceSpec()
ANY_OPERATION: Final = OperationSpec()
_LONGEST: Final = 64  # characters of a value that a key holds; of a longer one, its digest
_SEVERAL: Final = "\0"  # in place of a resource, where a call names several: no URI holds it


class Per(StrEnum):
    """What the calls of one limit may be told apart by."""

    PRINCIPAL = "principal"
    NAMESPACE = "namespace"
    TRUST_DOMAIN = "trustDomain"
    REQUEST_PRINCIPAL = "requestPrincipal"
    SOURCE_IP = "sourceIp"
    REMOTE_IP = "remoteIp"
    HOST = "host"
    PORT = "port"
    METHOD = "method"
    PATH = "path"
    MCP_METHOD = "mcpMethod"
    TOOL = "tool"
    RESOURCE = "resource"
    PROMPT = "prompt"


_OF_MCP: Final = frozenset({Per.MCP_METHOD, Per.TOOL, Per.RESOURCE, Per.PROMPT})


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """One limit: how many of which calls, told apart by what; *burst* 0 is the rate's count."""

    rate: Rate
    burst: int = 0
    source: SourceSpec = ANY_SOURCE
    operation: OperationSpec = ANY_OPERATION
    per: tuple[Per, ...] = ()
    at: Where | None = field(default=None, compare=False, repr=False)

    @property
    def rule(self) -> RuleSpec:
        """Return the same as a rule."""
        return RuleSpec(
            (self.source,) if self.source != ANY_SOURCE else (),
            (self.operation,) if self.operation != ANY_OPERATION else (),
            at=self.at,
        )


@dataclass(frozen=True, slots=True)
class LimitPolicy:
    """One document's limits, all of which count."""

    name: str
    namespace: str
    limits: tuple[LimitSpec, ...]
    at: Where | None = None

    @property
    def as_rules(self) -> PolicySpec:
        """Return the same as rules of a DENY: what cannot be determined matches."""
        rules = tuple(one.rule for one in self.limits)
        return PolicySpec(self.name, self.namespace, Action.DENY, rules, self.at)


@dataclass(frozen=True, slots=True, eq=False)
class _Counted:
    """One limit, compiled: its calls have a bucket for each value of *parts*."""

    limit: Limit
    ref: RuleRef
    parts: tuple[Part, ...]

    def key(self, facts: Facts) -> Key:
        return (self.limit.id, *[_bounded(part(facts)) for part in self.parts])


class RateLimits:
    """The limits of one workload, compiled; they never change and hold no bucket.

    `uses_mcp`: one of them asks about MCP, so every body must be a message, as for a rule.
    """

    __slots__ = ("_counted", "_standings", "uses_mcp")

    def __init__(self, policies: Sequence[LimitPolicy], mesh: Mesh) -> None:
        rules = []
        counted = []
        self.uses_mcp = any(not _OF_MCP.isdisjoint(o.per) for p in policies for o in p.limits)
        for policy in policies:
            as_rules = policy.as_rules
            self.uses_mcp = self.uses_mcp or asks_mcp(as_rules)
            for index, spec in enumerate(policy.limits):
                rule = compile_rule(as_rules.rules[index], as_rules, index, mesh)
                rules.append(rule)
                counted.append(_counted(spec, rule.ref))
        self._counted = tuple(counted)
        self._standings = Standings(rules)

    def __iter__(self) -> Iterator[Limit]:
        return (one.limit for one in self._counted)

    @property
    def names(self) -> frozenset[str]:
        """The limits as refusals name them."""
        return frozenset(str(one.ref) for one in self._counted)

    def drawn(self, call: Call) -> list[tuple[_Counted, Key]]:
        """Return each limit that *call*, which is one message, counts for, once, and the key of
        its bucket."""
        plan = self._standings.of(call.peer).deny
        facts, found = None, {}
        for facts in each_target(call):
            for clause in plan.matching(facts):
                found[clause.order] = self._counted[clause.order]
        if facts is None or not found:
            return []
        if call.message is not None and len(call.message.targets) > 1:
            facts.resource = _SEVERAL
        return [(one, one.key(facts)) for one in found.values()]


class Limiter:
    """The buckets of a running sidecar; `refused` counts what each limit refused."""

    __slots__ = ("_table", "refused")

    def __init__(self, most: int = MOST_BUCKETS) -> None:
        self._table = Table(most)
        self.refused: dict[str, int] = {}

    @property
    def buckets(self) -> int:
        """How many buckets there are."""
        return len(self._table)

    @property
    def sharing(self) -> int:
        """How many calls shared a bucket so far, because there were too many."""
        return self._table.sharing

    def keep(self, limits: RateLimits | None, most: int) -> None:
        """Go on with *limits*: those that are as they were keep their buckets.

        *most* is how many buckets there may be from now on; none that is in use is lost.
        """
        self._table.most = most
        self._table.keep(frozenset(one.id for one in limits or ()))
        names: frozenset[str] = frozenset() if limits is None else limits.names
        self.refused = {name: self.refused.get(name, 0) for name in sorted(names)}

    def admit(self, call: Call, permit: Permit, limits: RateLimits, now: float) -> Verdict:
        """Return *permit* if every limit has a token for *call*, which is then taken.

        Else a refusal, and no token is taken. The messages of a batch count one by one.
        *now* is monotonic, in seconds.
        """
        if call.batch:
            calls = (replace(call, message=one, batch=()) for one in call.batch)
            drawn = Counter(draw for one in calls for draw in limits.drawn(one))
        else:
            drawn = Counter(limits.drawn(call))
        draws = [(one.limit, key, count) for (one, key), count in drawn.items()]
        short = self._table.take(draws, now)
        if short is None:
            return permit
        index, wait = short
        counted = list(drawn)[index][0]
        name = str(counted.ref)
        self.refused[name] = self.refused.get(name, 0) + 1
        return _refusal(counted, wait)


def _refusal(counted: _Counted, wait: float) -> Refusal:
    limit = counted.limit
    said = f"{limit.rate}, burst {limit.burst}"
    if wait == inf:
        return Refusal(
            Reason.RATE_LIMITED,
            f"too many calls at once: at most {limit.burst} may come together",
            rule=counted.ref,
            detail=f"{said}, never has so many tokens",
        )
    seconds = max(1, ceil(wait))
    return Refusal(
        Reason.RATE_LIMITED,
        f"too many calls: try again in {seconds} s",
        rule=counted.ref,
        detail=f"{said}, has room in {wait:.3f} s",
        headers=(b"retry-after: %d\r\n" % seconds,),
        retry_after=seconds,
    )


def _counted(spec: LimitSpec, ref: RuleRef) -> _Counted:
    # The name and all that is written: a limit that says something else is another one.
    limit = Limit(f"{ref} {spec!r}", spec.rate, spec.burst or spec.rate.count)
    return _Counted(limit, ref, tuple(_PARTS[per] for per in spec.per))


def _bounded(value: str | None) -> str | bytes | None:
    """Return *value*, or its digest if it is long: a caller chooses how long some are."""
    if value is None or len(value) <= _LONGEST:
        return value
    return blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _namespace(facts: Facts) -> str:
    identity = facts.call.peer.identity
    return "" if identity is None else identity.namespace or ""


def _trust_domain(facts: Facts) -> str:
    identity = facts.call.peer.identity
    return "" if identity is None else identity.trust_domain


def _request_principal(facts: Facts) -> str:
    claims = facts.call.claims or {}
    issuer, subject = claims.get("iss"), claims.get("sub")
    return f"{issuer}/{subject}" if type(issuer) is str and type(subject) is str else ""


_PARTS: Final[dict[Per, Part]] = {
    Per.PRINCIPAL: attrgetter("call.peer.principal"),
    Per.NAMESPACE: _namespace,
    Per.TRUST_DOMAIN: _trust_domain,
    Per.REQUEST_PRINCIPAL: _request_principal,
    Per.SOURCE_IP: attrgetter("call.peer.ip"),
    Per.REMOTE_IP: lambda facts: facts.call.remote_ip or facts.call.peer.ip,
    Per.HOST: attrgetter("host"),
    Per.PORT: lambda facts: str(facts.call.port),
    Per.METHOD: attrgetter("method"),
    Per.PATH: attrgetter("path"),
    Per.MCP_METHOD: attrgetter("mcp_method"),
    Per.TOOL: attrgetter("tool"),
    Per.RESOURCE: attrgetter("resource"),
    Per.PROMPT: attrgetter("prompt"),
}
