"""Where a flow waits: no wake-up is lost, and a fault comes through."""

from __future__ import annotations

import asyncio

import pytest
from support.memory import in_memory, loop

from sidecar.errors import CallerGone, DeadlinePassed
from sidecar.net.wake import Drive, Wake


async def wait(wake: Wake) -> None:
    await wake


@in_memory
async def test_a_flow_waits_until_it_is_woken() -> None:
    wake = Wake(loop())
    waiting = asyncio.create_task(wait(wake))
    await loop().settle()
    assert not waiting.done()
    wake()
    await loop().settle()
    assert waiting.done()


@in_memory
async def test_waking_twice_is_waking_once() -> None:
    wake = Wake(loop())
    waiting = asyncio.create_task(wait(wake))
    await loop().settle()
    wake()
    wake()
    await loop().settle()
    assert waiting.done()
    again = asyncio.create_task(wait(wake))
    await loop().settle()
    assert not again.done(), "a wake-up is no state: whoever waits has looked before"
    wake()
    await again


@in_memory
async def test_waking_nobody_is_nothing() -> None:
    Wake(loop())()


@in_memory
async def test_a_fault_reaches_who_waits() -> None:
    wake = Wake(loop())
    waiting = asyncio.create_task(wait(wake))
    await loop().settle()
    wake.throw(CallerGone("gone"))
    with pytest.raises(CallerGone):
        await waiting


@in_memory
async def test_a_fault_reaches_who_waits_next_and_stays() -> None:
    wake = Wake(loop())
    wake.throw(CallerGone("gone"))
    for _ in range(2):
        with pytest.raises(CallerGone):
            await wait(wake)


@in_memory
async def test_a_fault_after_a_wake_up_of_the_same_turn_is_not_lost() -> None:
    wake = Wake(loop())
    waiting = asyncio.create_task(wait(wake))
    await loop().settle()
    wake()
    wake.throw(DeadlinePassed("late"))
    with pytest.raises(DeadlinePassed):
        await waiting


@in_memory
async def test_who_was_cancelled_is_not_woken() -> None:
    wake = Wake(loop())
    waiting = asyncio.create_task(wait(wake))
    await loop().settle()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    wake()
    assert waiting.cancelled()


class Driven:
    """A flow that counts how often it looked, and what it ended with."""

    def __init__(self) -> None:
        self.looks = 0
        self.ends: list[Exception | None] = []
        self.drive = Drive(loop(), self.ends.append)
        self.enough = 1_000

    async def flow(self) -> None:
        while self.looks < self.enough:
            self.looks += 1
            await self.drive


@in_memory
async def test_a_driven_flow_begins_at_once_and_goes_on_at_the_next_turn() -> None:
    driven = Driven()
    driven.drive.run(driven.flow())
    assert driven.looks == 1
    driven.drive()
    driven.drive()
    assert driven.looks == 1
    await loop().settle()
    assert driven.looks == 2, "waking twice is waking once"
    driven.drive.at_once()
    assert driven.looks == 3


@in_memory
async def test_who_drives_is_told_of_the_end_and_drives_the_next_flow() -> None:
    driven = Driven()
    driven.enough = 1
    driven.drive.run(driven.flow())
    assert driven.ends == []
    driven.drive.at_once()
    assert driven.ends == [None]
    driven.drive()
    await loop().settle()
    assert driven.ends == [None], "nothing is left to drive"
    driven.enough = 2
    driven.drive.run(driven.flow())
    driven.drive.at_once()
    assert driven.ends == [None, None]


@in_memory
async def test_a_driven_flow_that_wakes_itself_looks_again_later() -> None:
    driven = Driven()

    async def flow() -> None:
        driven.drive.at_once()
        driven.looks += 1
        await driven.drive
        driven.looks += 1

    driven.drive.run(flow())
    assert (driven.looks, driven.ends) == (1, [])
    await loop().settle()
    assert (driven.looks, driven.ends) == (2, [None])


@in_memory
async def test_a_fault_reaches_a_driven_flow_and_what_it_ends_with_is_told() -> None:
    driven = Driven()
    driven.drive.run(driven.flow())
    driven.drive.throw(CallerGone("gone"))
    assert driven.ends == []
    await loop().settle()
    assert [type(end) for end in driven.ends] == [CallerGone]


@in_memory
async def test_a_fault_from_before_reaches_a_driven_flow_at_its_first_wait() -> None:
    driven = Driven()
    driven.drive.throw(CallerGone("gone"))
    driven.drive.run(driven.flow())
    assert driven.looks == 1
    assert [type(end) for end in driven.ends] == [CallerGone]


@in_memory
async def test_a_thousand_flows_that_wake_each_other_do_not_pile_up() -> None:
    chain: list[Driven] = [Driven() for _ in range(2_000)]

    async def flow(at: int) -> None:
        await chain[at].drive
        if at + 1 < len(chain):
            chain[at + 1].drive()

    for at, one in enumerate(chain):
        one.drive.run(flow(at))
    chain[0].drive.at_once()
    for _ in range(2_000):
        await loop().settle()
        if chain[-1].ends:
            break
    assert all(one.ends == [None] for one in chain)
