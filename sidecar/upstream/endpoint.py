"""One address of a cluster and what is known of it; the limits of a pool and of ejection.

Specs are compiled once and frozen; an `Endpoint` lives as long as its address
stays in the cluster, reloads included. Nothing here opens a connection, picks
an endpoint or decides an ejection. Times are float seconds; `inf` means never.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Final

# `sun_path` of Linux holds 108 bytes with its closing NUL.
_MAX_UNIX_PATH: Final = 107

# Envoy: max_ejection_time, where it is not written, is the larger of this and the base.
_MAX_EJECTION_TIME: Final = 300.0


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Probes on idle connections (Istio's `tcpKeepalive`); 0 leaves the system's setting.

    After `time` seconds of silence a probe every `interval` seconds, and after `probes` of
    them without an answer the connection is lost.
    """

    probes: int = 0
    time: float = 0.0
    interval: float = 0.0


@dataclass(frozen=True, slots=True)
class Http2Keepalive:
    """After `interval` seconds an HTTP/2 server is asked whether it lives; it has `timeout`."""

    interval: float
    timeout: float


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """Limits of the connections to one cluster (Istio's `connectionPool`), with our defaults.

    0 means unlimited in `max_requests_per_connection` only; a timeout that is
    off is `inf`. Raises ValueError where a value has no meaning.
    """

    max_connections: int = 1024
    max_pending: int = 1024
    max_requests: int = 1024
    max_requests_per_connection: int = 0
    connect_timeout: float = 10.0
    idle_timeout: float = 60.0
    max_connection_duration: float = inf
    keepalive: Keepalive | None = None
    http2: bool = False  # spoken where it is agreed on, or in plaintext by choice
    preserve: bool = False  # and then with none but the callers who speak it themselves
    max_streams: int = 100  # on one HTTP/2 connection
    http2_keepalive: Http2Keepalive | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name not in ("keepalive", "http2_keepalive"):
                _at_least(name, value, 0)
        _at_least("max_connections", self.max_connections, 1)
        _at_least("max_streams", self.max_streams, 1)
        _positive("connect_timeout", self.connect_timeout)
        _positive("idle_timeout", self.idle_timeout)
        _positive("max_connection_duration", self.max_connection_duration)

    @property
    def spoken(self) -> tuple[bool, bool]:
        """What connections are made to speak, which a change makes others of."""
        return self.http2, self.preserve


@dataclass(frozen=True, slots=True)
class OutlierSpec:
    """When an endpoint is taken out of balancing, and for how long.

    Names are Envoy's; the defaults are what Istio makes of an empty
    `outlierDetection: {}` (success rate is never enforced). Percentages are 0
    to 100; a run length of 0 switches that detector off. Where there are statuses
    in `errors`, they are errors and no other is, 5xx neither (Istio's
    `outlierDetectionHttpErrorCodes`). Raises ValueError where a value has no meaning.
    """

    consecutive_5xx: int = 5
    consecutive_gateway_failure: int = 5
    consecutive_local_origin_failure: int = 5
    enforcing_consecutive_5xx: int = 100
    enforcing_consecutive_gateway_failure: int = 0
    enforcing_consecutive_local_origin_failure: int = 100
    split_external_local_origin_errors: bool = False
    interval: float = 10.0
    base_ejection_time: float = 30.0
    max_ejection_time: float = 0.0
    max_ejection_time_jitter: float = 0.0
    max_ejection_percent: int = 10
    always_eject_one_host: bool = False
    enforcing_success_rate: int = 0
    enforcing_local_origin_success_rate: int = 0
    success_rate_minimum_hosts: int = 5
    success_rate_request_volume: int = 100
    success_rate_stdev_factor: int = 1900
    enforcing_failure_percentage: int = 0
    enforcing_failure_percentage_local_origin: int = 0
    failure_percentage_threshold: int = 85
    failure_percentage_minimum_hosts: int = 5
    failure_percentage_request_volume: int = 50
    errors: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name == "errors":
                continue
            _at_least(name, value, 0)
            if name.startswith("enforcing") or name.endswith(("_percent", "_threshold")):
                _at_most(name, value, 100)
        _positive("interval", self.interval)
        _positive("base_ejection_time", self.base_ejection_time)
        if not self.max_ejection_time:
            longest = max(_MAX_EJECTION_TIME, self.base_ejection_time)
            object.__setattr__(self, "max_ejection_time", longest)
        elif self.max_ejection_time < self.base_ejection_time:
            raise ValueError("`max_ejection_time` is shorter than `base_ejection_time`")

    @classmethod
    def of_istio(
        cls,
        *,
        consecutive_5xx_errors: int | None = None,
        consecutive_gateway_errors: int | None = None,
        split_external_local_origin_errors: bool = False,
        consecutive_local_origin_failures: int | None = None,
        interval: float | None = None,
        base_ejection_time: float | None = None,
        max_ejection_percent: int = 0,
        errors: Iterable[int] = (),
    ) -> OutlierSpec:
        """Return the spec that Istio makes of an `outlierDetection` block; None is "not written".

        A run length that is written is enforced, unless it is 0. The gateway
        detector is off until it is written. `consecutiveLocalOriginFailures`
        acts only with the split. `minHealthPercent` belongs to balancing.
        """
        run, gateway = consecutive_5xx_errors, consecutive_gateway_errors
        local = consecutive_local_origin_failures if split_external_local_origin_errors else None
        return cls(
            consecutive_5xx=5 if run is None else run,
            enforcing_consecutive_5xx=0 if run == 0 else 100,
            consecutive_gateway_failure=5 if gateway is None else gateway,
            enforcing_consecutive_gateway_failure=100 if gateway else 0,
            split_external_local_origin_errors=split_external_local_origin_errors,
            consecutive_local_origin_failure=local or 5,
            interval=10.0 if interval is None else interval,
            base_ejection_time=30.0 if base_ejection_time is None else base_ejection_time,
            max_ejection_percent=max_ejection_percent or 10,
            errors=frozenset(errors),
        )


