"""What a route does to its calls: where they go, retries, faults, rewriting, header fields.

Istio's fields and rules of validity. Fields that mirror the body that was judged,
that frame a message or tell who called are nobody's to edit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ..upstream.edit import Edit
from ..upstream.retry import unknown_conditions
from ..upstream.route import Fault, Rewrite
from ..upstream.text import TextMatch
from .addresses import host_name
from .nodes import MapNode, Node, ScalarNode
from .problem import Notes
from .schema import Field, Form, ListOf, MapOf, Struct, Support, Unread, Unused, wrong_form
from .traffic_specs import Goal, Retries
from .values import Duration, Flag, Malformed, Read, Text, Whole

# gRPC's statuses by name, each with the HTTP status that a caller who speaks none is told.
_GRPC: Final = {
    "OK": 200,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
_FRAMING: Final = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"),
        *("keep-alive", "proxy-connection", "expect", "content-type", "content-encoding"),
        *("x-forwarded-client-cert", "x-request-id"),
    }
)
TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")
_SUBSET: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?")
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
_PATH: Final = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@/%]*")


@dataclass(frozen=True, slots=True)
class Percent(Form[float]):
    """A percentage, fractions allowed; one under *least* is nothing, and must say so."""

    least: float = 0.0

    @property
    def name(self) -> str:
        return "percentage"

    def read(self, node: Node, path: str, notes: Notes) -> float:
        value = node.value if isinstance(node, ScalarNode) else None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong_form(node, "a number from 0 to 100", path, notes)
        if not 0 <= value <= 100 or 0 < value < self.least:
            other = f"0, or from {self.least:f}".rstrip("0") if self.least else "from 0"
            notes.error(
                "SC0206", f"{path} is {value}", node, help=f"write a number: {other} to 100"
            )
            raise Unread
        return float(value)


def _value_of(value: float = 0.0) -> float:
    return value


MIRROR_PERCENT: Final = Struct(
    "Percent", _value_of, (Field("value", Percent(), "From 0 to 100.", default="0"),)
)
# Envoy counts in millionths.
_FAULT_PERCENT: Final = Struct(
    "Percent", _value_of, (Field("value", Percent(0.0001), "From 0 to 100.", default="0"),)
)


# -- where calls go


def subset_name(text: str) -> str:
    """Read the name of a subset: a label of a host's name, as in Istio."""
    if _SUBSET.fullmatch(text) is None:
        raise Malformed(
            f"`{text}` is not a subset's name", "write at most 63 letters, digits and `-`: `v1`"
        )
    return text


def _port_number(number: int) -> int:
    return number


GOAL: Final = Struct(
    "Destination",
    Goal,
    (
        Field(
            "host",
            Read("host", host_name),
            "A service: the inbound's own, or one of a ServiceEntry.",
            required=True,
        ),
        Field(
            "subset",
            Read("name", subset_name),
            "A subset of its DestinationRule.",
            default="all its endpoints",
        ),
        Field(
            "port",
            Struct(
                "PortSelector",
                _port_number,
                (Field("number", Whole(1, 65535), "The port.", required=True),),
            ),
            "Which of its ports.",
            default="the first",
        ),
    ),
)


# -- retries


def _check_retries(retries: Retries, node: MapNode, path: str, notes: Notes) -> None:
    said = node.get("attempts") is not None
    if not retries.attempts and len(node.entries) > said:
        notes.error(
            "SC0605",
            f"{path} has {'attempts of 0' if said else 'no attempts'}, and says more",
            node.key("attempts") if said else node,
            why="0 switches retries off, and so does what is not written beside others",
            help="write how often to try again: `attempts: 2`; or remove the other fields",
        )
    unknown = unknown_conditions(retries.retry_on or "")
    if unknown:
        notes.error(
            "SC0205",
            f"`{unknown[0]}` is not a value of {path}.retryOn",
            node.get("retryOn") or node,
            help="write names such as `connect-failure`, `gateway-error`, `reset`, or statuses",
        )
    elif "retriable-headers" in (retries.retry_on or ""):
        notes.warning(
            "SC0303",
            f"`retriable-headers` in {path}.retryOn has no effect",
            node.get("retryOn") or node,
            why="no route can name the headers",
            help="remove it",
        )


def _retries(attempts: int = 0, **others: object) -> Retries:
    return Retries(attempts, **others)  # type: ignore[arg-type]


RETRIES: Final = Struct(
    "HTTPRetry",
    _retries,
    (
        Field(
            "attempts",
            Whole(0, 100),
            "Tries after the first; 0: none. Without `retries` there are 2.",
            default="0",
        ),
        Field(
            "retryOn",
            Text(empty=True),
            "After what, by Envoy's names and by statuses, with commas between. What was never "
            "sent is always tried again; a `tools/call` that was sent only for `idempotentTools`.",
            default="only what was never sent",
        ),
        Field("perTryTimeout", Duration(), "How long a try has to answer.", default="the timeout"),
        Field("backoff", Duration(), "The base of the pause before a retry.", default="25ms"),
        Field(
            "retryIgnorePreviousHosts",
            Flag(),
            "Try another endpoint than before.",
            "ignore_previous_hosts",
            default="true, but with a consistent hash",
        ),
        Field(
            "idempotentTools",
            ListOf(Read("tool, `prefix*` or `*suffix`", TextMatch.pattern, longest=256), least=1),
            "Tools (ours, not Istio's) of which a call may be sent again where `retryOn` names "
            "what became of it: calling them twice must do what calling them once does.",
        ),
        Unused("retryRemoteLocalities", Support.LATER, "Endpoints are picked by load alone."),
    ),
    check=_check_retries,
)


