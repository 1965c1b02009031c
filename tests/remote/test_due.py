"""What is due stays due within its time, whatever is done to the clock."""

from __future__ import annotations

from sidecar.remote.due import Due


def test_it_is_due_at_once_and_then_when_it_was_put_off_to() -> None:
    due = Due()
    assert due.is_past(0.0)
    due.put_off(100.0, 30.0)
    assert [due.is_past(now) for now in (100.0, 129.9, 130.0, 10_000.0)] == [0, 0, 1, 1]


def test_a_clock_that_is_set_back_makes_it_due() -> None:
    due = Due()
    due.put_off(10_000.0, 30.0)
    assert due.is_past(9_999.0)
    due.put_off(9_999.0, 30.0)
    assert not due.is_past(9_999.0)


def test_what_was_put_off_for_ever_is_never_due() -> None:
    due = Due()
    due.put_off(5.0, float("inf"))
    assert not due.is_past(1e12)
