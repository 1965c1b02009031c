"""What a cluster is, before anything is connected: its endpoints and how to treat them."""

from __future__ import annotations

from dataclasses import dataclass, field

from .balance import Algorithm
from .endpoint import OutlierSpec, PoolSpec


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """One address of a cluster, as written: `host:port` or `unix:/path`."""

    address: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """A named set of endpoints with the limits of its pool and of ejection.

    `outlier` None: nothing is ever ejected. Where fewer than `min_health_percent` of the
    endpoints are in, ejection is ignored.
    """

    name: str
    endpoints: tuple[EndpointSpec, ...]
    pool: PoolSpec = field(default_factory=PoolSpec)
    outlier: OutlierSpec | None = None
    balance: Algorithm = Algorithm.LEAST_REQUEST
    min_health_percent: int = 0
