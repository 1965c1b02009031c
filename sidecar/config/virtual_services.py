"""VirtualService: which calls go where. Istio's fields, and `mcp` of ours in a match.

Routes of HTTP only; comparisons are whole, by prefix or by presence, never regular
expressions. What is left out is refused with its reason, because a route that is
half read sends calls elsewhere than its author meant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

from ..errors import Where
from ..upstream.route import Match
from ..upstream.text import How, TextMatch
from .addresses import overlap, service_pattern
from .nodes import MapNode, Node
from .problem import Notes
from .route_actions import (
    EDITS,
    FAULT,
    GOAL,
    MIRROR_PERCENT,
    NO_EDITS,
    RETRIES,
    REWRITE,
    TOKEN,
    Edits,
    Percent,
)
from .schema import (
    DROPPED,
    Field,
    Form,
    ListOf,
    MapOf,
    Struct,
    Support,
    Unread,
    Unused,
)
from .traffic_specs import (
    Goal,
    HttpRoute,
    MirrorGoal,
    VirtualServiceSpec,
    WeightedGoal,
)
from .values import Duration, Flag, Malformed, Read, Text, Whole

_MOST_ROUTES: Final = 256
_MOST_MATCHES: Final = 64
_NO_REGEX: Final = "Comparisons are linear; write one match for each exact value or prefix."


@dataclass(frozen=True, slots=True)
class _StringForm(Form[TextMatch]):
    """Istio's StringMatch; with `presence`, `{}` asks only that something is there."""

    presence: bool = False

    @property
    def name(self) -> str:
        return "`{exact: TEXT}` or `{prefix: TEXT}`" + (" or `{}`" if self.presence else "")

    def read(self, node: Node, path: str, notes: Notes) -> TextMatch:
        before = notes.errors
        found = _STRING.read(node, path, notes)
        if notes.errors > before:
            raise Unread
        if len(found) > 1 or not (found or self.presence):
            notes.error(
                "SC0203",
                f"{path} must be one comparison, not {len(found) or 'none'}",
                node,
                help=f"write {self.name}",
            )
            raise Unread
        for how, value in found.items():
            return TextMatch(How(how), value)
        return TextMatch(How.PRESENT)


_STRING: Final[Struct[dict[str, str]]] = Struct(
    "StringMatch",
    dict,
    (
        Field("exact", Text(empty=True), "The whole text."),
        Field("prefix", Text(), "How it begins."),
        Unused("regex", Support.REFUSED, _NO_REGEX),
    ),
)
_TEXT: Final = _StringForm()
_PRESENT: Final = _StringForm(presence=True)


def _header_name(text: str) -> str:
    if TOKEN.fullmatch(text) is None:
        raise Malformed(f"`{text}` is not a header's name", "write it like `x-user`")
    return text.lower()


HEADER_NAME: Final = Read("header name", _header_name, longest=256)
_HEADERS: Final = MapOf(HEADER_NAME, _PRESENT, most=64)

_MCP: Final[Struct[dict[str, TextMatch]]] = Struct(
    "McpMatch",
    dict,
    (
        Field("method", _TEXT, "The JSON-RPC method, such as `tools/call`.", attr="mcp_method"),
        Field("tool", _TEXT, "The tool that is called."),
        Field(
            "principal",
            _TEXT,
            "Who calls, as in an AuthorizationPolicy: `cluster.local/ns/NS/sa/SA`.",
        ),
    ),
)


def _match(
    uri: TextMatch | None = None,
    ignore_case: bool = False,
    headers: dict[str, TextMatch] | None = None,
    without: dict[str, TextMatch] | None = None,
    parameters: dict[str, TextMatch] | None = None,
    mcp: dict[str, TextMatch] | None = None,
    **others: object,
) -> Match:
    if uri is not None and ignore_case:
        uri = replace(uri, ignore_case=True)
    asked = {"headers": headers, "without": without, "parameters": parameters}
    tables = {name: tuple((table or {}).items()) for name, table in asked.items()}
    return Match(uri=uri, **tables, **(mcp or {}), **others)  # type: ignore[arg-type]


_MATCH: Final = Struct(
    "HTTPMatchRequest",
    _match,
    (
        Field("name", Text(), "What it is called."),
        Field("uri", _TEXT, "The path, as rules see it."),
        Field(
            "ignoreUriCase", Flag(), "Compare the path in any case.", "ignore_case", default="false"
        ),
        Field("method", _TEXT, "The HTTP method."),
        Field("authority", _TEXT, "The host that the caller named."),
        Field("headers", _HEADERS, "Header fields; `{}` asks only that one is there."),
        Field("withoutHeaders", _HEADERS, "Header fields that must not be so.", "without"),
        Field("queryParams", MapOf(Text(longest=256), _PRESENT, most=64), "Query.", "parameters"),
        Field("port", Whole(1, 65535), "The port that the call came in on."),
        Field("mcp", _MCP, "What the message is about, and who sends it."),
        Unused("scheme", Support.REFUSED, "A listener's mode says whether callers speak TLS."),
        Unused("sourceLabels", Support.REFUSED, "Callers have a principal: match `mcp.principal`."),
        Unused("sourceNamespace", Support.REFUSED, "Match `mcp.principal` by its prefix."),
        Unused("gateways", Support.REFUSED, "There is no gateway; routes are for the mesh."),
        Unused("statPrefix", Support.LATER, "Counters are by cluster."),
    ),
)


