"""What a cluster is, before anything is connected: its endpoints and how to treat them."""

from __future__ import annotations

from dataclasses import dataclass

from .endpoint import OutlierSpec, PoolSpec


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """One address of a cluster, as written: `host:port` or `unix:/path`."""

    address: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """A named set of endpoints with the limits of its pool and of ejection.

    `outlier` None: nothing is ever ejected. `min_health_percent` is Istio's: below
    it ejection is ignored; 0 means that no healthy endpoint is no endpoint.
    """

    name: str
    endpoints: tuple[EndpointSpec, ...]
    pool: PoolSpec = PoolSpec()
    outlier: OutlierSpec | None = None
    balance: str = "LEAST_REQUEST"
    min_health_percent: int = 0
