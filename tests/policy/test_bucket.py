"""Buckets of tokens: never more than promised, none in use forgotten, and room for so many."""

from __future__ import annotations

from fractions import Fraction
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sidecar.policy.bucket import Bucket, Key, Limit, Rate, Table

TEN = Limit("ten", Rate(10, 1), 20)
SLOW = Limit("slow", Rate(1, 60), 1)
RATES = st.builds(Rate, st.integers(1, 1000), st.sampled_from([1, 60, 3600]))


def took(table: Table, limit: Limit, now: float, *, who: str = "a", most: int = 1000) -> int:
    """How many tokens can be taken one after the other at *now*."""
    for count in range(most):
        if table.take([(limit, (limit.id, who), 1)], now) is not None:
            return count
    return most


@pytest.mark.parametrize(
    ("rate", "text"),
    [(Rate(10, 1), "10/s"), (Rate(7, 60), "7/m"), (Rate(1, 3600), "1/h"), (Rate(2, 5), "2/5s")],
)
def test_a_rate_is_written_as_operators_write_it(rate: Rate, text: str) -> None:
    assert str(rate) == text


# -- one bucket


def test_a_burst_passes_at_once_and_then_what_comes() -> None:
    table = Table(10)
    assert took(table, TEN, 0.0) == 20
    assert took(table, TEN, 0.0) == 0
    assert took(table, TEN, 0.5) == 5
    assert took(table, TEN, 0.55) == 0
    assert took(table, TEN, 100.0) == 20


@pytest.mark.parametrize(
    ("limit", "taken", "now", "wait"),
    [
        (TEN, 0, 0.0, 0.0),
        (TEN, 19, 0.0, 0.0),
        (TEN, 20, 0.0, 0.1),
        (TEN, 20, 0.04, 0.06),
        (TEN, 20, 0.1, 0.0),
        (SLOW, 1, 0.0, 60.0),
        (SLOW, 1, 59.0, 1.0),
        (SLOW, 1, 60.0, 0.0),
    ],
)
def test_an_empty_bucket_says_how_long_to_wait(
    limit: Limit, taken: int, now: float, wait: float
) -> None:
    bucket = Bucket(limit, limit.burst, 0.0)
    for _ in range(taken):
        assert bucket.wait(0.0, 1) == 0.0
        bucket.take(0.0, 1)
    assert bucket.wait(now, 1) == pytest.approx(wait)


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    table = Table(10)
    assert took(table, TEN, 100.0, most=5) == 5
    assert took(table, TEN, 0.0, most=14) == 14
    assert took(table, TEN, 99.9) == 1
    assert took(table, TEN, 100.0) == 0
    assert took(table, TEN, 100.1) == 1


@given(
    rate=RATES,
    burst=st.integers(1, 50),
    start=st.sampled_from([0.0, 12.3, 1e6, 3e7]),
    steps=st.lists(st.floats(-5, 30) | st.floats(0, 0.01), max_size=120),
)
def test_never_more_than_the_burst_and_what_has_come(
    rate: Rate, burst: int, start: float, steps: list[float]
) -> None:
    limit, table = Limit("any", rate, burst), Table(3)
    now, admitted = start, []
    for step in steps:
        now += step
        if table.take([(limit, ("any", "a"), 1)], now) is None:
            admitted.append(now)
    highest = start
    moments = []
    for one in admitted:  # the clock as it counts: it never goes back
        highest = max(highest, one)
        moments.append(Fraction(highest))
    for first in range(len(moments)):
        for last in range(first, len(moments)):
            came = (moments[last] - moments[first]) * rate.count / rate.seconds
            assert last - first + 1 <= burst + came + Fraction(1, 10_000)


@given(rate=RATES, burst=st.integers(1, 50), start=st.floats(0, 1e6))
def test_after_the_wait_that_was_told_there_is_a_token(
    rate: Rate, burst: int, start: float
) -> None:
    limit, table = Limit("any", rate, burst), Table(1)
    assert took(table, limit, start) == burst
    short = table.take([(limit, ("any", "a"), 1)], start)
    assert short is not None
    # A caller is told whole seconds; a microsecond covers what a float loses.
    assert table.take([(limit, ("any", "a"), 1)], start + short[1] + 1e-6) is None


