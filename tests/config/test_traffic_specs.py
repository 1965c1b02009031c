"""Which settings hold for a port and for a subset, as Istio merges them."""

from __future__ import annotations

import pytest

from sidecar.config.traffic_specs import (
    Balance,
    ConnectionPool,
    LoadBalancer,
    OutlierDetection,
    TcpPool,
    TrafficPolicy,
)

ROBIN = LoadBalancer(Balance.ROUND_ROBIN)
RANDOM = LoadBalancer(Balance.RANDOM)
HEALTH = OutlierDetection()
SMALL = ConnectionPool(TcpPool(max_connections=1))

OF_PORT = TrafficPolicy(connection_pool=SMALL)
WHOLE = TrafficPolicy(ROBIN, outlier_detection=HEALTH, ports={80: OF_PORT})


def test_what_is_said_of_a_port_takes_the_place_of_everything() -> None:
    assert WHOLE.for_port(80) == OF_PORT
    assert WHOLE.for_port(81) is WHOLE


@pytest.mark.parametrize(
    ("subset", "port", "wanted"),
    [
        (TrafficPolicy(), 81, (ROBIN, None, HEALTH)),
        (TrafficPolicy(RANDOM), 81, (RANDOM, None, HEALTH)),
        (TrafficPolicy(connection_pool=SMALL), 81, (ROBIN, SMALL, HEALTH)),
        # A port's own settings are what a subset inherits there.
        (TrafficPolicy(RANDOM), 80, (RANDOM, SMALL, None)),
        # And those of the subset's port inherit nothing.
        (TrafficPolicy(RANDOM, ports={80: TrafficPolicy()}), 80, (None, None, None)),
        (TrafficPolicy(RANDOM, ports={80: TrafficPolicy()}), 81, (RANDOM, None, HEALTH)),
    ],
)
def test_a_subset_inherits_block_by_block(
    subset: TrafficPolicy, port: int, wanted: tuple[object, object, object]
) -> None:
    found = WHOLE.under(subset, port)
    assert (found.load_balancer, found.connection_pool, found.outlier_detection) == wanted
