"""RateLimit: how often calls may happen, and which of them count together.

What is matched has the fields of an AuthorizationPolicy's source and operation, and
their meaning. A rate is written in one way only; what can be told of another one is
told as the literal fix.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from ..errors import Where
from ..policy.bucket import Rate
from ..policy.limit import ANY_OPERATION, ANY_SOURCE, LimitSpec, Per
from ..policy.spec import OperationSpec, SourceSpec
from .authorization import OPERATION, SOURCE
from .documents import RateLimitSpec
from .metadata import SELECTOR_FIELD, TARGETS
from .nodes import MapNode, Node, ScalarNode
from .problem import Notes
from .schema import Field, Form, ListOf, Struct, Unread, wrong_form
from .values import Whole, Word

MOST_LIMITS: Final = 64
MOST_CALLS: Final = 1_000_000

_RATE: Final = re.compile(r"([0-9]{1,9})/(s|m|h|second|minute|hour)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
# What others write: a number, perhaps a slash or a word, perhaps a unit.
_MEANT: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(?:/|per|p|r/?p)?\s*1?([a-z]*)")
_MEANT_SECONDS: Final = {
    **dict.fromkeys(("", "s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
}
_FORM: Final = "write a whole number of calls per second, minute or hour: `10/s`, `100/m`, `1000/h`"


@dataclass(frozen=True, slots=True)
class RateForm(Form[Rate]):
    """A rate such as `10/s`; units may be written out."""

    @property
    def name(self) -> str:
        return "rate"

    def read(self, node: Node, path: str, notes: Notes) -> Rate:
        if not isinstance(node, ScalarNode) or isinstance(node.value, bool) or node.broken:
            raise wrong_form(node, "a rate such as `10/s`", path, notes)
        found = _RATE.fullmatch(node.text)
        if found is None:
            raise _not_a_rate(node, path, f"`{node.text}` is not a rate", _meant(node.text), notes)
        count = int(found[1])
        if count == 0:
            fix = "keep calls out with an AuthorizationPolicy of action DENY"
            raise _not_a_rate(node, path, "no call would ever pass", fix, notes)
        if count > MOST_CALLS:
            fix = f"write at most `{MOST_CALLS}/{found[2]}`, or remove the limit"
            raise _not_a_rate(node, path, f"`{node.text}` is too many", fix, notes)
        return Rate(count, _SECONDS[found[2][0]])


def _not_a_rate(node: Node, path: str, message: str, fix: str, notes: Notes) -> Unread:
    notes.error("SC0212", f"{path}: {message}", node, help=fix)
    return Unread()


def _meant(text: str) -> str:
    """Say how the rate is written that *text* seems to mean."""
    found = _MEANT.fullmatch(text.strip().lower())
    seconds = _MEANT_SECONDS.get(found[2]) if found is not None else None
    if found is None or seconds is None:
        return _FORM
    each_second = Fraction(found[1]) / seconds
    for unit, length in _SECONDS.items():
        count = each_second * length
        if count.denominator == 1 and 0 < count <= MOST_CALLS:
            return f"write `{count}/{unit}`"
    lower = int(each_second * 3600)
    return f"write `{lower}/h`, the next lower rate" if 0 < lower <= MOST_CALLS else _FORM


@dataclass(frozen=True, slots=True)
class Match:
    """Which calls count: both must match."""

    source: SourceSpec = ANY_SOURCE
    operation: OperationSpec = ANY_OPERATION


_OF_SOURCE: Final = frozenset(SourceSpec.__slots__)


def _match(**values: tuple[str, ...]) -> Match:
    return Match(
        SourceSpec(**{name: asked for name, asked in values.items() if name in _OF_SOURCE}),
        OperationSpec(**{name: asked for name, asked in values.items() if name not in _OF_SOURCE}),
    )


def _check_match(match: Match, node: MapNode, path: str, notes: Notes) -> None:
    if not node.entries:
        notes.error(
            "SC0402",
            f"{path} asks nothing",
            node,
            help="name which calls count, or remove it to count all",
        )
        return
    if SOURCE.check is not None:
        SOURCE.check(match.source, node, path, notes)
    if OPERATION.check is not None:
        OPERATION.check(match.operation, node, path, notes)


_OTHERS: Final = "an unknown field would be ignored, and other calls would count than it says"

MATCH: Final = Struct(
    "Match",
    _match,
    (*SOURCE.fields, *OPERATION.fields),
    check=_check_match,
    why_unknown=_OTHERS,
)


def _limit(
    rate: Rate,
    match: Match = Match(),
    per: tuple[Per, ...] = (),
    burst: int = 0,
    at: Where | None = None,
) -> LimitSpec:
    return LimitSpec(rate, burst, match.source, match.operation, per, at)


LIMIT: Final = Struct(
    "Limit",
    _limit,
    (
        Field(
            "match",
            MATCH,
            "Which calls count, in the words of an AuthorizationPolicy's `source` and `operation`: "
            "all that is written must hold, and what cannot be determined counts.",
            default="every request, the session's own traffic too",
        ),
        Field(
            "per",
            ListOf(Word(Per), least=1, most=len(Per)),
            "What calls are told apart by: each combination has a bucket of its own, and what a "
            "call does not have is a value too.",
            default="one bucket for all",
        ),
        Field(
            "rate",
            RateForm(),
            "How many calls are let through as time goes by: `10/s`, `100/m`, `1000/h`.",
            required=True,
        ),
        Field(
            "burst",
            Whole(1, MOST_CALLS),
            "How many may be let through at once, after a time without calls.",
            default="the number of the rate",
        ),
    ),
    why_unknown=_OTHERS,
    located=True,
)

SPEC: Final = Struct(
    "RateLimitSpec",
    RateLimitSpec,
    (
        SELECTOR_FIELD,
        *TARGETS,
        Field(
            "limits",
            ListOf(LIMIT, least=1, most=MOST_LIMITS),
            "A call counts once for each that matches it, and each must have room for it; where "
            "one has none, the call counts for none.",
            required=True,
        ),
    ),
    why_unknown=_OTHERS,
)