def _goal_struct(title: str, make: Callable[..., object], *more: Field) -> Struct[object]:
    return Struct(
        title,
        make,
        (
            Field("destination", GOAL, "The service, and which part of it.", "goal", required=True),
            *more,
        ),
        located=True,
    )


def _weighted(goal: Goal, at: Where, weight: int = 0, headers: Edits = NO_EDITS) -> WeightedGoal:
    return WeightedGoal(goal, at, weight, headers.request, headers.reply)


_WEIGHTED: Final = _goal_struct(
    "HTTPRouteDestination",
    _weighted,
    Field("weight", Whole(0, 1_000_000), "Its share; a single one takes all.", default="0"),
    Field("headers", EDITS, "What is edited of its calls' header fields."),
)
_MIRRORS: Final = _goal_struct(
    "HTTPMirrorPolicy",
    MirrorGoal,
    Field("percentage", MIRROR_PERCENT, "Its share of copies.", "percent", default="100"),
)


def _http(
    route: tuple[WeightedGoal, ...],
    at: Where,
    headers: Edits = NO_EDITS,
    mirror: Goal | None = None,
    mirrors: tuple[MirrorGoal, ...] = (),
    mirror_percent: float = 100.0,
    **others: object,
) -> HttpRoute:
    if mirror is not None:
        mirrors = (MirrorGoal(mirror, at, mirror_percent),)
    return HttpRoute(
        route,
        at,
        mirrors=mirrors,
        request=headers.request,
        reply=headers.reply,
        **others,  # type: ignore[arg-type]
    )


def _check_http(route: HttpRoute, node: MapNode, path: str, notes: Notes) -> None:
    if len(route.route) > 1 and not any(one.weight for one in route.route):
        notes.error(
            "SC0606",
            f"{path} has {len(route.route)} destinations and no weight",
            node.key("route"),
            help="give each destination a `weight:`",
        )
    if node.get("mirror") is not None and node.get("mirrors") is not None:
        notes.error(
            "SC0607", f"{path} has `mirror` and `mirrors`", node.key("mirror"), help="keep one"
        )
    if node.get("mirrorPercent") is not None:
        notes.warning(
            "SC0603",
            "`mirrorPercent` is an old name",
            node.key("mirrorPercent"),
            help="write `mirrorPercentage: {value: PERCENT}`",
        )


_REFUSED: Final = (
    ("redirect", "Callers are answered by a server."),
    ("directResponse", "Callers are answered by a server."),
    ("delegate", "The routes of a service stand in one document."),
    ("corsPolicy", "Pages of other origins may not call at all."),
)

_HTTP: Final = Struct(
    "HTTPRoute",
    _http,
    (
        Field("name", Text(), "What it is called."),
        Field(
            "match",
            ListOf(_MATCH, least=1, most=_MOST_MATCHES),
            "The calls it is for: those for which one of these holds.",
            "matches",
            default="all calls",
        ),
        Field("route", ListOf(_WEIGHTED, least=1, most=64), "Where they go.", required=True),
        Field(
            "timeout",
            Duration(zero=True),
            "From a whole request to the end of its reply, all tries together; of a stream of "
            "events, to its head. 0s is read as not written.",
            default="`limits.callTimeout`",
        ),
        Field("retries", RETRIES, "When a call is tried again."),
        Field("fault", FAULT, "What is done to calls on purpose."),
        Field("mirror", GOAL, "A service that is sent copies, whose answers go nowhere."),
        Field("mirrors", ListOf(_MIRRORS, least=1, most=8), "Several of them."),
        Field(
            "mirrorPercentage",
            MIRROR_PERCENT,
            "The share of calls that `mirror` gets copies of.",
            "mirror_percent",
            default="100",
        ),
        Field("mirrorPercent", Percent(), "The same, by its old name.", "mirror_percent"),
        Field("rewrite", REWRITE, "What the server sees in the place of what was asked."),
        Field("headers", EDITS, "What is edited of header fields."),
        *(Unused(name, Support.REFUSED, why) for name, why in _REFUSED),
    ),
    check=_check_http,
    located=True,
)


def _gateway(text: str) -> str:
    if text != "mesh":
        raise Malformed(
            f"`{text}` is a gateway", "write `mesh`, or leave `gateways` out", "SC0304",
            why="there is no gateway; routes are for the mesh",
        )  # fmt: skip
    return text


def _check_hosts(spec: VirtualServiceSpec, node: MapNode, path: str, notes: Notes) -> None:
    for one, other in combinations(spec.hosts, 2):
        if overlap(one, other):
            notes.error(
                "SC0611",
                f"{path}.hosts has `{one}` and `{other}`, which mean the same calls",
                node.key("hosts"),
                help="keep one",
            )


SPEC: Final = Struct(
    "VirtualServiceSpec",
    VirtualServiceSpec,
    (
        Field(
            "hosts",
            ListOf(Read("host", service_pattern), least=1, most=256),
            "The services whose calls it routes, by name or `*.suffix`.",
            required=True,
        ),
        Field(
            "http",
            ListOf(_HTTP, least=1, most=_MOST_ROUTES),
            "Its routes; the first that matches decides.",
            required=True,
        ),
        Field("gateways", ListOf(Read("`mesh`", _gateway)), "`mesh`.", attr=DROPPED),
        Unused("tls", Support.REFUSED, "Only HTTP is carried, and TLS is never passed through."),
        Unused("tcp", Support.REFUSED, "Only HTTP is carried."),
        Unused("exportTo", Support.LATER, "Every sidecar that is given the document uses it."),
    ),
    check=_check_hosts,
)