# -- faults


def _grpc_status(text: str) -> int:
    if text not in _GRPC:
        raise Malformed(f"`{text}` is not a gRPC status", f"write one of {', '.join(_GRPC)}")
    return _GRPC[text]


def _abort(status: int = 0, grpc: int = 0, percent: float = 0.0) -> tuple[int, float]:
    return status or grpc, percent


def _check_abort(made: object, node: MapNode, path: str, notes: Notes) -> None:
    written = [name for name in ("httpStatus", "grpcStatus") if node.get(name) is not None]
    if len(written) != 1:
        notes.error("SC0609", f"{path} needs one status", node, help="write `httpStatus: 503`")


_ABORT: Final = Struct(
    "Abort",
    _abort,
    (
        Field("httpStatus", Whole(200, 599), "The status that is answered.", "status"),
        Field(
            "grpcStatus",
            Read("gRPC status", _grpc_status),
            "The same by gRPC's name for it.",
            "grpc",
        ),
        Field("percentage", _FAULT_PERCENT, "Of how many calls.", "percent", default="none"),
        Unused("http2Error", Support.REFUSED, "An abort has a status."),
    ),
    check=_check_abort,
)


def _delay(seconds: float, percent: float = 0.0) -> tuple[float, float]:
    return seconds, percent


_DELAY: Final = Struct(
    "Delay",
    _delay,
    (
        Field("fixedDelay", Duration(), "How long.", "seconds", required=True),
        Field("percentage", _FAULT_PERCENT, "Of how many calls.", "percent", default="none"),
        Field("percent", Percent(), "The same, by its old name."),
        Unused("exponentialDelay", Support.REFUSED, "A delay is as long as `fixedDelay` says."),
    ),
)


def _fault(delay: tuple[float, float] = (0.0, 0.0), abort: tuple[int, float] = (0, 0.0)) -> Fault:
    return Fault(*delay, *abort)


def _check_fault(fault: Fault, node: MapNode, path: str, notes: Notes) -> None:
    if not node.entries:
        notes.error("SC0609", f"{path} is empty", node, help="write `delay:` or `abort:`")


FAULT: Final = Struct(
    "HTTPFaultInjection",
    _fault,
    (
        Field("delay", _DELAY, "Let calls wait."),
        Field("abort", _ABORT, "Answer calls in the server's place."),
    ),
    check=_check_fault,
)


# -- rewriting


def _rewritten_path(text: str) -> str:
    if _PATH.fullmatch(text) is None or any(one in (".", "..") for one in text.split("/")):
        raise Malformed(f"`{text}` is not a path", "write it like `/mcp`")
    return text


def _authority(text: str) -> bytes:
    name, colon, port = text.partition(":")
    host_name(name)
    if colon and not (port.isdigit() and 0 < int(port) <= 65535):
        raise Malformed(f"`{text}` has no port behind its `:`", f"write `{name}`")
    return text.encode("ascii")


def _check_rewrite(made: object, node: MapNode, path: str, notes: Notes) -> None:
    if not node.entries:
        notes.error("SC0210", f"{path} is empty", node, help="write `uri:` or `authority:`")


REWRITE: Final = Struct(
    "HTTPRewrite",
    Rewrite,
    (
        Field(
            "uri",
            Read("path", _rewritten_path),
            "The path in the place of the one that matched, or of the prefix that did.",
        ),
        Field("authority", Read("host", _authority), "The host that the server sees."),
        Unused("uriRegexRewrite", Support.REFUSED, "Paths are rewritten whole or by prefix."),
    ),
    check=_check_rewrite,
)


# -- header fields


@dataclass(frozen=True, slots=True)
class Edits:
    """What is edited of header fields, on the way there and back."""

    request: Edit | None = None
    reply: Edit | None = None


NO_EDITS: Final = Edits()


def _editable(text: str) -> bytes:
    name = text.lower()
    if TOKEN.fullmatch(text) is None:
        raise Malformed(f"`{text}` is not a header's name", "write it like `x-user`")
    if name in _FRAMING or name.startswith("mcp-"):
        raise Malformed(
            f"`{text}` is not a route's to edit",
            "leave it out",
            "SC0608",
            why="it frames the message, tells who called, or mirrors the body that was judged",
        )
    return name.encode("ascii")


def _header_value(text: str) -> bytes:
    if _VALUE.fullmatch(text) is None:
        raise Malformed("a header's value is visible ASCII", "leave other characters out")
    if "%" in text.replace("%%", ""):
        raise Malformed(
            f"`{text}` holds a `%`",
            "write `%%` for one",
            "SC0304",
            why="Envoy's variables are not filled in",
        )
    return text.replace("%%", "%").strip().encode("ascii")


_FIELDS: Final = MapOf(
    Read("header name", _editable), Read("text", _header_value, longest=8192), most=64
)


def _edit(
    set: dict[bytes, bytes] | None = None,
    add: dict[bytes, bytes] | None = None,
    remove: tuple[bytes, ...] = (),
) -> Edit:
    return Edit(tuple((set or {}).items()), tuple((add or {}).items()), frozenset(remove))


_OPERATIONS: Final = Struct(
    "HeaderOperations",
    _edit,
    (
        Field("set", _FIELDS, "Fields that take the place of those of their names."),
        Field("add", _FIELDS, "Fields beside those of their names."),
        Field(
            "remove", ListOf(Read("header name", _editable), most=64), "Names of fields to drop."
        ),
    ),
)

EDITS: Final = Struct(
    "Headers",
    Edits,
    (
        Field("request", _OPERATIONS, "On the way to the server."),
        Field("response", _OPERATIONS, "On the way back.", "reply"),
    ),
)
