"""Ejection and return, in the small; `test_outlier_scenarios` has Envoy's own scripts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.upstream.endpoint import Endpoint, OutlierSpec
from sidecar.upstream.outlier import Action, Event, Kind, Outcome, Outlier

ALL = OutlierSpec(max_ejection_percent=100)


def zero() -> float:
    return 0.0


def cluster(size: int) -> list[Endpoint]:
    return [Endpoint(f"10.0.0.{i}:80") for i in range(size)]


def failing(
    spec: OutlierSpec | None, size: int = 1, rand: Callable[[], float] = zero
) -> tuple[Outlier, list[Endpoint]]:
    hosts = cluster(size)
    return Outlier(spec, hosts, rand), hosts


def fail(outlier: Outlier, endpoint: Endpoint, times: int = 5, now: float = 0.0) -> list[Event]:
    events: list[Event] = []
    for _ in range(times):
        events += outlier.report_status(endpoint, 500, now)
    return events


def test_without_a_spec_nothing_is_ever_ejected() -> None:
    outlier, (host,) = failing(None)
    assert fail(outlier, host, 100) == []
    assert outlier.report_local(host, Outcome.CONNECT_FAILED, 0.0) == ()
    assert outlier.sweep(10.0) == ()
    assert outlier.tick(10.0) == ()
    assert not host.ejected


def test_an_ejection_and_a_return_are_told() -> None:
    outlier, (host,) = failing(ALL)
    assert fail(outlier, host, 5, now=7.0) == [
        Event(7.0, "10.0.0.0:80", Action.EJECTED, Kind.CONSECUTIVE_5XX, 1)
    ]
    assert outlier.sweep(36.9) == ()
    assert outlier.sweep(37.0) == (Event(37.0, "10.0.0.0:80", Action.RETURNED, None, 1),)


def test_one_reply_can_end_two_runs() -> None:
    outlier, (host,) = failing(ALL)
    events = [event for _ in range(5) for event in outlier.report_status(host, 503, 0.0)]
    assert [(event.kind, event.action) for event in events] == [
        (Kind.CONSECUTIVE_GATEWAY_FAILURE, Action.NOT_ENFORCED),
        (Kind.CONSECUTIVE_5XX, Action.EJECTED),
    ]
    statistics = outlier.statistics()
    assert statistics["ejections_detected_consecutive_gateway_failure"] == 1
    assert statistics["ejections_enforced_consecutive_gateway_failure"] == 0
    assert statistics["ejections_enforced_consecutive_5xx"] == 1
    assert statistics["ejections_enforced_total"] == 1
    assert statistics["ejections_total"] == 2


def test_a_success_ends_a_gateway_run_that_outlived_the_5xx_run() -> None:
    spec = OutlierSpec(
        consecutive_5xx=3, enforcing_consecutive_5xx=0, enforcing_consecutive_gateway_failure=100,
        max_ejection_percent=100,
    )  # fmt: skip
    outlier, (host,) = failing(spec)
    for status in (503, 503, 503, 200, 503, 503, 503, 503):
        outlier.report_status(host, status, 0.0)
    assert not host.ejected
    outlier.report_status(host, 503, 0.0)
    assert host.ejected


def test_an_overflow_is_told_and_counted() -> None:
    outlier, hosts = failing(OutlierSpec(), size=3)
    assert [event.action for event in fail(outlier, hosts[0])] == [Action.OVERFLOW]
    assert outlier.statistics()["ejections_overflow"] == 1
    assert outlier.statistics()["ejections_total"] == 0


def test_one_endpoint_may_always_go_where_that_is_written() -> None:
    spec = OutlierSpec(max_ejection_percent=10, always_eject_one_host=True)
    outlier, hosts = failing(spec, size=3)
    fail(outlier, hosts[0])
    fail(outlier, hosts[1])
    assert [host.ejected for host in hosts] == [True, False, False]


@pytest.mark.parametrize(("chance", "ejected"), [(0.29, True), (0.30, False), (0.99, False)])
def test_enforcement_is_a_percentage(chance: float, ejected: bool) -> None:
    spec = OutlierSpec(max_ejection_percent=100, enforcing_consecutive_5xx=30)
    outlier, (host,) = failing(spec, rand=lambda: chance)
    fail(outlier, host)
    assert host.ejected is ejected


def eject_and_return(outlier: Outlier, host: Endpoint, now: float) -> float:
    """Eject *host*, sweep every interval until it is back, and return when that was."""
    fail(outlier, host, now=now)
    assert host.ejected
    while host.ejected:
        now += 10.0
        outlier.sweep(now)
    return now


def test_the_first_return_is_foretold() -> None:
    hosts = cluster(3)
    outlier = Outlier(OutlierSpec(max_ejection_percent=100), hosts, zero)
    assert outlier.next_return(0.0) == 0
    fail(outlier, hosts[0], now=10.0)
    fail(outlier, hosts[1], now=20.0)
    assert outlier.next_return(25.0) == 15
    assert outlier.next_return(90.0) == 0


def test_each_ejection_is_longer_than_the_last() -> None:
    outlier, (host,) = failing(ALL)
    now, terms = 0.0, []
    for _ in range(3):
        back = eject_and_return(outlier, host, now)
        terms.append(back - now)
        now = back
    assert terms == [30.0, 60.0, 90.0]


def test_health_is_rewarded_sweep_by_sweep() -> None:
    outlier, (host,) = failing(ALL)
    now = eject_and_return(outlier, host, eject_and_return(outlier, host, 0.0))
    outlier.sweep(now + 10.0)
    assert eject_and_return(outlier, host, now + 10.0) == now + 10.0 + 60.0


def test_a_long_history_of_failures_is_forgiven_as_fast_as_the_longest_term() -> None:
    spec = OutlierSpec(base_ejection_time=10.0, max_ejection_time=20.0, max_ejection_percent=100)
    outlier, (host,) = failing(spec)
    now = 0.0
    for _ in range(20):
        now = eject_and_return(outlier, host, now)
    for _ in range(3):
        now += 10.0
        outlier.sweep(now)
    assert eject_and_return(outlier, host, now) == now + 10.0


def test_a_run_that_was_found_starts_again_even_if_nobody_was_ejected() -> None:
    outlier, hosts = failing(OutlierSpec(), size=2)
    assert len(fail(outlier, hosts[0], 14)) == 2


def test_who_returns_has_no_run_behind_it() -> None:
    spec = OutlierSpec(max_ejection_percent=100, split_external_local_origin_errors=True)
    outlier, (host,) = failing(spec)
    for _ in range(4):
        outlier.report_local(host, Outcome.RESET, 0.0)
    now = eject_and_return(outlier, host, 0.0)
    assert outlier.report_local(host, Outcome.RESET, now) == ()


@pytest.mark.parametrize("begin", [0.007, 0.1, 0.3, 1.1, 3.7, 1e6 + 0.3])
def test_a_term_that_was_served_to_the_millisecond_is_served(begin: float) -> None:
    spec = OutlierSpec(base_ejection_time=1.0, max_ejection_percent=100, interval=1.0)
    outlier, (host,) = failing(spec)
    fail(outlier, host, now=begin)
    outlier.sweep(begin + 0.999)
    assert host.ejected
    outlier.sweep((round(begin * 1000) + 1000) / 1000)
    assert not host.ejected
    outlier.sweep((round(begin * 1000) + 2000) / 1000)
    assert host.multiplier == 0


def test_jitter_lengthens_an_ejection() -> None:
    spec = OutlierSpec(max_ejection_percent=100, max_ejection_time_jitter=8.0)
    outlier, (host,) = failing(spec, rand=lambda: 0.25)
    fail(outlier, host)
    outlier.sweep(31.9)
    assert host.ejected
    outlier.sweep(32.0)
    assert not host.ejected


@pytest.mark.parametrize("outcome", [Outcome.CONNECT_FAILED, Outcome.TIMEOUT, Outcome.RESET])
@pytest.mark.parametrize("split", [False, True])
def test_our_own_failures_eject(outcome: Outcome, split: bool) -> None:
    spec = OutlierSpec(max_ejection_percent=100, split_external_local_origin_errors=split)
    outlier, (host,) = failing(spec)
    for _ in range(4):
        outlier.report_local(host, outcome, 0.0)
    assert not host.ejected
    (event, *_) = outlier.report_local(host, outcome, 0.0)
    assert host.ejected
    assert (event.kind is Kind.CONSECUTIVE_LOCAL_ORIGIN_FAILURE) is split


def test_with_the_split_replies_and_attempts_have_runs_of_their_own() -> None:
    spec = OutlierSpec(max_ejection_percent=100, split_external_local_origin_errors=True)
    outlier, (host,) = failing(spec)
    for _ in range(4):
        outlier.report_local(host, Outcome.RESET, 0.0)
        outlier.report_status(host, 500, 0.0)
        outlier.report_status(host, 200, 0.0)
    assert not host.ejected
    outlier.report_local(host, Outcome.CONNECTED, 0.0)
    for _ in range(4):
        outlier.report_local(host, Outcome.RESET, 0.0)
    assert not host.ejected
    outlier.report_local(host, Outcome.RESET, 0.0)
    assert host.ejected


def test_local_success_rates_are_judged_apart() -> None:
    spec = OutlierSpec(
        max_ejection_percent=100, split_external_local_origin_errors=True,
        enforcing_local_origin_success_rate=100, enforcing_consecutive_local_origin_failure=0,
    )  # fmt: skip
    outlier, hosts = failing(spec, size=5)
    for host in hosts:
        for _ in range(200):
            outlier.report_local(host, Outcome.CONNECTED, 0.0)
    for _ in range(200):
        outlier.report_local(hosts[4], Outcome.TIMEOUT, 0.0)
    events = outlier.sweep(10.0)
    assert [event.kind for event in events] == [Kind.LOCAL_ORIGIN_SUCCESS_RATE]
    assert [host.ejected for host in hosts] == [False] * 4 + [True]


def test_who_is_found_by_rate_and_by_percentage_is_ejected_once() -> None:
    spec = OutlierSpec(
        max_ejection_percent=100, enforcing_consecutive_5xx=0,
        enforcing_success_rate=100, enforcing_failure_percentage=100,
    )  # fmt: skip
    outlier, hosts = failing(spec, size=5)
    for host in hosts[:4]:
        for _ in range(200):
            outlier.report_status(host, 200, 0.0)
    fail(outlier, hosts[4], 200)
    outlier.sweep(10.0)
    statistics = outlier.statistics()
    assert statistics["ejections_active"] == statistics["ejections_enforced_total"] == 1
    assert statistics["ejections_enforced_success_rate"] == 1


def test_rates_count_from_one_sweep_to_the_next() -> None:
    spec = OutlierSpec(
        max_ejection_percent=100, enforcing_consecutive_5xx=0, enforcing_failure_percentage=100,
        failure_percentage_minimum_hosts=1,
    )  # fmt: skip
    outlier, (host,) = failing(spec)
    fail(outlier, host, 49)
    outlier.sweep(10.0)
    fail(outlier, host, 49)
    outlier.sweep(20.0)
    assert not host.ejected
    fail(outlier, host, 50)
    outlier.sweep(30.0)
    assert host.ejected


def test_a_coarse_clock_sweeps_once_an_interval() -> None:
    outlier, (host,) = failing(ALL)
    assert outlier.tick(0.0) == ()
    fail(outlier, host, now=1.0)
    returned = [now for now in range(1, 60) if outlier.tick(float(now))]
    assert returned == [40]


def test_a_clock_coarser_than_the_interval_forgives_as_often_as_a_fine_one() -> None:
    spec = OutlierSpec(base_ejection_time=0.3, interval=0.1, max_ejection_percent=100)
    outlier, (host,) = failing(spec)
    outlier.tick(0.0)
    now = 0.0
    for _ in range(5):
        fail(outlier, host, now=now)
        while host.ejected:
            now += 0.25
            outlier.tick(now)
    assert host.multiplier == 5
    outlier.tick(now + 0.25)
    assert host.multiplier == 3
    outlier.tick(now + 1e9)
    assert host.multiplier == 0


def test_an_address_that_stays_keeps_its_state_over_a_reload() -> None:
    outlier, hosts = failing(ALL, size=2)
    fail(outlier, hosts[0])
    fail(outlier, hosts[1], 4)
    hosts[1].begin()
    fresh = [Endpoint(host.address, weight=3, labels={"version": "v2"}) for host in hosts]
    kept = outlier.replace(ALL, [*fresh, Endpoint("10.0.0.9:80")])
    assert list(kept[:2]) == hosts
    assert [one.ejected for one in kept] == [True, False, False]
    assert (kept[0].weight, kept[0].labels) == (3, {"version": "v2"})
    assert kept[1].in_flight == 1
    fail(outlier, kept[1], 1)
    assert kept[1].ejected


def test_an_address_that_leaves_is_forgotten() -> None:
    outlier, hosts = failing(ALL, size=2)
    fail(outlier, hosts[0])
    fail(outlier, hosts[1], 4)
    (stays,) = outlier.replace(ALL, [Endpoint(hosts[1].address)])
    assert outlier.statistics()["ejections_active"] == 0
    assert fail(outlier, hosts[0], 50) == []
    (back, _) = outlier.replace(ALL, [Endpoint(hosts[0].address), Endpoint(stays.address)])
    assert back is not hosts[0]
    assert not back.ejected
    hosts[0].ejected = False
    assert fail(outlier, hosts[0], 50) == []


def test_a_reload_that_drops_detection_lets_everybody_return() -> None:
    outlier, (host,) = failing(ALL)
    fail(outlier, host)
    outlier.replace(None, [host])
    assert not host.ejected
    assert outlier.statistics()["ejections_active"] == 0


def test_a_lower_threshold_acts_on_a_run_that_is_already_longer() -> None:
    outlier, (host,) = failing(ALL)
    fail(outlier, host, 4)
    outlier.replace(OutlierSpec(consecutive_5xx=2, max_ejection_percent=100), [host])
    fail(outlier, host, 1)
    assert host.ejected


STEPS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from([200, 404, 500, 502, 503, *Outcome, "sweep"]),
        st.floats(0, 40),
    ),
    max_size=200,
)


@given(steps=STEPS, percent=st.integers(0, 100), split=st.booleans())
def test_the_share_that_is_out_never_passes_its_limit(
    steps: list[tuple[int, int | Outcome | str, float]], percent: int, split: bool
) -> None:
    spec = OutlierSpec(
        consecutive_5xx=2,
        consecutive_local_origin_failure=2,
        max_ejection_percent=percent,
        split_external_local_origin_errors=split,
    )
    outlier, hosts = failing(spec, size=4)
    now = 0.0
    for index, what, pause in steps:
        now += pause
        if what == "sweep":
            outlier.sweep(now)
        elif isinstance(what, Outcome):
            outlier.report_local(hosts[index], what, now)
        else:
            assert isinstance(what, int)
            outlier.report_status(hosts[index], what, now)
        out = sum(host.ejected for host in hosts)
        assert 100 * out <= percent * len(hosts)
        assert outlier.statistics()["ejections_active"] == out


@given(steps=STEPS)
def test_everybody_returns_in_the_end(steps: list[tuple[int, int | Outcome | str, float]]) -> None:
    outlier, hosts = failing(ALL, size=4)
    now = 0.0
    for index, what, pause in steps:
        now += pause
        if isinstance(what, int):
            outlier.report_status(hosts[index], what, now)
    outlier.sweep(now + 300.0)
    assert not any(host.ejected for host in hosts)
