"""Why no rule allowed a call: the ALLOW rule that came nearest, and what it lacked.

Asked after a refusal and never on the way of a call. Rule bodies and what a call
holds are for operators, not for callers; what may be a secret (headers, claims,
arguments) is not shown at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from .call import Peer
from .facts import Facts
from .rule import Operation, Question, Rule, Source, names_target
from .spec import Action
from .verdict import Decision, RuleRef

Subject = TypeVar("Subject")

_LONGEST: Final = 200  # characters that are shown of one value
_MOST_ASKED: Final = 4  # values that are shown of one field
_NOTHING: Final = "no ALLOW rule is for this workload"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One field that did not match: what it asks, and what there is, empty if not shown."""

    field: str
    asked: tuple[str, ...]
    negated: bool
    found: str = ""

    def __str__(self) -> str:
        return self.wanted + (f", here it is `{self.found}`" if self.found else "")

    @property
    def wanted(self) -> str:
        """What is asked, without what there is."""
        asked = " or ".join(f"`{value[:_LONGEST]}`" for value in self.asked[:_MOST_ASKED])
        if len(self.asked) > _MOST_ASKED:
            asked += f" or {len(self.asked) - _MOST_ASKED} more"
        return f"`{self.field}` must {'not ' if self.negated else ''}be {asked}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision and, where no rule allowed the call, how near one came."""

    decision: Decision
    nearest: RuleRef | None = None
    mismatches: tuple[Mismatch, ...] = ()

    def __str__(self) -> str:
        """Say which rule came nearest and the one thing that it lacked, and how many more."""
        near = self._near(*map(str, self.mismatches[:1]))
        return f"no rule allows it; {near}" if near else _NOTHING

    @property
    def brief(self) -> str:
        """The same for whoever sees beside it what was asked, and that it was denied."""
        return self._near(*(one.wanted for one in self.mismatches[:1])) or _NOTHING

    def _near(self, lacked: str = "") -> str:
        if self.nearest is None:
            return ""
        place = f" at {self.nearest.place}" if self.nearest.place else ""
        more = len(self.mismatches) - 1
        return (
            f"nearest {self.nearest}{place}"
            + (f": {lacked}" if lacked else "")
            + (f", and {more} more" if more > 0 else "")
        )


def explain(decision: Decision, rules: Sequence[Rule], facts: Facts) -> Explanation:
    """Explain *decision* by those of *rules* that might have allowed the call."""
    if decision.allowed or decision.rule is not None:
        return Explanation(decision)
    misses = [
        (rule.ref, *_mismatches(rule, facts)) for rule in rules if rule.action is Action.ALLOW
    ]
    if not misses:
        return Explanation(decision)
    # Of rules that lack as much, the caller's own is what a person means.
    ref, of_caller, rest = min(misses, key=lambda miss: (len(miss[1]) + len(miss[2]), len(miss[1])))
    return Explanation(decision, ref, (*of_caller, *rest))


def _mismatches(rule: Rule, facts: Facts) -> tuple[list[Mismatch], list[Mismatch]]:
    """Return what *rule* lacks in the caller, and in what it asks for."""
    peer = facts.call.peer
    sources = [_of_source(one, peer, facts) for one in rule.sources]
    of_caller = [*_failed(rule.peer_conditions, peer), *min(sources, key=len)]
    session = [one.session for one in rule.operations if one.session is not None]
    if facts.session and session:
        conditions = [one for one in rule.conditions if not names_target(one)]
        operations: Sequence[Operation] = session
    else:
        conditions, operations = list(rule.conditions), rule.operations
    tried = [_failed(one.questions, facts) for one in operations]
    return of_caller, [*min(tried, key=len), *_failed(conditions, facts)]


def _of_source(source: Source, peer: Peer, facts: Facts) -> list[Mismatch]:
    return _failed(source.peer, peer) + _failed(source.call, facts)


def _failed(questions: Iterable[Question[Subject]], subject: Subject) -> list[Mismatch]:
    return [
        Mismatch(one.field, one.asked, one.negated, one.attribute.shown(subject)[:_LONGEST])
        for one in questions
        if not one.holds(subject)
    ]
