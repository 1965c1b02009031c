"""One sweep over all deadlines: who is late is told once, within half a second."""

from __future__ import annotations

from support.memory import in_memory, loop

from sidecar.net.deadlines import NEVER, Deadlines


class Timed:
    """Remembers when it expired."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.expired: list[float] = []

    def expire(self) -> None:
        self.expired.append(loop().clock())


class Renewing(Timed):
    """Sets a new deadline when it expires."""

    def expire(self) -> None:
        super().expire()
        self.deadline = loop().clock() + 10


class Broken(Timed):
    """Has a bug."""

    def expire(self) -> None:
        super().expire()
        raise ValueError("a bug")


def deadlines() -> Deadlines:
    made = Deadlines(loop(), loop().clock)
    made.start()
    return made


@in_memory
async def test_who_is_late_is_told_once_and_within_half_a_second() -> None:
    swept, timed = deadlines(), Timed(1003.2)
    swept.add(timed)
    for _ in range(20):
        await loop().settle(0.5)
    assert len(timed.expired) == 1
    assert 1003.2 <= timed.expired[0] <= 1003.7
    assert timed.deadline == NEVER
    swept.stop()


@in_memory
async def test_a_new_deadline_may_be_set_when_one_has_passed() -> None:
    swept, timed = deadlines(), Renewing(1001)
    swept.add(timed)
    for _ in range(50):
        await loop().settle(0.5)
    assert timed.expired == [1001, 1011, 1021]
    swept.stop()


@in_memory
async def test_who_was_removed_is_told_nothing() -> None:
    swept, timed = deadlines(), Timed(1001)
    swept.add(timed)
    assert len(swept) == 1
    swept.remove(timed)
    swept.remove(timed)
    await loop().settle(5)
    assert timed.expired == []
    assert len(swept) == 0
    swept.stop()


@in_memory
async def test_one_that_expires_may_remove_others() -> None:
    swept, other = deadlines(), Timed(NEVER)

    class Removing(Timed):
        def expire(self) -> None:
            super().expire()
            swept.remove(self)
            swept.remove(other)

    timed = Removing(1001)
    swept.add(timed)
    swept.add(other)
    await loop().settle(2)
    assert len(timed.expired) == 1
    assert len(swept) == 0
    swept.stop()


@in_memory
async def test_a_bug_in_one_does_not_stop_the_clock_for_the_others() -> None:
    told: list[object] = []
    loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    swept, broken, later = deadlines(), Broken(1001), Timed(1005)
    swept.add(broken)
    swept.add(later)
    for _ in range(20):
        await loop().settle(0.5)
    assert [str(fault) for fault in told] == ["a bug"]
    assert len(later.expired) == 1
    swept.stop()


@in_memory
async def test_after_the_stop_nothing_expires() -> None:
    swept, timed = deadlines(), Timed(1001)
    swept.add(timed)
    swept.stop()
    await loop().settle(5)
    assert timed.expired == []
    Deadlines(loop(), loop().clock).stop()
