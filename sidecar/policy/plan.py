"""The rules that can concern one connection, laid out so that a call meets few of them.

A peer's identity and address never change, so what rules ask of it is answered
once; peers whom the rules see alike share one answer. What is left is indexed by
what a call names: the cost of a call grows with the rules that match it, not with
the rules there are. Nothing here decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, TypeAlias

from . import attributes
from .call import Peer
from .facts import Facts
from .match import Strings
from .rule import Operation, Question, Rule, Source, names_target
from .spec import Action
from .verdict import Decision

Holds: TypeAlias = tuple[Callable[[Facts], bool], ...]
Clauses: TypeAlias = tuple["Clause", ...]
# A call of a tool as far as it has names: path, host, port, MCP's method, and the tool.
Named: TypeAlias = tuple[str, str, int, str, str]

_MAX_STANDINGS: Final = 4096
_MAX_SHARED: Final = 256
_MAX_DECISIONS: Final = 256  # of one standing that are remembered
_LONGEST: Final = 512  # characters of what they are about
_ORDER: Final = attrgetter("order")


@dataclass(frozen=True, slots=True, eq=False)
class Clause:
    """One rule with one of its operations, for peers whom its sources let through.

    `holds` is all that must hold of a call: the answers to `questions`, and `varying`,
    what sources ask of each call, None where one of them asks nothing.
    """

    order: int
    rule: Rule
    operation: Operation
    questions: tuple[Question[Facts], ...]
    varying: Callable[[Facts], bool] | None
    holds: Holds


class Index:
    """Clauses by patterns, found by a text that one of the patterns holds for."""

    __slots__ = ("_exact", "_prefixes", "_suffixes", "all")

    def __init__(self, entries: Sequence[tuple[Strings, Clause]]) -> None:
        self.all = tuple(clause for _, clause in entries)
        self._exact = _gathered(
            (text, clause) for patterns, clause in entries for text in patterns.exact
        )
        self._prefixes = _by_length(
            (text, clause) for patterns, clause in entries for text in patterns.prefixes
        )
        self._suffixes = _by_length(
            (text, clause) for patterns, clause in entries for text in patterns.suffixes
        )

    def find(self, text: str) -> Clauses:
        """Return every clause one of whose patterns holds for *text*, in their order."""
        found = self._exact.get(text, ())
        for length, clauses in self._prefixes:
            found = _joined(found, clauses.get(text[:length], ()))
        for length, clauses in self._suffixes:
            found = _joined(found, clauses.get(text[-length:], ()))
        return found


def _joined(left: Clauses, right: Clauses) -> Clauses:
    """Return the clauses of both, each once, in the order in which they were written."""
    if not right:
        return left
    if not left:
        return right
    return tuple(sorted({*left, *right}, key=_ORDER))


def _gathered(pairs: Iterable[tuple[str, Clause]]) -> dict[str, Clauses]:
    found: dict[str, list[Clause]] = {}
    for text, clause in pairs:
        found.setdefault(text, []).append(clause)
    return {text: tuple(clauses) for text, clauses in found.items()}


def _by_length(
    pairs: Iterable[tuple[str, Clause]],
) -> tuple[tuple[int, dict[str, Clauses]], ...]:
    """Group clauses by their pattern's length, so that one look-up serves all of a length."""
    lengths: dict[int, list[tuple[str, Clause]]] = {}
    for text, clause in pairs:
        lengths.setdefault(len(text), []).append((text, clause))
    return tuple((length, _gathered(found)) for length, found in lengths.items())


class Plan:
    """The clauses of one action for one kind of peer.

    Where a fact cannot be determined, every clause that is indexed by it is met if
    *unknown*, and none if not.
    """

    __slots__ = ("_any", "_indexes", "_rest", "_session", "_unknown")

    def __init__(self, clauses: Sequence[Clause], *, unknown: bool) -> None:
        self._unknown = unknown
        self._rest = tuple(clause for clause in clauses if clause.operation.key is None)
        keyed: dict[str, list[tuple[Strings, Clause]]] = {}
        for clause in clauses:
            if clause.operation.key is not None:
                fact, patterns = clause.operation.key
                keyed.setdefault(fact, []).append((patterns, clause))
        self._indexes: tuple[tuple[Callable[[Facts], str | None], Index], ...] = tuple(
            (attrgetter(fact), Index(entries)) for fact, entries in keyed.items()
        )
        session = [
            _for_session(clause, clause.operation.session)
            for clause in clauses
            if clause.operation.session is not None
        ]
        self._session = Plan(session, unknown=False) if session else None
        self._any = bool(clauses)

    def matching(self, facts: Facts) -> Iterator[Clause]:
        """Yield each clause that holds, in the order in which the rules were written."""
        for clause in self._met(facts):
            for holds in clause.holds:
                if not holds(facts):
                    break
            else:
                yield clause

    def first(self, facts: Facts) -> Clause | None:
        """Return the first clause that holds, or None."""
        for clause in self._met(facts) if self._any else ():
            for holds in clause.holds:
                if not holds(facts):
                    break
            else:
                return clause
        return None

    def _met(self, facts: Facts) -> Clauses:
        """Return the clauses that may hold, in their order."""
        met = self._rest
        for read, index in self._indexes:
            text = read(facts)
            if text is not None:
                met = _joined(met, index.find(text))
            elif self._unknown:
                met = _joined(met, index.all)
        if facts.session and self._session is not None:
            met = _joined(met, self._session._met(facts))
        return met


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """What rules can concern a peer: a plan for each action, and the clauses themselves.

    Where they ask of a call no more than its names, `decisions` are those of tools that were
    called already; it is None where they ask more.
    """

    deny: Plan
    allow: Plan
    audit: Plan
    clauses: Clauses
    decisions: dict[Named, Decision] | None

    def remember(self, named: Named, decision: Decision) -> None:
        """Remember what was decided about calls of these names, if there is to be a next one."""
        known = self.decisions
        if known is None or len(named[0]) + len(named[1]) + len(named[4]) > _LONGEST:
            return
        if len(known) >= _MAX_DECISIONS:
            del known[next(iter(known))]
        known[named] = decision


