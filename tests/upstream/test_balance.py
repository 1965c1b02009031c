"""Who takes the next call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.upstream.balance import Algorithm, Balancer, Warmup
from sidecar.upstream.endpoint import Endpoint


def cluster(*weights: int) -> list[Endpoint]:
    return [Endpoint(f"10.0.0.{i}:80", weight) for i, weight in enumerate(weights)]


def evenly() -> Callable[[], float]:
    """Numbers in [0, 1) that fill it evenly, in an order of no meaning."""
    steps = count(1)
    return lambda: next(steps) * 0.6180339887498949 % 1


def shares(
    balancer: Balancer, endpoints: list[Endpoint], picks: int, now: float = 0.0
) -> list[int]:
    counter: Counter[Endpoint | None] = Counter(balancer.pick(endpoints, now) for _ in range(picks))
    return [counter[endpoint] for endpoint in endpoints]


@pytest.mark.parametrize("algorithm", Algorithm)
def test_nobody_takes_a_call_where_nobody_is(algorithm: Algorithm) -> None:
    assert Balancer(algorithm, evenly()).pick([], 0.0) is None


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_ejected_endpoints_are_passed_over(algorithm: Algorithm, size: int) -> None:
    endpoints = cluster(*[1] * size)
    balancer = Balancer(algorithm, evenly())
    endpoints[0].ejected = True
    assert shares(balancer, endpoints, 50)[0] == 0
    for endpoint in endpoints:
        endpoint.ejected = True
    assert balancer.pick(endpoints, 0.0) is None


@pytest.mark.parametrize(
    ("min_health_percent", "out", "used"),
    [(0, 4, 0), (50, 2, 2), (50, 3, 4), (51, 2, 4), (100, 1, 4), (1, 4, 4)],
)
def test_below_the_panic_threshold_everybody_is_used(
    min_health_percent: int, out: int, used: int
) -> None:
    endpoints = cluster(1, 1, 1, 1)
    for endpoint in endpoints[:out]:
        endpoint.ejected = True
    balancer = Balancer("ROUND_ROBIN", evenly(), min_health_percent=min_health_percent)
    assert sum(share > 0 for share in shares(balancer, endpoints, 40)) == used


@pytest.mark.parametrize("algorithm", Algorithm)
def test_who_failed_this_call_is_asked_again_only_if_nobody_else_is_left(
    algorithm: Algorithm,
) -> None:
    endpoints = cluster(1, 1, 1)
    balancer = Balancer(algorithm, evenly())
    assert balancer.pick(endpoints, 0.0, avoid=endpoints[:2]) is endpoints[2]
    assert balancer.pick(endpoints, 0.0, avoid=endpoints) in endpoints
    endpoints[2].ejected = True
    assert balancer.pick(endpoints, 0.0, avoid=endpoints[:2]) in endpoints[:2]


@pytest.mark.parametrize("size", [2, 3])
def test_among_few_the_least_loaded_is_always_found(size: int) -> None:
    endpoints = cluster(*[1] * size)
    for endpoint in endpoints[:-1]:
        endpoint.in_flight = 1
    balancer = Balancer("LEAST_REQUEST", evenly())
    assert shares(balancer, endpoints, 30)[-1] == 30


def test_among_many_the_less_loaded_of_two_is_taken() -> None:
    endpoints = cluster(1, 1, 1, 1)
    endpoints[0].in_flight, endpoints[2].in_flight = 5, 4
    draws = iter([0.1, 0.6])
    assert Balancer("LEAST_REQUEST", lambda: next(draws)).pick(endpoints, 0.0) is endpoints[2]


def test_the_busiest_of_many_is_hardly_ever_taken() -> None:
    endpoints = cluster(*[1] * 10)
    endpoints[0].in_flight = 100
    busy = shares(Balancer("LEAST_REQUEST", Random(1).random), endpoints, 1000)[0]
    assert busy < 50  # only where it was drawn twice: 1 %


def test_load_is_held_against_weight() -> None:
    light, heavy = cluster(1, 3)
    light.in_flight, heavy.in_flight = 1, 2
    balancer = Balancer("LEAST_REQUEST", evenly())
    assert balancer.pick([light, heavy], 0.0) is heavy
    heavy.in_flight = 4
    assert balancer.pick([light, heavy], 0.0) is light


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("weights", [(1, 3), (1, 1, 2), (1, 1, 1, 1), (5, 1, 1, 1)])
def test_an_idle_cluster_is_used_by_weight(algorithm: Algorithm, weights: tuple[int, ...]) -> None:
    endpoints = cluster(*weights)
    picks = 200 * sum(weights)
    taken = shares(Balancer(algorithm, Random(7).random), endpoints, picks)
    assert taken == pytest.approx([200 * weight for weight in weights], rel=0.25)


def test_round_robin_takes_turns() -> None:
    endpoints = cluster(1, 1, 1)
    balancer = Balancer("ROUND_ROBIN", evenly())
    turns = [balancer.pick(endpoints, 0.0) for _ in range(6)]
    assert turns == endpoints * 2


def test_a_heavy_endpoint_does_not_take_its_turns_in_one_go() -> None:
    heavy, *others = cluster(2, 1, 1)
    balancer = Balancer("ROUND_ROBIN", evenly())
    turns = [balancer.pick([heavy, *others], 0.0) for _ in range(4)]
    assert turns.count(heavy) == 2
    assert turns[0] is not turns[1]


@pytest.mark.parametrize(
    ("age", "share"),
    [(0.0, 0.1), (30.0, 0.3), (50.0, 0.5), (100.0, 1.0), (1000.0, 1.0)],
)
def test_a_new_endpoint_warms_up(age: float, share: float) -> None:
    old, new = Endpoint("10.0.0.1:80"), Endpoint("10.0.0.2:80", since=500.0)
    balancer = Balancer("RANDOM", evenly(), warmup=Warmup(100.0))
    taken = shares(balancer, [old, new], 2000, now=500.0 + age)
    assert taken[1] / taken[0] == pytest.approx(share, rel=0.05)


def test_an_aggressive_warmup_gives_more_early() -> None:
    old, new = Endpoint("10.0.0.1:80"), Endpoint("10.0.0.2:80", since=0.0)
    balancer = Balancer("RANDOM", evenly(), warmup=Warmup(100.0, aggression=2.0))
    taken = shares(balancer, [old, new], 2000, now=25.0)
    assert taken[1] / taken[0] == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Balancer("LEAST_CONNECTIONS", evenly()),
        lambda: Balancer("RANDOM", evenly(), min_health_percent=101),
        lambda: Balancer("RANDOM", evenly(), min_health_percent=-1),
        lambda: Warmup(0.0),
        lambda: Warmup(1.0, minimum_percent=101),
        lambda: Warmup(1.0, aggression=0.5),
    ],
)
def test_a_setting_without_meaning_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        make()


@given(
    algorithm=st.sampled_from(Algorithm),
    members=st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.integers(0, 9)), max_size=6),
    avoid=st.sets(st.integers(0, 5)),
    seed=st.integers(0, 1000),
)
def test_whoever_is_picked_may_be_picked(
    algorithm: Algorithm, members: list[tuple[int, bool, int]], avoid: set[int], seed: int
) -> None:
    endpoints = cluster(*[weight for weight, _, _ in members])
    for endpoint, (_, ejected, in_flight) in zip(endpoints, members, strict=True):
        endpoint.ejected, endpoint.in_flight = ejected, in_flight
    shunned = [endpoint for i, endpoint in enumerate(endpoints) if i in avoid]
    picked = Balancer(algorithm, Random(seed).random).pick(endpoints, 0.0, shunned)
    healthy = [endpoint for endpoint in endpoints if not endpoint.ejected]
    if picked is None:
        assert not healthy
    else:
        assert picked in healthy
        assert picked not in shunned or all(endpoint in shunned for endpoint in healthy)


def test_calls_of_one_key_go_to_one_endpoint_however_loaded_it_is() -> None:
    hosts = [Endpoint(f"10.0.0.{number}:80") for number in range(4)]
    balancer = Balancer("LEAST_REQUEST", lambda: 0.0)
    first = balancer.pick(hosts, 0.0, key=b"ann")
    assert first is not None
    first.in_flight = 1000
    assert all(balancer.pick(hosts, 0.0, key=b"ann") is first for _ in range(5))
    keys = {balancer.pick(hosts, 0.0, key=b"%d" % number) for number in range(100)}
    assert keys == set(hosts)


def test_a_key_moves_when_its_endpoint_may_not_be_used_and_comes_back_with_it() -> None:
    hosts = [Endpoint(f"10.0.0.{number}:80") for number in range(4)]
    balancer = Balancer("RANDOM", lambda: 0.0)
    first = balancer.pick(hosts, 0.0, key=b"ann")
    assert first is not None
    second = balancer.pick(hosts, 0.0, avoid=[first], key=b"ann")
    first.ejected = True
    assert balancer.pick(hosts, 0.0, key=b"ann") is second is not first
    first.ejected = False
    assert balancer.pick(hosts, 0.0, key=b"ann") is first


@pytest.mark.parametrize(("percent", "admitted"), [(0, False), (50, False), (100, True)])
def test_who_is_ejected_is_admitted_in_a_panic_only(percent: int, admitted: bool) -> None:
    hosts = [Endpoint(f"10.0.0.{number}:80") for number in range(2)]
    balancer = Balancer("RANDOM", lambda: 0.0, min_health_percent=percent)
    hosts[0].ejected = True
    assert balancer.admits(hosts, hosts[0]) is admitted
    assert balancer.admits(hosts, hosts[1])
