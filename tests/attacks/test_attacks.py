"""Each attack is refused, as what it is, before a byte of it has gone anywhere.

The tables are in the modules beside this one, by what is attacked.
"""

from __future__ import annotations

import pytest
from support.flow import Flow
from support.memory import in_memory

from attacks import arguments, batches, bodies, frames, headers, methods, paths, values
from attacks.harness import Attack, judged, passed_through
from sidecar.policy.verdict import Permit

TABLES = (arguments, batches, bodies, frames, headers, methods, paths, values)
ATTACKS = [one for table in TABLES for one in table.ATTACKS]
each_attack = pytest.mark.parametrize("attack", ATTACKS, ids=[one.name for one in ATTACKS])


def test_every_attack_is_another_one() -> None:
    assert len({one.name for one in ATTACKS}) == len(ATTACKS)
    assert len({(one.policy, one.said) for one in ATTACKS}) == len(ATTACKS)
    assert len(ATTACKS) >= 80


@each_attack
def test_it_is_refused_for_what_it_is(attack: Attack) -> None:
    assert judged(attack.policy, attack.said) == (attack.status, attack.code)


@each_attack
def test_its_honest_spelling_is_allowed(attack: Attack) -> None:
    assert isinstance(judged(attack.policy, attack.honest), Permit)


@each_attack
@in_memory
async def test_not_one_byte_of_it_reaches_the_server(attack: Attack) -> None:
    outcome = await passed_through(attack.policy, attack.said)
    assert (outcome.heard, outcome.dialled) == (b"", 0)
    assert outcome.status == attack.status
    assert not outcome.error or outcome.error["code"] == attack.code
    assert outcome.faults == 0


@pytest.mark.parametrize(
    ("policy", "honest"), sorted({(one.policy, one.honest) for one in ATTACKS})
)
@in_memory
async def test_what_is_honest_does_reach_it_as_it_was_sent(policy: str, honest: bytes) -> None:
    outcome = await passed_through(policy, honest)
    assert outcome.status == 0, outcome.error
    assert outcome.heard.endswith(honest.partition(b"\r\n\r\n")[2])
    assert outcome.dialled == 1


@each_attack
@in_memory
async def test_a_call_that_is_allowed_opens_no_way_for_it(attack: Attack) -> None:
    """On a connection that has carried the honest spelling, lines of its head are remembered."""
    flow = Flow(attack.policy)
    caller = flow.callers.connect()
    caller.say(attack.honest)
    await flow.settle()
    await flow.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    assert caller.heard().startswith(b"HTTP/1.1 200 ")
    before = flow.heard_by_servers()
    caller.say(attack.said)
    await flow.settle()
    assert caller.heard().startswith(b"HTTP/1.1 %d " % attack.status)
    assert flow.heard_by_servers() == before