class Standings:
    """Remembers how peers stand to *rules*; as many as its bounds allow."""

    __slots__ = ("_key", "_known", "_rules", "_shared")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        self._key = attrgetter("standing" if _asks_connection(rules) else "principal")
        self._known: dict[str, Standing] = {}
        self._shared: dict[bytes, Standing] = {}

    def of(self, peer: Peer) -> Standing:
        """Return the rules that can concern *peer*."""
        key = self._key(peer)
        standing = self._known.get(key)
        if standing is None:
            standing = self._shared_by(self._live(peer))
            if len(self._known) >= _MAX_STANDINGS:
                del self._known[next(iter(self._known))]
            self._known[key] = standing
        return standing

    def _live(self, peer: Peer) -> bytes:
        """One byte for every source of every rule: whether it lets *peer* through."""
        live = bytearray()
        for rule in self._rules:
            open_ = all(one.holds(peer) for one in rule.peer_conditions)
            for source in rule.sources:
                live.append(open_ and all(one.holds(peer) for one in source.peer))
        return bytes(live)

    def _shared_by(self, live: bytes) -> Standing:
        standing = self._shared.get(live)
        if standing is None:
            if len(self._shared) >= _MAX_SHARED:
                del self._shared[next(iter(self._shared))]
            standing = self._shared[live] = _standing(self._rules, live)
        return standing


def _asks_connection(rules: Sequence[Rule]) -> bool:
    """Whether a rule asks anything of a peer that is not in its identity."""
    asked = (
        one.attribute
        for rule in rules
        for one in (*rule.peer_conditions, *(one for src in rule.sources for one in src.peer))
    )
    return any(attribute in (attributes.SOURCE_IP, attributes.SNI) for attribute in asked)


def _standing(rules: Sequence[Rule], live: bytes) -> Standing:
    clauses: list[Clause] = []
    at = 0
    for order, rule in enumerate(rules):
        flags = live[at : at + len(rule.sources)]
        at += len(rule.sources)
        sources = [source for source, flag in zip(rule.sources, flags, strict=True) if flag]
        if sources:
            varying = _varying(sources)
            clauses += (
                _clause(order, rule, one, rule.conditions, varying) for one in rule.operations
            )

    def plan(action: Action) -> Plan:
        chosen = [clause for clause in clauses if clause.rule.action is action]
        return Plan(chosen, unknown=action is not Action.ALLOW)

    plans = (plan(Action.DENY), plan(Action.ALLOW), plan(Action.AUDIT))
    return Standing(*plans, tuple(clauses), {} if all(map(_asks_names, clauses)) else None)


def _asks_names(clause: Clause) -> bool:
    """Whether all that *clause* asks of a call is in the names of what it calls."""
    kinds = {question.attribute.kind for question in clause.questions}
    return clause.varying is None and kinds <= {attributes.Kind.FIXED, attributes.Kind.SUBJECT}


def _varying(sources: Sequence[Source]) -> Callable[[Facts], bool] | None:
    """Join what *sources* ask of each call: one of them must get all that it asks."""
    asked = [tuple(one.holds for one in source.call) for source in sources]
    if not all(asked):
        return None
    return lambda facts: any(all(holds(facts) for holds in one) for one in asked)


def _clause(
    order: int,
    rule: Rule,
    operation: Operation,
    conditions: Sequence[Question[Facts]],
    varying: Callable[[Facts], bool] | None,
) -> Clause:
    questions = (*operation.questions, *conditions)
    holds = tuple([one.holds for one in questions])
    if varying is not None:
        holds = (*holds, varying)
    return Clause(order, rule, operation, questions, varying, holds)


def _for_session(clause: Clause, operation: Operation) -> Clause:
    """Make of *clause* what is asked of the session's own traffic, which names no target."""
    conditions = [one for one in clause.rule.conditions if not names_target(one)]
    return _clause(clause.order, clause.rule, operation, conditions, clause.varying)
