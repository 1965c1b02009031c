"""One rule, compiled: what must hold of the peer, of the call, and of either's sum.

What is unsound in a spec goes against the caller, as in Istio: an ALLOW rule with
an unsound part is refused whole, a DENY or AUDIT rule is read without that part,
so that it gets wider. The same for what only HTTP has, where bytes are not HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from . import attributes
from .attributes import Attribute, Kind, Mesh, OfCall
from .call import Peer
from .facts import Facts
from .match import Paths, Strings, lowered
from .spec import Action, ConditionSpec, OperationSpec, PolicySpec, RuleSpec, SourceSpec
from .uri import settled_values
from .verdict import Decision, RuleRef

Subject = TypeVar("Subject")


@dataclass(frozen=True, slots=True)
class Question(Generic[Subject]):
    """One field of a rule: `holds` answers, the rest tells a person what was asked."""

    field: str
    asked: tuple[str, ...]
    negated: bool
    attribute: Attribute[Subject]
    holds: Callable[[Subject], bool]


@dataclass(frozen=True, slots=True)
class Source:
    """One source: what must hold of the connection, and what of each call on it."""

    peer: tuple[Question[Peer], ...] = ()
    call: tuple[Question[Facts], ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    `key` is a fact, and patterns one of which must hold for it if the operation is to
    match. `session` is what the session's own traffic may match instead, if anything.
    """

    questions: tuple[Question[Facts], ...] = ()
    key: tuple[str, Strings] | None = None
    session: Operation | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: one source, one operation and every condition must hold."""

    ref: RuleRef
    action: Action
    decision: Decision
    sources: tuple[Source, ...]
    operations: tuple[Operation, ...]
    peer_conditions: tuple[Question[Peer], ...]
    conditions: tuple[Question[Facts], ...]


def compile_rule(
    spec: RuleSpec, policy: PolicySpec, index: int, mesh: Mesh, *, tcp: bool = False
) -> Rule:
    """Compile rule number *index* of *policy*, for bytes that are not HTTP if *tcp*.

    Raises ValueError if it is an ALLOW rule that has to be left out.
    """
    compiler = _Compiler(mesh, policy.namespace, policy.action is Action.ALLOW, tcp)
    peer_conditions: list[Question[Peer]] = []
    conditions: list[Question[Facts]] = []
    for condition in spec.conditions:
        compiler.condition(condition, peer_conditions, conditions)
    ref = RuleRef(f"{policy.namespace}/{policy.name}", index, policy.rules[index].at or policy.at)
    return Rule(
        ref,
        policy.action,
        Decision(policy.action is Action.ALLOW, ref),
        tuple(map(compiler.source, spec.sources)) or (Source(),),
        tuple(map(compiler.operation, spec.operations)) or (Operation(),),
        tuple(peer_conditions),
        tuple(conditions),
    )


@dataclass(frozen=True, slots=True)
class _Compiler:
    """Makes questions; `strict` (an ALLOW) raises where others leave out."""

    mesh: Mesh
    namespace: str
    strict: bool
    tcp: bool

    def questions(
        self,
        attribute: Attribute[Subject],
        field: str,
        values: tuple[str, ...],
        not_values: tuple[str, ...],
    ) -> list[Question[Subject]]:
        """Make the positive and the negative question of one field, as far as it is written."""
        found = []
        for asked, negated in ((values, False), (not_values, True)):
            sound = self.sound(attribute, asked)
            if sound:
                holds = attribute.make(sound, negated, not self.strict)
                found.append(Question(field, sound, negated, attribute, holds))
        return found

    def sound(self, attribute: Attribute[Subject], values: tuple[str, ...]) -> tuple[str, ...]:
        """Return those *values* that can be asked here; in a strict rule, all must be."""
        if not values:
            return ()
        if self.tcp and attribute.http:
            if self.strict:
                raise ValueError(f"`{attribute.name}` is something only HTTP has")
            return ()
        if self.strict:
            return values
        return tuple(value for value in values if attribute.accepts(value))

    def source(self, spec: SourceSpec) -> Source:
        """Compile one source."""
        made = self.questions
        account = attributes.service_account(self.namespace)
        principal = attributes.source_principal(self.mesh)
        domain = attributes.trust_domain(self.mesh)
        request = attributes.REQUEST_PRINCIPAL
        remote = attributes.REMOTE_IP
        return Source(
            (
                *made(principal, "principals", spec.principals, spec.not_principals),
                *made(account, "serviceAccounts", spec.service_accounts, spec.not_service_accounts),
                *made(attributes.NAMESPACE, "namespaces", spec.namespaces, spec.not_namespaces),
                *made(domain, "trustDomains", spec.trust_domains, spec.not_trust_domains),
                *made(attributes.SOURCE_IP, "ipBlocks", spec.ip_blocks, spec.not_ip_blocks),
            ),
            (
                *made(
                    request,
                    "requestPrincipals",
                    spec.request_principals,
                    spec.not_request_principals,
                ),
                *made(remote, "remoteIpBlocks", spec.remote_ip_blocks, spec.not_remote_ip_blocks),
            ),
        )

    def operation(self, spec: OperationSpec) -> Operation:
        """Compile one operation."""
        made = self.questions
        place = (
            *made(attributes.PATH, "paths", spec.paths, spec.not_paths),
            *made(attributes.HOST, "hosts", spec.hosts, spec.not_hosts),
            *made(attributes.PORT, "ports", spec.ports, spec.not_ports),
        )
        questions = (
            *made(attributes.TOOL, "tools", spec.tools, spec.not_tools),
            *made(attributes.PROMPT, "prompts", spec.prompts, spec.not_prompts),
            *made(attributes.RESOURCE, "resources", spec.resources, spec.not_resources),
            *made(attributes.MCP_METHOD, "mcpMethods", spec.mcp_methods, spec.not_mcp_methods),
            *place,
            *made(attributes.METHOD, "methods", spec.methods, spec.not_methods),
        )
        key = self.key(
            ("tool", attributes.TOOL, spec.tools),
            ("prompt", attributes.PROMPT, spec.prompts),
            ("resource", attributes.RESOURCE, settled_values(spec.resources)),
            ("mcp_method", attributes.MCP_METHOD, spec.mcp_methods),
            ("path", attributes.PATH, spec.paths),
            ("host", attributes.HOST, lowered(spec.hosts)),
            ("method", attributes.METHOD, spec.methods),
        )
        return Operation(questions, key, self.session(spec, place))

    def session(self, spec: OperationSpec, place: tuple[Question[Facts], ...]) -> Operation | None:
        """Return what an ALLOW asks of the session's own traffic, if it admits it at all.

        Who may call a tool must be able to open a session, so what names tools also
        matches that, at the same place, unless MCP's methods are named too. What is
        excluded in so many words stays excluded.
        """
        named = spec.tools or spec.resources or spec.prompts
        if not self.strict or not named or spec.mcp_methods:
            return None
        questions = (
            *place,
            *self.questions(attributes.METHOD, "methods", (), spec.not_methods),
            *self.questions(attributes.MCP_METHOD, "mcpMethods", (), spec.not_mcp_methods),
        )
        return Operation(questions, self.key(("path", attributes.PATH, spec.paths)))

    def key(self, *fields: tuple[str, OfCall, tuple[str, ...]]) -> tuple[str, Strings] | None:
        """Choose what to look an operation up by: the first of *fields* that is no `*`."""
        for fact, attribute, values in fields:
            sound = self.sound(attribute, values)
            if not sound:
                continue
            patterns = Paths.of(sound).covered if fact == "path" else Strings.of(sound)
            if not patterns.present:
                return fact, patterns
        return None

    def condition(
        self, spec: ConditionSpec, peer: list[Question[Peer]], call: list[Question[Facts]]
    ) -> None:
        """Compile one condition into questions to the *peer* or about the *call*."""
        of_peer = attributes.of_peer(spec.key, self.mesh, self.namespace)
        if of_peer is not None:
            peer += self.questions(of_peer, spec.key, spec.values, spec.not_values)
            return
        try:
            of_call = attributes.of_call(spec.key, self.mesh)
        except ValueError:
            if self.strict:
                raise
            return
        call += self.questions(of_call, spec.key, spec.values, spec.not_values)


def names_target(question: Question[Facts]) -> bool:
    """Whether *question* asks what is called, or with which arguments."""
    return question.attribute.kind in (Kind.SUBJECT, Kind.ARGUMENT)