def test_several_tokens_are_taken_together_or_not_at_all() -> None:
    table = Table(10)
    assert table.take([(TEN, ("ten", "a"), 15)], 0.0) is None
    assert table.take([(TEN, ("ten", "a"), 6)], 0.0) == (0, pytest.approx(0.1))
    assert took(table, TEN, 0.0) == 5


@pytest.mark.parametrize("now", [0.0, 1e9])
def test_more_than_a_bucket_holds_never_comes(now: float) -> None:
    table = Table(10)
    assert table.take([(TEN, ("ten", "a"), 21)], now) == (0, inf)
    took(table, TEN, now, most=3)
    assert table.take([(TEN, ("ten", "a"), 21)], now) == (0, inf)


# -- several limits


def test_where_one_of_several_refuses_none_is_drawn_from() -> None:
    table = Table(10)
    both = [(TEN, ("ten", "a"), 1), (SLOW, ("slow",), 1)]
    assert table.take(both, 0.0) is None
    for _ in range(50):
        assert table.take(both, 0.0) == (1, 60.0)
    assert took(table, TEN, 0.0) == 19


def test_of_several_that_refuse_the_one_with_the_longest_wait_is_named() -> None:
    table = Table(10)
    took(table, TEN, 0.0)
    took(table, SLOW, 0.0)
    short = table.take(
        [(TEN, ("ten", "a"), 1), (SLOW, ("slow", "a"), 1), (TEN, ("ten", "b"), 1)], 0.0
    )
    assert short == (1, 60.0)


# -- the table


def test_a_full_table_forgets_buckets_that_are_full_again() -> None:
    table = Table(3)
    for who in "abc":
        took(table, TEN, 0.0, who=who, most=1)
    assert len(table) == 3
    assert took(table, TEN, 0.2, who="d", most=1) == 1
    assert (len(table), table.sharing) == (1, 0)


def test_a_bucket_that_was_used_again_stays_when_its_neighbours_go() -> None:
    table = Table(3)
    for who in "abc":
        took(table, TEN, 0.0, who=who, most=1)
    took(table, TEN, 0.05, who="b")
    took(table, TEN, 0.2, who="d", most=1)
    assert took(table, TEN, 0.2, who="b") == 2  # what has come since, and no fresh burst


def test_where_all_are_in_use_new_keys_share_one() -> None:
    table = Table(2)
    for who in "ab":
        took(table, TEN, 0.0, who=who, most=15)
    assert took(table, TEN, 0.0, who="c", most=12) == 12
    assert took(table, TEN, 0.0, who="d") == 8
    assert took(table, TEN, 0.0, who="e") == 0
    assert (len(table), table.sharing) == (2, 20)
    # Those that have their own go on as before.
    assert took(table, TEN, 0.0, who="a") == 5


def test_each_limit_has_a_shared_bucket_of_its_own() -> None:
    table = Table(1)
    took(table, TEN, 0.0, most=5)
    assert took(table, SLOW, 0.0) == 1
    assert took(table, TEN, 0.0, who="b") == 20
    assert table.sharing == 21


def test_a_key_that_shared_does_not_find_a_fresh_bucket_when_there_is_room_again() -> None:
    table = Table(1)
    took(table, SLOW, 0.0, who="a")
    assert took(table, SLOW, 30.0, who="b") == 1
    assert took(table, SLOW, 61.0, who="b") == 0  # there is room: `a` is full again
    assert took(table, SLOW, 90.0, who="b") == 1
    assert table.sharing == 1


def test_what_was_shared_is_forgotten_once_it_is_full() -> None:
    table = Table(1)
    took(table, SLOW, 0.0, who="a")
    took(table, SLOW, 0.0, who="b")
    assert took(table, SLOW, 120.0, who="c") == 1
    assert took(table, SLOW, 180.0, who="d") == 1
    assert table.sharing == 1


