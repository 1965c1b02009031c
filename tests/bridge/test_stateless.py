"""Requests that stand alone share a program and never each other's answers."""

from __future__ import annotations

from typing import Any

import pytest
from support.stdio_fakes import Asked, FakeChild, call, message

from sidecar.bridge.stateless import Stateless
from sidecar.config.stdio import StdioSpec

SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
SPEC = StdioSpec(("x",), calls=3)


class World:
    """A program for one caller, and what happened."""

    def __init__(self) -> None:
        self.now = 100.0
        self.closed = 0
        self.odd: list[str] = []
        self.child = FakeChild()
        self.one = Stateless("alice", SPEC, lambda: self.now, self._close, self._odd)
        self.one.child = self.child  # type: ignore[assignment]

    def _close(self, _: Stateless) -> None:
        self.closed += 1

    def _odd(self, why: str, line: bytes) -> None:
        self.odd.append(why)

    def ask(self, id: object, token: object = None, method: str = "tools/call") -> Asked:
        asked = Asked(self.now)
        self.one.ask(*call(id, token, method), asked.answer)
        return asked

    def heard(self, **fields: Any) -> None:
        self.one.heard(message(**fields))


def test_two_calls_of_one_id_and_token_get_their_own() -> None:
    world = World()
    asked = [world.ask("a", "t"), world.ask("a", "t")]
    numbers = [told["id"] for told in world.child.told]
    tokens = [told["params"]["_meta"]["progressToken"] for told in world.child.told]
    assert numbers == tokens
    assert numbers[0] != numbers[1]
    for number in reversed(numbers):
        params = {"progressToken": number, "progress": number}
        world.heard(method="notifications/progress", params=params)
        world.heard(id=number, result={"n": number})
    for number, one in zip(numbers, asked, strict=True):
        (_, progress), (_, answer) = one.events
        assert progress["params"] == {"progressToken": "t", "progress": number}
        assert (answer["id"], answer["result"]) == ("a", {"n": number})


@pytest.mark.parametrize(
    ("code", "status"),
    [(-32601, 404), (-32602, 400), (-32020, 400), (-32022, 400), (-32603, 200), (-32002, 200)],
)
def test_an_error_has_the_status_that_the_transport_gives_it(code: int, status: int) -> None:
    world = World()
    asked = world.ask(1)
    world.heard(id=1, error={"code": code, "message": "no"})
    assert (asked.status, asked.json["error"]["code"]) == (status, code)


def test_who_leaves_cancels_and_an_answer_after_that_is_nobodys() -> None:
    world = World()
    asked, other = world.ask("x"), world.ask("x")
    asked.answer.lose()
    assert world.child.told[-1]["method"] == "notifications/cancelled"
    assert world.child.told[-1]["params"]["requestId"] == world.child.told[0]["id"]
    world.heard(id=1, result={})
    assert (asked.status, other.status) == (0, 0)


def test_news_go_to_the_subscription_that_they_are_of() -> None:
    world = World()
    first = world.ask("s1", method="subscriptions/listen")
    second = world.ask("s2", method="subscriptions/listen")
    method, meta = "notifications/tools/list_changed", {"_meta": {SUBSCRIPTION: 2}}
    world.heard(method=method, params=meta)
    assert first.status == 0
    assert second.events[0][1]["params"]["_meta"] == {SUBSCRIPTION: "s2"}
    world.heard(id=2, result=meta)
    assert second.events[1][1]["result"]["_meta"] == {SUBSCRIPTION: "s2"}


def test_what_names_no_request_goes_to_the_only_one_or_to_nobody() -> None:
    world = World()
    world.ask("s", method="subscriptions/listen")
    asked = world.ask(1)
    log = {"method": "notifications/message", "params": {"level": "info", "data": "x"}}
    world.heard(**log)
    assert asked.events[0][1]["method"] == "notifications/message"
    other = world.ask(2)
    world.heard(**log)
    assert (len(asked.events), other.status) == (1, 0)
    assert world.odd == ["a notification of no request"]


def test_a_program_may_not_ask_and_is_told_so() -> None:
    world = World()
    asked = world.ask(1)
    world.heard(id="q", method="sampling/createMessage", params={})
    assert (world.child.told[-1]["id"], world.child.told[-1]["error"]["code"]) == ("q", -32601)
    assert asked.status == 0


def test_a_request_that_takes_long_gets_a_stream() -> None:
    world = World()
    asked = world.ask(1)
    world.now += 2
    world.one.look(world.now)
    assert asked.carrier.body == b": still there\n\n"
    world.heard(id=1, result={})
    assert asked.events[0][1]["result"] == {}


def test_there_is_room_for_so_many() -> None:
    world = World()
    assert [world.ask(number).status for number in range(4)] == [0, 0, 0, 503]
    world.heard(id=1, result={})
    assert world.ask(5).status == 0


def test_the_end_of_the_program_fails_what_is_under_way() -> None:
    world = World()
    plain, stream = world.ask("a"), world.ask("b", 1)
    params = {"progressToken": 2, "progress": 1}
    world.heard(method="notifications/progress", params=params)
    world.one.ended("it was killed")
    assert (plain.status, plain.json["id"]) == (502, "a")
    assert stream.events[-1][1]["id"] == "b"
    assert world.closed == 1
