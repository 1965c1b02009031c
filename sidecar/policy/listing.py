"""What a caller may see in a list: what some arguments could make it allowed to use.

A list is judged as the use of each item would be, at the same place by the same
caller, with two things left open: whatever an ALLOW asks of arguments could be
given, and whatever a DENY asks of them could be left out. Nothing here edits lists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .attributes import PROMPT, RESOURCE, TOOL, Kind, OfCall
from .call import Call, Peer
from .facts import Facts, facts_of
from .plan import Clause, Holds, Standing
from .spec import Action
from .uri import settled_uri

_MAX_PLACES: Final = 512
_MAX_VIEWS: Final = 256
_MAX_ITEMS: Final = 4096
_NO_CALL: Final = Call(Peer(None, ""), "POST", "", "", "", (), b"")


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A kind of item: the attribute that names it, and the method that uses it."""

    attribute: OfCall
    method: str
    facts: Callable[[str], Facts]


def _named(method: str, tool: str = "", prompt: str = "", resource: str | None = "") -> Facts:
    return Facts(_NO_CALL, "POST", "", "", method, tool, prompt, resource, False)


TOOLS: Final = Subject(TOOL, "tools/call", lambda name: _named("tools/call", tool=name))
PROMPTS: Final = Subject(PROMPT, "prompts/get", lambda name: _named("prompts/get", prompt=name))
RESOURCES: Final = Subject(
    RESOURCE,
    "resources/read",
    lambda uri: _named("resources/read", resource=settled_uri(uri)),
)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One clause: what it asks of the place and the caller, and what of the item."""

    place: Holds
    item: Holds


class View:
    """Says of an item whether it may be listed; items asked about are remembered.

    `hides_nothing` if every item may be.
    """

    __slots__ = ("_allow", "_deny", "_known", "_open", "_subject", "hides_nothing")

    def __init__(
        self, subject: Subject, deny: tuple[Holds, ...], allow: tuple[Holds, ...], *, open: bool
    ) -> None:
        self._subject = subject
        self._deny = deny
        self._allow = allow
        self._open = open
        self._known: dict[str, bool] = {}
        self.hides_nothing = not deny and (open or not all(allow))

    def __call__(self, name: str) -> bool:
        """Whether the item *name* may be listed."""
        seen = self._known.get(name)
        if seen is None:
            if len(self._known) >= _MAX_ITEMS:
                self._known.clear()
            seen = self._known[name] = self._allows(self._subject.facts(name))
        return seen

    def _allows(self, facts: Facts) -> bool:
        if any(all(holds(facts) for holds in item) for item in self._deny):
            return False
        return self._open or any(all(holds(facts) for holds in item) for item in self._allow)


class Listing:
    """The views of one kind of item for one kind of peer; *open* if all is allowed."""

    __slots__ = ("_allow", "_deny", "_open", "_places", "_subject", "_varies", "_views")

    def __init__(self, standing: Standing, subject: Subject, *, open: bool) -> None:
        self._subject = subject
        self._open = open
        self._varies = any(_varies(clause) for clause in standing.clauses)
        self._deny = self._entries(standing, Action.DENY)
        self._allow = self._entries(standing, Action.ALLOW)
        self._places: dict[tuple[str, str, int], View] = {}
        self._views: dict[tuple[tuple[Holds, ...], tuple[Holds, ...]], View] = {}

    def view(self, call: Call) -> View:
        """Return the view of whoever makes *call*, where it is made; the same for the same."""
        place = (call.path, call.host, call.port)
        view = None if self._varies else self._places.get(place)
        if view is None:
            view = self._view(call)
            if not self._varies:
                if len(self._places) >= _MAX_PLACES:
                    del self._places[next(iter(self._places))]
                self._places[place] = view
        return view

    def _view(self, call: Call) -> View:
        facts = facts_of(call)
        facts.method, facts.mcp_method = "POST", self._subject.method
        facts.tool = facts.prompt = facts.resource = ""
        deny = tuple(one.item for one in self._deny if all(holds(facts) for holds in one.place))
        allow = tuple(one.item for one in self._allow if all(holds(facts) for holds in one.place))
        view = self._views.get((deny, allow))
        if view is None:
            if len(self._views) >= _MAX_VIEWS:
                del self._views[next(iter(self._views))]
            view = View(self._subject, deny, allow, open=self._open)
            self._views[deny, allow] = view
        return view

    def _entries(self, standing: Standing, action: Action) -> tuple[_Entry, ...]:
        clauses = (clause for clause in standing.clauses if clause.rule.action is action)
        entries = (self._entry(clause) for clause in clauses)
        return tuple(entry for entry in entries if entry is not None)

    def _entry(self, clause: Clause) -> _Entry | None:
        """Divide *clause*; None for a DENY that some arguments would escape."""
        place = [] if clause.varying is None else [clause.varying]
        item: list[Callable[[Facts], bool]] = []
        for question in clause.questions:
            if question.attribute.kind is Kind.ARGUMENT:
                if clause.rule.action is Action.DENY:
                    return None
            elif question.attribute is self._subject.attribute:
                item.append(question.holds)
            else:
                place.append(question.holds)
        return _Entry(tuple(place), tuple(item))


def _varies(clause: Clause) -> bool:
    """Whether *clause* may hold for one call and not for another at the same place."""
    return clause.varying is not None or any(
        question.attribute.kind is Kind.VARYING for question in clause.questions
    )
