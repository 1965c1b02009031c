"""The first pass: may any of these literals be in these bytes at all?

hyperscan answers that some ten times faster than an automaton names its hits.
It decides nothing: a yes is looked into, and where hyperscan is missing every
text is. This is the only place that knows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

# False only if none of the literals is there, in whatever case of ASCII letters.
MayHold: TypeAlias = Callable[[bytes], bool]
Compile: TypeAlias = Callable[[Sequence[bytes]], MayHold | None]


def compile_first_pass(literals: Sequence[bytes]) -> MayHold | None:
    """Return the first pass for *literals* (not empty), or None if this machine has none.

    Its scratch space is not re-entrant: one thread may ask, which is what the
    event loop is.
    """
    try:
        import hyperscan
    except ImportError:  # no wheel for this machine
        return None
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    flags = hyperscan.HS_FLAG_CASELESS | hyperscan.HS_FLAG_SINGLEMATCH
    try:
        database.compile(
            expressions=list(literals),
            ids=list(range(len(literals))),
            elements=len(literals),
            flags=[flags] * len(literals),
            literal=True,
        )
    except hyperscan.error:  # a processor without its instructions, a literal beyond its limits
        return None
    scan, stopped = database.scan, hyperscan.ScanTerminated

    def may_hold(data: bytes) -> bool:
        try:
            scan(data, match_event_handler=_stop)
        except stopped:
            return True
        return False

    return may_hold


def _stop(*_: object) -> bool:
    return True
