"""What a workload's messages are scanned for: all its inspections together, compiled.

Each direction has one scanner that refuses and one that only notes. What folding leaves
nothing of, or too much, is noted where the pattern is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from ..mcp.edit import CONCERNS
from ..policy.decide import Scans
from ..policy.scan.fold import Fold
from ..policy.scan.scanner import Pattern, Scanner, literal
from ..policy.verdict import RuleRef
from .documents import Direction, Inspection, OnMatch, WasmPlugin
from .problem import Notes, Place

_NOT_SCANNABLE: Final = "SC0503"
_Inspecting: TypeAlias = Inspection | WasmPlugin


class ScanCompiler:
    """Compiles *inspections*; what is wrong with them goes to *notes*."""

    def __init__(self, inspections: Sequence[_Inspecting], notes: Notes) -> None:
        self._inspections = inspections
        self._notes = notes

    def check_patterns(self) -> None:
        """Note each pattern of which folding leaves nothing, or too much, to look for."""
        fold = Fold()
        for document in self._inspections:
            for pattern in document.inspection.patterns:
                try:
                    literal(pattern.text, fold)
                except ValueError as error:
                    place = Place(pattern.at or document.at)
                    self._notes.error(_NOT_SCANNABLE, f"pattern `{pattern.id}`: {error}", place)

    def scans(self, direction: Direction) -> Scans:
        """Return what is looked for in one *direction*."""
        refuse: list[Pattern] = []
        note: list[Pattern] = []
        for document in self._inspections:
            inspection = document.inspection
            if direction not in inspection.directions:
                continue
            kept = refuse if inspection.action is OnMatch.DENY else note
            name = f"{document.metadata.namespace}/{document.metadata.name}"
            for pattern in inspection.patterns:
                rule = RuleRef(name, at=pattern.at or document.at)
                kept.append(Pattern(pattern.id, pattern.text, rule))
        return Scans(self._scanner(refuse), self._scanner(note))

    def _scanner(self, patterns: Sequence[Pattern]) -> Scanner | None:
        if not patterns or self._notes.errors:
            return None  # where there are errors, no snapshot comes of it
        try:
            # A reply that its first pass clears holds no list to be shortened either.
            return Scanner(patterns, concerns=CONCERNS)
        except ValueError as error:  # too many patterns, all documents together
            self._notes.error(_NOT_SCANNABLE, str(error), Place(self._inspections[-1].at))
            return None

    def body_bytes(self, limit: int) -> int:
        """The smallest that an inspection which refuses requests takes; *limit* without one."""
        taken = [
            one.max_body_bytes or limit
            for one in (document.inspection for document in self._inspections)
            if one.action is OnMatch.DENY and Direction.REQUEST in one.directions
        ]
        return min(taken, default=limit)
