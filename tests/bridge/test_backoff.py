"""Who has programs that do not start waits longer each time, and alone."""

from __future__ import annotations

from sidecar.bridge.backoff import Backoff


def test_each_failure_doubles_the_wait_up_to_a_limit() -> None:
    backoff, waits = Backoff(), []
    for _ in range(8):
        backoff.failed("alice", 10.0)
        waits.append(backoff.wait("alice", 10.0))
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert backoff.wait("alice", 25.0) == 15.0
    assert backoff.wait("alice", 41.0) == 0.0


def test_nobody_waits_for_the_failures_of_others() -> None:
    backoff = Backoff()
    backoff.failed("alice", 0.0)
    assert backoff.wait("bob", 0.0) == 0.0


def test_what_works_is_forgiven() -> None:
    backoff = Backoff()
    backoff.failed("alice", 0.0)
    backoff.spoke("alice")
    assert backoff.wait("alice", 0.0) == 0.0


def test_only_so_many_callers_are_remembered() -> None:
    backoff = Backoff()
    for number in range(1_500):
        backoff.failed(str(number), 0.0)
    assert backoff.wait("0", 0.0) == 0.0
    assert backoff.wait("1499", 0.0) == 0.5
