"""Where a flow waits: no wake-up is lost, and a fault comes through."""

from __future__ import annotations

import asyncio

import pytest
from support.memory import in_memory, loop

from sidecar.errors import CallerGone, DeadlinePassed
from sidecar.net.wake import Wake


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