@dataclass(slots=True, eq=False)
class Endpoint:
    """One address: `host:port`, `[ipv6]:port`, `unix:/path` or `stdio:NAME`; compared by identity.

    `since` is when it joined its cluster (for warm-up). Whoever lends its
    connections calls `begin` and `end`; the rest of the state below the line
    is `Outlier`'s and `Balancer`'s. Raises ValueError for an address that is none.
    """

    address: str
    weight: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)
    since: float = -inf

    # What the address means: `unix` is a path, or empty where `host` and `port` hold. All are
    # empty of `stdio:`, which is inside this process.
    host: str = field(init=False, default="")
    port: int = field(init=False, default=0)
    unix: str = field(init=False, default="")

    # Load.
    in_flight: int = field(init=False, default=0)
    calls: int = field(init=False, default=0)
    credit: float = field(init=False, default=0.0)

    # Ejection.
    ejected: bool = field(init=False, default=False)
    ejected_at: float = field(init=False, default=-inf)
    returned_at: float = field(init=False, default=inf)
    jitter: float = field(init=False, default=0.0)
    multiplier: int = field(init=False, default=0)
    ejections: int = field(init=False, default=0)

    # Runs of consecutive failures.
    run_5xx: int = field(init=False, default=0)
    run_gateway: int = field(init=False, default=0)
    run_local: int = field(init=False, default=0)

    # Successes and failures since the last sweep, of replies and of our own attempts.
    good: int = field(init=False, default=0)
    bad: int = field(init=False, default=0)
    local_good: int = field(init=False, default=0)
    local_bad: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        _at_least("weight", self.weight, 1)
        if self.address.startswith("unix:"):
            self.unix = _unix_path(self.address)
        elif not self.is_inside:
            self.host, self.port = _host_and_port(self.address)

    @property
    def is_inside(self) -> bool:
        """Whether it is reached within this process, over no network."""
        return self.address.startswith("stdio:")

    def __str__(self) -> str:
        state = f"ejected {self.ejections}x" if self.ejected else "in"
        return f"{self.address} {state}, {self.in_flight} in flight, {self.calls} calls"

    def begin(self) -> None:
        """Count a call that starts here."""
        self.in_flight += 1
        self.calls += 1

    def end(self) -> None:
        """Count a call that has ended here, however it ended."""
        self.in_flight -= 1

    def clear_runs(self) -> None:
        """Forget the runs of failures, as a return to balancing does."""
        self.run_5xx = self.run_gateway = self.run_local = 0


def _unix_path(address: str) -> str:
    path = address.removeprefix("unix:")
    if not path.startswith("/") or "\0" in path:
        raise ValueError(f"`{address}`: write an absolute path after `unix:`")
    if len(path.encode()) > _MAX_UNIX_PATH:
        raise ValueError(f"`{address}`: a socket's path has at most {_MAX_UNIX_PATH} bytes")
    return path


def _host_and_port(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if not colon or not host or (":" in host) is not bracketed:
        raise ValueError(f"`{address}` is not an address: write `host:port` or `unix:/path`")
    if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
        raise ValueError(f"`{address}`: the port is a number from 1 to 65535")
    return host, int(port)


def _at_least(name: str, value: float, least: int) -> None:
    if value < least:
        raise ValueError(f"`{name}` is {value}: it must be at least {least}")


def _at_most(name: str, value: float, most: int) -> None:
    if value > most:
        raise ValueError(f"`{name}` is {value}: it must be at most {most}")


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"`{name}` is {value}: it must be more than 0 seconds")
