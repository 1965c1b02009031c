"""Memory is given back once many connections have come or gone, and not all the time."""

from __future__ import annotations

import gc
import weakref

import pytest

from sidecar.memory import Housekeeping, give_back, settle


class Counted:
    """Housekeeping that only counts how often it cleans."""

    def __init__(self) -> None:
        self.cleaned = 0
        self.housekeeping = Housekeeping(self._clean)

    def _clean(self) -> None:
        self.cleaned += 1


@pytest.mark.parametrize(
    ("seen", "cleaned"),
    [
        ([(0, 0), (499, 499)], 0),
        ([(500, 500)], 1),
        ([(250, 0)], 1),  # half came, and all of them left
        ([(1000, 1000), (1000, 500)], 2),
        ([(1000, 1000), (1000, 501)], 1),
        ([(500, 500), (500, 500), (500, 500)], 1),
    ],
)
def test_it_cleans_once_enough_have_come_or_gone(seen: list[tuple[int, int]], cleaned: int) -> None:
    counted = Counted()
    for step, (came, open_now) in enumerate(seen):
        counted.housekeeping.tend(came, open_now, 100.0 * step)
    assert counted.cleaned == cleaned


def test_it_cleans_seldom_however_much_goes_on() -> None:
    counted = Counted()
    for tick in range(40):  # ten seconds, a thousand callers in each quarter of one
        counted.housekeeping.tend(1000 * (tick + 1), 10, tick / 4)
    assert counted.cleaned == 2


class Ring:
    """An object that holds itself."""

    def __init__(self) -> None:
        self.itself = self


def test_what_nobody_holds_is_freed() -> None:
    gc.disable()
    try:
        ring = weakref.ref(Ring())
        assert ring() is not None
        give_back()
        assert ring() is None
    finally:
        gc.enable()


def test_what_is_there_at_the_start_is_set_aside() -> None:
    try:
        settle()
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()
