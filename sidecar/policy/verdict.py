"""What policy says about one call: a Permit to forward it, or a Refusal.

A Permit is the only thing that a lease of an upstream connection accepts, so a
call that no rule allowed has no way to an upstream. A Permit carries its
duties, so the reply path looks no policy up. Nothing here knows HTTP or does I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from ..errors import Where

if TYPE_CHECKING:
    from ..mcp.edit import Listing, Visible
    from .call import Call


class Reason(StrEnum):
    """Why a call was refused: a stable word for logs, metrics and callers."""

    UNAUTHENTICATED = "unauthenticated"
    DENIED = "denied"
    INJECTION = "injection"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    UPSTREAM = "upstream"
    TIMEOUT = "timeout"
    INVALID = "invalid"
    INTERNAL = "internal"


# Reason -> HTTP status, JSON-RPC code; a Refusal may name another status of its row.
STATUS: Final[dict[Reason, tuple[int, int]]] = {
    Reason.UNAUTHENTICATED: (401, -32003),
    Reason.DENIED: (403, -32004),
    Reason.INJECTION: (403, -32005),
    Reason.TOO_LARGE: (413, -32006),
    Reason.RATE_LIMITED: (429, -32007),
    Reason.OVERLOADED: (503, -32008),
    Reason.UPSTREAM: (502, -32009),
    Reason.TIMEOUT: (504, -32010),
    Reason.INVALID: (400, -32600),
    Reason.INTERNAL: (500, -32603),
}


@dataclass(frozen=True, slots=True)
class RuleRef:
    """The rule that decided: its policy as `namespace/name`, its index and its place."""

    policy: str
    index: int = -1
    at: Where | None = None
    place: str = field(init=False, default="", compare=False)  # `file:line`
    _text: str = field(init=False, default="", compare=False)

    def __post_init__(self) -> None:
        text = self.policy if self.index < 0 else f"{self.policy}#{self.index}"
        object.__setattr__(self, "_text", text)
        object.__setattr__(self, "place", self.at.short if self.at is not None else "")

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the rules let a call through; *rule* decided, None if none matched."""

    allowed: bool
    rule: RuleRef | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What a scan saw: the pattern's id and text, and where in the message it stood."""

    pattern: str
    path: str = ""
    text: str = ""
    rule: RuleRef | None = None


class Stream(Protocol):
    """A scan of content that passes in pieces."""

    def feed(self, chunk: bytes) -> Finding | None:
        """Return what the content so far holds, once *chunk* has passed."""


class Inspector(Protocol):
    """What looks for patterns; `policy.scan` makes it."""

    def is_clean(self, body: bytes) -> bool:
        """Tell whether JSON in *body* certainly holds nothing, without parsing it: no pattern,
        and no word that speaks of a list or of a cache."""

    def message(self, body: bytes, value: object) -> Finding | None:
        """Look through JSON: its bytes, and what was parsed from them."""

    def raw(self, body: bytes) -> Finding | None:
        """Look through bytes that are no JSON."""

    def stream(self) -> Stream:
        """Begin to look through content that passes in pieces."""


# The kinds of lists that are shortened for the caller of a call, and to which items.
Hidden: TypeAlias = "Callable[[Call], Iterable[tuple[Listing, Visible]]]"


@dataclass(frozen=True, slots=True)
class Duties:
    """What a permit obliges on the reply: what refuses it, what is only noted, and which
    lists are shortened to what the caller may use."""

    inspect: Inspector | None = None
    watch: Inspector | None = None
    hidden: Hidden | None = None

    none: bool = field(init=False, repr=False)  # whether the reply may pass unread

    def __post_init__(self) -> None:
        none = self.inspect is None and self.watch is None and self.hidden is None
        object.__setattr__(self, "none", none)


@dataclass(frozen=True, slots=True, eq=False)
class Permit:
    """Leave to forward one call; only `policy` makes one, and a lease takes nothing else.

    Policies make one a rule, so that two are alike only if they are the same.
    """

    rule: RuleRef | None = None
    duties: Duties = field(default_factory=Duties)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A no: `message` is for the caller and names no rule body, `detail` is for the log.

    `headers` are further lines of the reply's head, each with its end. After `retry_after`
    seconds the same call may be let through; 0 says nothing.
    """

    reason: Reason
    message: str
    status: int = 0
    code: int = 0
    rule: RuleRef | None = None
    detail: str = ""
    headers: tuple[bytes, ...] = ()
    retry_after: int = 0

    def __post_init__(self) -> None:
        status, code = STATUS[self.reason]
        if not self.status:
            object.__setattr__(self, "status", status)
        if not self.code:
            object.__setattr__(self, "code", code)

    @property
    def by_default(self) -> bool:
        """Whether this is because no rule allowed the call, and none denied it."""
        return self.reason is Reason.DENIED and self.rule is None and not self.detail


Verdict: TypeAlias = Permit | Refusal
