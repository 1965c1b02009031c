"""Where a call goes and what happens to it on the way: a VirtualService, compiled.

The first route of which a match holds decides; its action names destinations by
weight, a time, retries, mirrors, a fault to inject, and what is rewritten. It is
told the call (`Asked`) and chance; it knows no rule, and opens no connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ..errors import PathError
from .affinity import HashOn
from .edit import Edit
from .retry import RetryPolicy
from .text import How, TextMatch


@dataclass(slots=True)
class Asked:
    """What routes may ask of a call: its head, who calls, and what its message is about."""

    method: str
    path: str
    query: str
    host: str
    port: int
    headers: Sequence[tuple[bytes, bytes]]
    principal: str = ""
    source_ip: str = ""
    mcp_method: str | None = None
    tool: str | None = None

    def header(self, name: str) -> str | None:
        """Return the values of the header *name* (lower case) joined by commas, or None."""
        wanted = name.encode("latin-1")
        values = [value for known, value in self.headers if known == wanted]
        return b",".join(values).decode("latin-1") if values else None

    def parameter(self, name: str) -> str | None:
        """Return the first query parameter *name*, or None.

        It is as it was written: like Envoy, nothing is decoded before it is compared.
        """
        pairs = (pair.partition("=") for pair in self.query.split("&"))
        return next((value for known, _, value in pairs if known == name), None)


@dataclass(frozen=True, slots=True)
class Match:
    """Conditions that must all hold; one that is None asks nothing.

    Of `headers` and `parameters` each named one must hold, of `without` none.
    """

    name: str = ""
    uri: TextMatch | None = None
    method: TextMatch | None = None
    authority: TextMatch | None = None
    headers: tuple[tuple[str, TextMatch], ...] = ()
    without: tuple[tuple[str, TextMatch], ...] = ()
    parameters: tuple[tuple[str, TextMatch], ...] = ()
    port: int = 0
    mcp_method: TextMatch | None = None
    tool: TextMatch | None = None
    principal: TextMatch | None = None

    @property
    def uses_mcp(self) -> bool:
        """Whether a call's body must be read to know whether this holds."""
        return self.mcp_method is not None or self.tool is not None

    def holds(self, asked: Asked) -> bool:
        """Whether the call *asked* is one that is meant."""
        return (
            self.port in (0, asked.port)
            and _holds(self.uri, asked.path)
            and _holds(self.method, asked.method)
            and _holds(self.authority, asked.host)
            and _holds(self.mcp_method, asked.mcp_method)
            and _holds(self.tool, asked.tool)
            and _holds(self.principal, asked.principal or None)
            and all(match.holds(asked.header(name)) for name, match in self.headers)
            and not any(_holds_or_empty(match, asked.header(name)) for name, match in self.without)
            and all(match.holds(asked.parameter(name)) for name, match in self.parameters)
        )


def _holds(match: TextMatch | None, text: str | None) -> bool:
    return match is None or match.holds(text)


def _holds_or_empty(match: TextMatch, text: str | None) -> bool:
    """Whether *match* holds, where a header that is missing is compared as an empty one (Istio)."""
    if text is None and match.how is not How.PRESENT:
        text = ""
    return match.holds(text)


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What the server sees in the place of the path that matched, and of the host."""

    uri: str = ""
    authority: bytes = b""

    def path(self, path: str, match: TextMatch | None) -> str:
        """Return the path to send for *path*, of which *match* held.

        Of a prefix only that is replaced; without a match that is `/`, as in Envoy. Raises
        PathError for a path that came to lead elsewhere by being put together.
        """
        if not self.uri:
            return path
        if match is not None and match.how is How.EXACT:
            return self.uri
        prefix = "/" if match is None else match.value
        rest = path[len(prefix) :]
        if self.uri == "/" or (self.uri.endswith("/") and rest.startswith("/")):
            rest = rest.removeprefix("/")  # no empty segment between the two: Envoy leaves one
        made = self.uri + rest
        if any(segment in (".", "..") for segment in made.split("/")):
            raise PathError("the rewritten path leads out of where it was rewritten to")
        return made


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to calls on purpose: a delay (seconds), an answer (`status`), each to a share.

    Shares are percentages; a share that is not written is none (Istio).
    """

    delay: float = 0.0
    delay_percent: float = 0.0
    status: int = 0
    abort_percent: float = 0.0

    def draw(self, delayed: float, aborted: float) -> tuple[float, int]:
        """Return the delay and the status of one call; the chances are from 0 up to 1."""
        return (
            self.delay if delayed * 100 < self.delay_percent else 0.0,
            self.status if aborted * 100 < self.abort_percent else 0,
        )


@dataclass(frozen=True, slots=True)
class Mirror:
    """A cluster that is sent copies of a share (percentage) of the calls."""

    cluster: str
    percent: float = 100.0


@dataclass(frozen=True, slots=True)
class Destination:
    """One cluster that an action leads to; `host` is the service it is a part of.

    `authority` is what the server sees as Host, where it is not the inbound's own server.
    """

    host: str
    cluster: str
    weight: int = 1
    hash_on: HashOn | None = None
    request: Edit | None = None
    reply: Edit | None = None
    authority: bytes = b""


@dataclass(frozen=True)
class Action:
    """What becomes of a call. `timeout` is seconds over all tries, 0 for none.

    Where a fault is injected, neither timeout nor retries act (Istio).
    """

    destinations: tuple[Destination, ...]
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timeout: float = 0.0
    mirrors: tuple[Mirror, ...] = ()
    fault: Fault | None = None
    rewrite: Rewrite | None = None
    request: Edit | None = None
    reply: Edit | None = None

    @cached_property
    def total(self) -> int:
        """The sum of all weights."""
        return sum(one.weight for one in self.destinations)

    def destination(self, chance: float) -> Destination:
        """Return the one that *chance*, from 0 up to 1, falls on; a single one takes all."""
        left = chance * self.total
        for one in self.destinations[:-1]:
            left -= one.weight
            if left < 0:
                return one
        return next(one for one in reversed(self.destinations) if one.weight or not self.total)


@dataclass(slots=True)  # as one is made for many a call; nobody changes one
class Way:
    """How one call goes: by which action, to which cluster, and where in it.

    Calls of one `key` go to one endpoint; with `at` the call goes to that address or
    nowhere. `path` and `authority` are in the place of the call's where they are not empty.
    `session` is the legacy session's id.
    """

    action: Action
    cluster: str
    host: str
    key: bytes | None = None
    at: str = ""
    path: str = ""
    authority: bytes = b""
    request: tuple[Edit, ...] = ()
    reply: tuple[Edit, ...] = ()
    session: bytes = b""


@dataclass(frozen=True, slots=True)
class Route:
    """Calls of which one of `matches` holds, or all where there are none, and their action."""

    action: Action
    matches: tuple[Match, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Routes:
    """All routes of one service, in the order they are asked."""

    routes: tuple[Route, ...]

    @property
    def uses_mcp(self) -> bool:
        """Whether a call's body must be read to find its route."""
        return any(match.uses_mcp for route in self.routes for match in route.matches)

    def find(self, asked: Asked) -> tuple[Action, TextMatch | None] | None:
        """Return the action for the call *asked*, and what its path matched; None for no route."""
        for route in self.routes:
            if not route.matches:
                return route.action, None
            for match in route.matches:
                if match.holds(asked):
                    return route.action, match.uri
        return None
