"""Every limit by name, with its default: what `spec.limits` of the bootstrap may set.

Sizes are bytes, times are seconds, counts are counts; none is zero or without
end. A limit is one line here: the documents' schema and the reference are made
from this class.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Final

from .schema import AnyField, Field, Struct, camel
from .values import Duration, Size, Whole

_MOST: Final = 10_000_000


class Unit(StrEnum):
    """What the number of a limit counts."""

    BYTES = "bytes"
    SECONDS = "seconds"
    COUNT = "count"


def _bytes(default: int, doc: str) -> int:
    return field(default=default, metadata={"unit": Unit.BYTES, "doc": doc})


def _time(default: float, doc: str) -> float:
    return field(default=default, metadata={"unit": Unit.SECONDS, "doc": doc})


def _count(default: int, doc: str) -> int:
    return field(default=default, metadata={"unit": Unit.COUNT, "doc": doc})


@dataclass(frozen=True, slots=True)
class Limits:
    """How much anything may be, last or hold; what is over a limit is refused."""

    # Requests, as they come in.
    request_head_bytes: int = _bytes(16_384, "Request line and header fields.")
    request_fields: int = _count(100, "Header fields of a request.")
    request_body_bytes: int = _bytes(65_536, "The body of a request.")
    request_head_timeout: float = _time(10, "From the first byte of a head to its last.")
    request_body_timeout: float = _time(30, "From the end of the head to the end of the body.")
    idle_timeout: float = _time(60, "A caller's connection without a request.")
    handshake_timeout: float = _time(10, "A TLS handshake.")
    json_depth: int = _count(64, "Nesting of a JSON-RPC message.")

    # Replies, as they go back.
    call_timeout: float = _time(300, "From a whole request to the head of its reply.")
    stream_idle_timeout: float = _time(3_600, "A stream of events without an event.")
    reply_head_bytes: int = _bytes(65_536, "Status line and header fields.")
    reply_body_bytes: int = _bytes(4_194_304, "A JSON reply, which is held until it is scanned.")
    event_bytes: int = _bytes(1_048_576, "One event of a stream.")
    write_buffer_bytes: int = _bytes(
        65_536, "What waits for a slow reader before the sender is slowed down."
    )

    # Connections.
    connections: int = _count(1_024, "Callers' connections.")
    streams: int = _count(100, "Requests under way at once on one HTTP/2 connection.")
    handshakes: int = _count(128, "TLS handshakes under way at once.")
    upstream_connections: int = _count(
        1_024, "Connections to one server, unless a DestinationRule says."
    )
    upstream_pending: int = _count(
        1_024, "Calls that wait for a connection, unless a DestinationRule says."
    )
    upstream_requests: int = _count(
        1_024, "Calls under way to one server, unless a DestinationRule says."
    )
    upstream_retries: int = _count(
        1_024, "Retries under way to one server, unless a DestinationRule says."
    )
    mirrored_calls: int = _count(
        128, "Copies of calls under way to mirrors; beyond them calls are not copied."
    )
    upstream_streams: int = _count(
        100, "Calls under way on one HTTP/2 connection, unless a DestinationRule says."
    )
    connect_timeout: float = _time(10, "Making a connection, unless a DestinationRule says.")
    upstream_idle_timeout: float = _time(
        60, "A server's connection without a call, unless a DestinationRule says."
    )
    dns_refresh: float = _time(5, "Between two look-ups of a name (`resolution: DNS`).")
    dns_addresses: int = _count(64, "Addresses of one name that are used.")
    drain_timeout: float = _time(30, "Calls under way when the sidecar is told to stop.")

    # Memory kept between requests.
    remembered_line_bytes: int = _bytes(32_768, "Header lines already judged, of one caller.")
    remembered_peers: int = _count(256, "Callers whose header lines are kept.")
    sessions: int = _count(
        10_000, "Sessions whose endpoint is known; beyond them the longest unused is forgotten."
    )
    session_lifetime: float = _time(86_400, "A session without a call, until it is forgotten.")
    rate_limit_buckets: int = _count(
        10_000, "Buckets of RateLimits; when all are in use, new ones of a limit are one."
    )
    remembered_request_bytes: int = _bytes(
        4_194_304, "Access lines of the last requests, for `sidecar why`."
    )
    tools_in_metrics: int = _count(200, "Tools that metrics tell apart; the others are `_other`.")


def _limit(name: str, default: object, unit: object, doc: object) -> Field:
    if unit is Unit.BYTES:
        return Field(camel(name), Size(), str(doc), default=_size(default))
    if unit is Unit.SECONDS:
        return Field(camel(name), Duration(), str(doc), default=f"{default:g}s")
    return Field(camel(name), Whole(1, _MOST), str(doc), default=str(default))


def _size(default: object) -> str:
    for factor, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if isinstance(default, int) and default % factor == 0:
            return f"{default // factor}{name}"
    return str(default)


def _table() -> tuple[AnyField, ...]:
    return tuple(
        _limit(one.name, one.default, one.metadata["unit"], one.metadata["doc"])
        for one in fields(Limits)
    )


LIMITS: Final = Struct("Limits", Limits, _table())
