"""A peer's glitches are counted against what it earns and what time gives back."""

from __future__ import annotations

from sidecar.http.h2_budget import ANSWERED, MOST, RESET, Budget


def spent(budget: Budget, cost: float, now: float, most: int = 10_000) -> int:
    """Return how often *cost* can be paid at one time."""
    return next(times for times in range(most) if not budget.spend(cost, now))


def test_a_budget_lasts_for_so_many_glitches() -> None:
    assert spent(Budget(0.0), 1, 0.0) == MOST


def test_time_gives_back_and_never_more_than_there_was() -> None:
    budget = Budget(0.0)
    spent(budget, 1, 0.0)
    assert 0 < spent(budget, 1, 1.0) < 20
    assert spent(budget, 1, 10_000.0) == MOST


def test_an_answer_pays_for_a_reset_and_its_frame() -> None:
    budget = Budget(0.0)
    for _ in range(10_000):
        assert budget.spend(1 + RESET, 0.0)
        budget.earn(ANSWERED)


def test_resets_alone_end_it_soon() -> None:
    assert spent(Budget(0.0), 1 + RESET, 0.0) <= 100
