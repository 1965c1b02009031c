"""The rules of one workload: deny, then allow, else no.

A `RuleSet` is compiled from policies and never changes. It holds Istio's order and
Istio's meaning to the letter; what MCP adds is only ever asked by rules that name
it. Nothing here reads documents, does I/O or knows what a refusal looks like.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from .attributes import Mesh
from .call import Call
from .explain import Explanation, explain
from .facts import Facts, facts_of
from .listing import PROMPTS, RESOURCES, TOOLS, Listing, Subject, View
from .plan import Standing, Standings
from .rule import Rule, compile_rule
from .spec import Action, OperationSpec, PolicySpec, RuleSpec
from .uri import settled_uri
from .verdict import Decision, RuleRef

__all__ = ["Decision", "Explanation", "Mesh", "RuleSet"]

_ALLOWED: Final = Decision(True)
_NOT_ALLOWED: Final = Decision(False)
_MAX_LISTINGS: Final = 256


class RuleSet:
    """All policies of a workload, compiled.

    *default* says what becomes of a call where no ALLOW policy is in force: DENY is
    ours, ALLOW is Istio's. Policies of a dry run and AUDIT policies decide nothing.
    `uses_mcp`: a rule in force asks about MCP, so every body must be a message;
    `reads_mcp`: some rule at all does. `watches`: `audit` or `shadow` may have something
    to say. `problems`: ALLOW rules that were left out.
    """

    __slots__ = (
        "_default",
        "_http",
        "_listings",
        "_mesh",
        "_policies",
        "_shadow",
        "_tcp",
        "problems",
        "reads_mcp",
        "uses_mcp",
        "watches",
    )

    def __init__(
        self,
        policies: Sequence[PolicySpec],
        mesh: Mesh = Mesh(),  # noqa: B008 - frozen
        default: Action = Action.DENY,
    ) -> None:
        self._mesh = mesh
        self._default = _ALLOWED if default is Action.ALLOW else _NOT_ALLOWED
        self._policies = [policy for policy in policies if not policy.dry_run]
        self._http = _compiled(self._policies, mesh, tcp=False)
        self.problems = self._http.problems
        self._tcp: _Rules | None = None
        self._listings: dict[tuple[Standing, Subject], Listing] = {}
        self.reads_mcp = any(map(asks_mcp, policies))
        self.uses_mcp = any(
            asks_mcp(policy) for policy in self._policies if policy.action is not Action.AUDIT
        )
        self._shadow: RuleSet | None = None
        if len(self._policies) < len(policies):
            enforced = [replace(policy, dry_run=False) for policy in policies]
            self._shadow = RuleSet(enforced, mesh, default)
        self.watches = self._shadow is not None or self._http.audits

    def judge(self, call: Call) -> Decision:
        """Say whether *call* is allowed, and which rule says so.

        A subscription to several resources is allowed if each one is.
        """
        rules = self._rules(call) if call.is_tcp else self._http
        standing = rules.standings.of(call.peer)
        message, known = call.message, standing.decisions
        if message is None or not message.targets:
            if message is None or message.tool is None or known is None or call.method != "POST":
                return self._judge(rules, standing, facts_of(call))
            named = (call.path, call.host, call.port, message.method, message.tool)
            decision = known.get(named)
            if decision is None:
                decision = self._judge(rules, standing, facts_of(call))
                standing.remember(named, decision)
            return decision
        decision = _NOT_ALLOWED
        for facts in each_target(call):
            decision = self._judge(rules, standing, facts)
            if not decision.allowed:
                break
        return decision

    def _judge(self, rules: _Rules, standing: Standing, facts: Facts) -> Decision:
        clause = standing.deny.first(facts)
        if clause is not None:
            return clause.rule.decision
        if not rules.closed:
            return self._default
        clause = standing.allow.first(facts)
        return _NOT_ALLOWED if clause is None else clause.rule.decision

    def shadow(self, call: Call) -> Decision | None:
        """Say what `judge` would, were the dry-run policies in force; None if there are none."""
        return None if self._shadow is None else self._shadow.judge(call)

    def audit(self, call: Call) -> tuple[RuleRef, ...]:
        """Return the AUDIT rules that *call* matches, in their order."""
        rules = self._rules(call)
        if not rules.audits:
            return ()
        plan = rules.standings.of(call.peer).audit
        found = (one.rule.ref for facts in each_target(call) for one in plan.matching(facts))
        return tuple(dict.fromkeys(found))

    def explain(self, call: Call) -> Explanation:
        """Say which ALLOW rule came nearest to a call that none allowed, and what it lacked."""
        rules = self._rules(call)
        standing = rules.standings.of(call.peer)
        decision, facts = _NOT_ALLOWED, facts_of(call)
        for facts in each_target(call):
            decision = self._judge(rules, standing, facts)
            if not decision.allowed:
                break
        return explain(decision, rules.rules, facts)

    def visible_tools(self, call: Call) -> View | None:
        """Return what says which tools may be listed to the caller; None if all may."""
        return self._visible(call, TOOLS)

    def visible_prompts(self, call: Call) -> View | None:
        """Return what says which prompts may be listed to the caller; None if all may."""
        return self._visible(call, PROMPTS)

    def visible_resources(self, call: Call) -> View | None:
        """Return what says which resources may be listed to the caller; None if all may."""
        return self._visible(call, RESOURCES)

    def _visible(self, call: Call, subject: Subject) -> View | None:
        if not self.uses_mcp:
            return None
        standing = self._http.standings.of(call.peer)
        listing = self._listings.get((standing, subject))
        if listing is None:
            if len(self._listings) >= _MAX_LISTINGS:
                del self._listings[next(iter(self._listings))]
            open_ = self._default.allowed and not self._http.closed
            listing = self._listings[standing, subject] = Listing(standing, subject, open=open_)
        view = listing.view(call)
        return None if view.hides_nothing else view

    def _rules(self, call: Call) -> _Rules:
        if not call.is_tcp:
            return self._http
        if self._tcp is None:
            self._tcp = _compiled(self._policies, self._mesh, tcp=True)
        return self._tcp


@dataclass(frozen=True, slots=True, eq=False)
class _Rules:
    """Compiled rules; `closed` if an ALLOW policy is in force, though it be empty."""

    rules: tuple[Rule, ...]
    standings: Standings
    closed: bool
    audits: bool
    problems: tuple[str, ...]


def _compiled(policies: Sequence[PolicySpec], mesh: Mesh, *, tcp: bool) -> _Rules:
    rules: list[Rule] = []
    problems: list[str] = []
    for policy in policies:
        for index, spec in enumerate(policy.rules):
            try:
                rules.append(compile_rule(spec, policy, index, mesh, tcp=tcp))
            except ValueError as error:
                problems.append(f"`{policy.namespace}/{policy.name}` rule {index}: {error}")
    return _Rules(
        tuple(rules),
        Standings(rules),
        any(policy.action is Action.ALLOW for policy in policies),
        any(rule.action is Action.AUDIT for rule in rules),
        tuple(problems),
    )


def each_target(call: Call) -> Iterator[Facts]:
    """Yield the facts of *call*, once for each resource it names."""
    facts = facts_of(call)
    targets = () if call.message is None else call.message.targets
    if not targets:
        yield facts
    for target in targets:
        facts.resource = settled_uri(target)
        yield facts


def asks_mcp(policy: PolicySpec) -> bool:
    """Whether a rule of *policy* asks about MCP."""
    return any(_rule_asks_mcp(rule) for rule in policy.rules)


def _rule_asks_mcp(rule: RuleSpec) -> bool:
    return any(one.key.startswith("mcp.") for one in rule.conditions) or any(
        map(_operation_asks_mcp, rule.operations)
    )


def _operation_asks_mcp(spec: OperationSpec) -> bool:
    named = (spec.mcp_methods, spec.tools, spec.resources, spec.prompts)
    excluded = (spec.not_mcp_methods, spec.not_tools, spec.not_resources, spec.not_prompts)
    return any(named) or any(excluded)