def test_one_call_of_two_new_keys_keeps_both_or_shares() -> None:
    table = Table(2)
    took(table, TEN, 0.0, who="x", most=1)
    took(table, TEN, 0.0, who="y", most=1)
    # `x` is full again and is drawn from; it must not be forgotten to make room for `z`.
    assert table.take([(TEN, ("ten", "x"), 1), (SLOW, ("slow", "z"), 1)], 10.0) is None
    assert took(table, TEN, 10.0, who="x") == 19
    assert took(table, SLOW, 10.0, who="z") == 0


def test_a_reload_keeps_the_buckets_of_the_limits_that_stay() -> None:
    table = Table(2)
    took(table, TEN, 0.0)
    took(table, SLOW, 0.0)
    took(table, TEN, 0.0, who="shares")
    table.keep({"ten"})
    assert len(table) == 1
    assert took(table, TEN, 0.0) == 0
    assert took(table, TEN, 0.0, who="shares") == 0
    assert took(table, SLOW, 0.0) == 1
    table.keep(set())
    assert len(table) == 0
    assert took(table, TEN, 0.0) == 20


def test_a_smaller_table_loses_no_bucket_that_is_in_use() -> None:
    table = Table(5)
    for who in "abcde":
        took(table, TEN, 0.0, who=who)
    table.most = 2
    table.keep({"ten"})
    assert [took(table, TEN, 0.0, who=who) for who in "abcde"] == [0] * 5
    assert took(table, TEN, 0.0, who="f", most=1) == 1
    assert table.sharing == 1


def test_room_is_found_though_many_buckets_came_due_and_were_used_again() -> None:
    table = Table(500)
    for who in range(500):
        took(table, TEN, 0.0, who=str(who), most=1)
    for who in range(499):
        took(table, TEN, 0.05, who=str(who), most=1)
    # Each new key looks at a few, and shares until one of them finds the one that is full.
    for who in range(20):
        took(table, TEN, 0.11, who=f"new {who}", most=1)
    assert ("ten", "499") not in table._buckets
    assert (len(table), table.sharing) == (500, 19)


class Model(RuleBasedStateMachine):
    """The table beside buckets that are never forgotten: nobody gets more than from his own."""

    @initialize(most=st.integers(1, 4))
    def begin(self, most: int) -> None:
        self.table, self.now = Table(most), 1000.0
        self.limits = [Limit("a", Rate(2, 1), 3), Limit("b", Rate(5, 60), 2)]
        self.own: dict[Key, Bucket] = {}

    @rule(step=st.sampled_from([0.0, 0.0, 0.1, 0.5, 1.0, 5.0, 60.0, -1.0]))
    def wait(self, step: float) -> None:
        self.now += step

    @rule(
        whom=st.dictionaries(st.integers(0, 1), st.integers(0, 7), min_size=1),
        count=st.sampled_from([1, 1, 1, 2, 3]),
    )
    def take(self, whom: dict[int, int], count: int) -> None:
        limits = [(self.limits[which], who) for which, who in whom.items()]
        draws = [(limit, (limit.id, str(who)), count) for limit, who in limits]
        known = set(self.table._buckets)
        if self.table.take(draws, self.now) is not None:
            return
        for limit, key, _ in draws:
            bucket = self.own.setdefault(key, Bucket(limit, limit.burst, self.now))
            assert bucket.wait(self.now, count) <= 1e-6
            bucket.take(self.now, count)
        gone = known - set(self.table._buckets)
        assert all(self.own[key].full_at <= self.now + 1e-6 for key in gone)

    @invariant()
    def bounded(self) -> None:
        if hasattr(self, "table"):
            assert len(self.table) <= self.table.most
            assert len(self.table._due) == len(self.table)
            assert all(due <= self.table._buckets[key].full_at for due, _, key in self.table._due)


TestModel = Model.TestCase
