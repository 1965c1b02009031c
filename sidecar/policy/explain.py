"""Why no rule allowed a call: the ALLOW rule that came nearest, and what it lacked.

Asked after a refusal and never on the way of a call. Rule bodies and what a call
holds are for operators, not for callers; what may be a secret (headers, claims,
arguments) is not shown at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from .call import Peer
from .facts import Facts
from .rule import Operation, Question, Rule, Source, names_target
from .spec import Action
from .verdict import Decision, RuleRef

Subject = TypeVar("Subject")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One field that did not match: what it asks, and what there is, empty if not shown."""

    field: str
    asked: tuple[str, ...]
    negated: bool
    found: str = ""

    def __str__(self) -> str:
        asked = " or ".join(f"`{value}`" for value in self.asked)
        found = f", here it is `{self.found}`" if self.found else ""
        return f"`{self.field}` must {'not ' if self.negated else ''}be {asked}{found}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision and, where no rule allowed the call, how near one came."""

    decision: Decision
    nearest: RuleRef | None = None
    mismatches: tuple[Mismatch, ...] = ()


def explain(decision: Decision, rules: Sequence[Rule], facts: Facts) -> Explanation:
    """Explain *decision* by those of *rules* that might have allowed the call."""
    if decision.allowed or decision.rule is not None:
        return Explanation(decision)
    misses = [(rule.ref, _mismatches(rule, facts)) for rule in rules if rule.action is Action.ALLOW]
    if not misses:
        return Explanation(decision)
    ref, missed = min(misses, key=lambda miss: len(miss[1]))
    return Explanation(decision, ref, missed)


def _mismatches(rule: Rule, facts: Facts) -> tuple[Mismatch, ...]:
    peer = facts.call.peer
    sources = [_of_source(one, peer, facts) for one in rule.sources]
    found = [*_failed(rule.peer_conditions, peer), *min(sources, key=len)]
    session = [one.session for one in rule.operations if one.session is not None]
    if facts.session and session:
        conditions = [one for one in rule.conditions if not names_target(one)]
        operations: Sequence[Operation] = session
    else:
        conditions, operations = list(rule.conditions), rule.operations
    tried = [_failed(one.questions, facts) for one in operations]
    return (*found, *min(tried, key=len), *_failed(conditions, facts))


def _of_source(source: Source, peer: Peer, facts: Facts) -> list[Mismatch]:
    return _failed(source.peer, peer) + _failed(source.call, facts)


def _failed(questions: Iterable[Question[Subject]], subject: Subject) -> list[Mismatch]:
    return [
        Mismatch(one.field, one.asked, one.negated, one.attribute.shown(subject)[:200])
        for one in questions
        if not one.holds(subject)
    ]
