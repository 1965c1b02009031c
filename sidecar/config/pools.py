"""`outlierDetection` and `connectionPool`: Istio's fields and rules of validity.

As in Istio a written 0 often means "not written"; where it does, the default or
None comes out. Durations are whole milliseconds, at least one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..upstream.endpoint import Http2Keepalive, Keepalive
from .nodes import MapNode, Node, ScalarNode
from .problem import Notes
from .schema import Field, Form, ListOf, Struct, Support, Unused
from .traffic_specs import (
    ConnectionPool,
    H2UpgradePolicy,
    HttpPool,
    OutlierDetection,
    TcpPool,
)
from .values import Duration, Flag, Whole, Word

_UINT32: Final = Whole(0, 2**32 - 1)
_PERCENT: Final = Whole(0, 100)
_PROBES: Final = Whole(0, 127)  # what Linux takes


@dataclass(frozen=True, slots=True)
class _ZeroIs(Form[int | None]):
    """A whole number, of which 0 is read as not written: *unset* comes out."""

    high: int = 2**31 - 1
    unset: int | None = None

    @property
    def name(self) -> str:
        return "number"

    def read(self, node: Node, path: str, notes: Notes) -> int | None:
        return Whole(0, self.high).read(node, path, notes) or self.unset


_COUNT: Final = _ZeroIs()


def _check_outlier(spec: OutlierDetection, node: MapNode, path: str, notes: Notes) -> None:
    written = node.get("consecutiveLocalOriginFailures") is not None
    written = written and spec.consecutive_local_origin_failures > 0  # 0 asks for nothing
    if written and not spec.split_external_local_origin_errors:
        notes.error(
            "SC0601",
            f"{path}.consecutiveLocalOriginFailures needs splitExternalLocalOriginErrors",
            node.key("consecutiveLocalOriginFailures"),
            why="without it these failures are counted with the others",
            help="add `splitExternalLocalOriginErrors: true`",
        )


OUTLIER: Final = Struct(
    "OutlierDetection",
    OutlierDetection,
    (
        Field("consecutive5xxErrors", _UINT32, "5xx in a row that eject; 0: off.", default="5"),
        Field(
            "consecutiveGatewayErrors",
            _UINT32,
            "502, 503 or 504 in a row that eject; 0: off.",
            default="0",
        ),
        Field(
            "splitExternalLocalOriginErrors",
            Flag(),
            "Count failures to reach the endpoint apart from its answers.",
            default="false",
        ),
        Field(
            "consecutiveLocalOriginFailures",
            _UINT32,
            "Failures to reach it in a row that eject.",
            default="5",
        ),
        Field("interval", Duration(), "How often ejected endpoints are looked at.", default="10s"),
        Field(
            "baseEjectionTime",
            Duration(),
            "How long an ejection lasts, times how often it happened.",
            default="30s",
        ),
        Field(
            "maxEjectionPercent",
            _ZeroIs(100, 10),
            "The share of endpoints that may be ejected; 0 is read as not written. "
            "At 10 nothing is ejected of fewer than ten.",
            default="10",
        ),
        Field(
            "minHealthPercent",
            _PERCENT,
            "Below this share of healthy endpoints all are used.",
            default="0",
        ),
        Unused(
            "consecutiveErrors",
            Support.LATER,
            "Istio has replaced it: write `consecutiveGatewayErrors` or `consecutive5xxErrors`.",
        ),
        Field(
            "outlierDetectionHttpErrorCodes",
            ListOf(Whole(100, 599), most=64),
            "Statuses that are errors, and no other is: 5xx too only where they stand here.",
            "errors",
            default="5xx",
        ),
    ),
    check=_check_outlier,
)

TCP: Final = Struct(
    "TCPSettings",
    TcpPool,
    (
        Field(
            "maxConnections",
            _COUNT,
            "Connections to the destination at most.",
            default="`limits.upstreamConnections`",
        ),
        Field(
            "connectTimeout",
            Duration(),
            "How long a connection may take to come about.",
            default="`limits.connectTimeout`",
        ),
        Field(
            "tcpKeepalive",
            Struct(
                "TcpKeepalive",
                Keepalive,
                (
                    Field("probes", _PROBES, "Probes without an answer before it counts as lost."),
                    Field("time", Duration(), "How long it is idle before the first probe."),
                    Field("interval", Duration(), "The time between probes."),
                ),
            ),
            "Probes on idle connections, in whole seconds; what is not written is the system's.",
            "keepalive",
            default="no probes",
        ),
        Field(
            "maxConnectionDuration",
            Duration(),
            "How long a connection may live.",
            default="no limit",
        ),
        Field(
            "idleTimeout",
            Duration(zero=True),
            "How long it may be idle; 0s: for ever.",
            default="`limits.upstreamIdleTimeout`",
        ),
    ),
)


def _check_http(http: HttpPool, node: MapNode, path: str, notes: Notes) -> None:
    if http.h2_upgrade_policy is not H2UpgradePolicy.UPGRADE:
        return
    kept = node.get("useClientProtocol")
    if isinstance(kept, ScalarNode) and kept.value is True:
        notes.error(
            "SC0602",
            f"{path} asks for an upgrade and for the caller's protocol",
            node.key("useClientProtocol"),
            help="remove one of the two",
        )


HTTP: Final = Struct(
    "HTTPSettings",
    HttpPool,
    (
        Field(
            "http1MaxPendingRequests",
            _COUNT,
            "Requests that may wait for a connection.",
            default="`limits.upstreamPending`",
        ),
        Field(
            "http2MaxRequests",
            _COUNT,
            "Requests under way at most.",
            default="`limits.upstreamRequests`",
        ),
        Field(
            "maxRequestsPerConnection",
            _COUNT,
            "Requests after which a connection is closed.",
            default="no limit",
        ),
        Field(
            "maxRetries",
            _COUNT,
            "Retries under way at most; a `retryBudget` takes its place.",
            default="`limits.upstreamRetries`",
        ),
        Field(
            "idleTimeout",
            Duration(),
            "How long a connection may be idle.",
            default="`limits.upstreamIdleTimeout`",
        ),
        Field(
            "h2UpgradePolicy",
            Word(H2UpgradePolicy),
            "Whether calls go on over HTTP/2: where TLS agrees on it, or with the inbound's `h2c`.",
            default="DEFAULT",
        ),
        Field(
            "useClientProtocol",
            Flag(),
            "Calls go on in the protocol that they came in; over HTTP/2 where the server takes it: "
            "where TLS agrees on it, or with the inbound's `h2c`.",
            default="false",
        ),
        Field(
            "maxConcurrentStreams",
            _COUNT,
            "Streams on one HTTP/2 connection at most.",
            default="100",
        ),
        Field(
            "http2KeepAlive",
            Struct(
                "Http2KeepAlive",
                Http2Keepalive,
                (
                    Field("interval", Duration(), "The time between pings.", required=True),
                    Field("timeout", Duration(), "How long an answer may take.", required=True),
                ),
            ),
            "Pings on HTTP/2 connections.",
            default="none",
        ),
    ),
    check=_check_http,
)


def _check_pool(pool: ConnectionPool, node: MapNode, path: str, notes: Notes) -> None:
    if not node.entries:
        notes.error(
            "SC0210", f"{path} is empty", node, help="write `tcp:` or `http:`, or remove it"
        )


POOL: Final = Struct(
    "ConnectionPoolSettings",
    ConnectionPool,
    (
        Field("tcp", TCP, "Limits of connections."),
        Field("http", HTTP, "Limits of requests."),
    ),
    check=_check_pool,
)
