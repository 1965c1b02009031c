"""Which endpoint takes the next call: least request, round robin or random, by weight.

A call with a key goes where that key belongs, whoever else is less loaded.
Ejected endpoints are passed over unless so many are out that panic is the
lesser evil. It is told the time and handed its randomness; it leases nothing
and changes an endpoint only in its round-robin credit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .affinity import nearest
from .endpoint import Endpoint

# Up to here it costs no more to look at all than to draw two.
_FEW: Final = 3


class Algorithm(StrEnum):
    """Istio's `loadBalancer.simple`, the values we act on."""

    LEAST_REQUEST = "LEAST_REQUEST"
    ROUND_ROBIN = "ROUND_ROBIN"
    RANDOM = "RANDOM"


@dataclass(frozen=True, slots=True)
class Warmup:
    """How a new endpoint's share grows (Istio's `loadBalancer.warmup`).

    For `duration` seconds its weight grows from `minimum_percent` of itself, along
    a curve that `aggression` bends (1 is a straight line). Raises ValueError where
    a value has no meaning.
    """

    duration: float
    minimum_percent: float = 10
    aggression: float = 1.0

    def __post_init__(self) -> None:
        if not self.duration > 0:
            raise ValueError(f"`duration` is {self.duration}: it must be more than 0 seconds")
        if not 0 <= self.minimum_percent <= 100:
            raise ValueError(f"`minimum_percent` is {self.minimum_percent}: it must be 0 to 100")
        if not self.aggression >= 1:
            raise ValueError(f"`aggression` is {self.aggression}: it must be at least 1")


class Balancer:
    """Chooses among a cluster's endpoints; `rand` gives floats in [0, 1).

    Where fewer than `min_health_percent` of the endpoints are in, all are used
    (Istio's `minHealthPercent`, Envoy's panic threshold); 0 means never. Raises
    ValueError for an algorithm or a percentage that is none.
    """

    def __init__(
        self,
        algorithm: str,
        rand: Callable[[], float],
        *,
        min_health_percent: int = 0,
        warmup: Warmup | None = None,
    ) -> None:
        if not 0 <= min_health_percent <= 100:
            raise ValueError(f"`min_health_percent` is {min_health_percent}: it must be 0 to 100")
        self._algorithm = Algorithm(algorithm)
        self._rand = rand
        self._min_health_percent = min_health_percent
        self._warmup = warmup

    def pick(
        self,
        endpoints: Sequence[Endpoint],
        now: float,
        avoid: Collection[Endpoint] = (),
        key: bytes | None = None,
    ) -> Endpoint | None:
        """Return the endpoint for the next call, or None where no endpoint may take it.

        *avoid* names those that failed this call already: they are used only
        where nobody else is left. Calls of one *key* go to one endpoint.
        """
        if len(endpoints) == 1 and not endpoints[0].ejected:
            return endpoints[0]
        candidates = self._in_balancing(endpoints)
        if avoid:
            candidates = [one for one in candidates if one not in avoid] or candidates
        if not candidates:
            return None
        if key is not None:
            return nearest(key, [(one, one.address, one.weight) for one in candidates])
        match self._algorithm:
            case Algorithm.LEAST_REQUEST:
                return self._least_request(candidates, now)
            case Algorithm.ROUND_ROBIN:
                return self._next_in_turn(candidates, now)
            case Algorithm.RANDOM:
                return self._draw(candidates, now)

    def admits(self, endpoints: Sequence[Endpoint], endpoint: Endpoint) -> bool:
        """Whether *endpoint*, of *endpoints*, may be used for a call that belongs there."""
        return not endpoint.ejected or endpoint in self._in_balancing(endpoints)

    def _in_balancing(self, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
        healthy = [one for one in endpoints if not one.ejected]
        if 100 * len(healthy) < self._min_health_percent * len(endpoints):
            return endpoints
        return healthy

    def _least_request(self, candidates: Sequence[Endpoint], now: float) -> Endpoint:
        # The drawn one wins ties, so that an idle cluster is used by weight and
        # not always from the front.
        best = self._draw(candidates, now)
        rivals = candidates if len(candidates) <= _FEW else (self._draw(candidates, now),)
        load = best.in_flight / self._weight(best, now)
        for rival in rivals:
            its_load = rival.in_flight / self._weight(rival, now)
            if its_load < load:
                best, load = rival, its_load
        return best

    def _next_in_turn(self, candidates: Sequence[Endpoint], now: float) -> Endpoint:
        # Smooth weighted round robin: each earns its weight, the richest pays for all.
        earned = 0.0
        for one in candidates:
            weight = self._weight(one, now)
            one.credit += weight
            earned += weight
        richest = max(candidates, key=_credit)
        richest.credit -= earned
        return richest

    def _draw(self, candidates: Sequence[Endpoint], now: float) -> Endpoint:
        weights = [self._weight(one, now) for one in candidates]
        point = self._rand() * sum(weights)
        for one, weight in zip(candidates, weights, strict=True):
            point -= weight
            if point < 0:
                return one
        return candidates[-1]

    def _weight(self, endpoint: Endpoint, now: float) -> float:
        warmup = self._warmup
        age = now - endpoint.since
        if warmup is None or age >= warmup.duration:
            return endpoint.weight
        grown: float = (max(age, 1.0) / warmup.duration) ** (1 / warmup.aggression)
        return endpoint.weight * min(1.0, max(warmup.minimum_percent / 100, grown))


def _credit(endpoint: Endpoint) -> float:
    return endpoint.credit
