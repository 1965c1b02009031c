"""Tasks are held until they end, and one that fails is told of."""

from __future__ import annotations

import asyncio
import gc

import pytest
from support.memory import in_memory, loop

from sidecar.net.tasks import Tasks


class Told:
    """What was reported, in order."""

    def __init__(self) -> None:
        self.faults: list[tuple[str, BaseException]] = []

    def __call__(self, what: str, fault: BaseException) -> None:
        self.faults.append((what, fault))


async def nothing() -> None:
    return


async def fail() -> None:
    raise ValueError("a bug")


async def forever() -> None:
    await loop().create_future()


@in_memory
async def test_a_task_is_held_until_it_ends() -> None:
    tasks = Tasks(Told())
    tasks.spawn(forever(), "waits")
    tasks.spawn(nothing(), "ends")
    gc.collect()
    await loop().settle()
    assert len(tasks) == 1
    await tasks.end()
    assert len(tasks) == 0


@in_memory
async def test_a_fault_is_told_by_the_tasks_name() -> None:
    told = Told()
    tasks = Tasks(told)
    tasks.spawn(fail(), "the failing one")
    await loop().settle()
    assert [(what, str(fault)) for what, fault in told.faults] == [("the failing one", "a bug")]
    assert len(tasks) == 0


@in_memory
async def test_the_end_cancels_what_runs_and_reports_no_cancellation() -> None:
    told = Told()
    tasks = Tasks(told)
    running = tasks.spawn(forever(), "waits")
    await loop().settle()
    await tasks.end()
    assert running.cancelled()
    assert told.faults == []


@in_memory
async def test_a_task_may_end_all_others_and_itself_goes_on() -> None:
    tasks = Tasks(Told())
    other = tasks.spawn(forever(), "other")
    after: list[str] = []

    async def ender() -> None:
        await tasks.end()
        after.append("went on")

    tasks.spawn(ender(), "ender")
    await loop().settle()
    assert other.cancelled()
    assert after == ["went on"]


@in_memory
async def test_a_task_that_will_not_be_cancelled_is_waited_for() -> None:
    tasks = Tasks(Told())
    done: list[str] = []

    async def stubborn() -> None:
        try:
            await loop().create_future()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            done.append("cleaned up")

    tasks.spawn(stubborn(), "stubborn")
    await loop().settle()
    await tasks.end()
    assert done == ["cleaned up"]


@in_memory
async def test_what_must_go_on_is_begun_again_after_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = Told()
    tasks = Tasks(told)
    monkeypatch.setattr("sidecar.net.tasks._PAUSE", 0.0)
    begun: list[int] = []

    async def duty() -> None:
        begun.append(len(begun))
        if len(begun) < 3:
            raise ValueError("a bug")
        await forever()

    tasks.keep(duty, "duty")
    for _ in range(6):
        await loop().settle()
    assert begun == [0, 1, 2]
    assert [what for what, _ in told.faults] == ["duty", "duty"]
    await tasks.end()
    await loop().settle()
    assert (len(tasks), len(begun)) == (0, 3), "an end is not a fault"
