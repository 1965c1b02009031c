"""Which of a session's streams a message of its program goes to, and what comes of the rest."""

from __future__ import annotations

from typing import Any

import pytest
from support.stdio_fakes import Asked, FakeChild, call, message

from sidecar.bridge.session import Session
from sidecar.config.stdio import StdioSpec
from sidecar.mcp.message import parse

NEWS = message(method="notifications/tools/list_changed")
SPEC = StdioSpec(("x",), calls=3, replay_bytes=2_000)


class World:
    """A session that has begun, and what happened."""

    def __init__(self, version: str = "2025-11-25", *, begun: bool = True) -> None:
        self.now = 100.0
        self.closed = 0
        self.odd: list[str] = []
        self.child = FakeChild()
        self.session = Session("s1", "alice", SPEC, lambda: self.now, self._close, self._odd)
        self.session.child = self.child  # type: ignore[assignment]
        if begun:
            asked = self.ask(0, method="initialize")
            self.heard(id=0, result={"protocolVersion": version})
            assert asked.carrier.headers[b"mcp-session-id"] == b"s1"

    def _close(self, session: Session) -> None:
        self.closed += 1

    def _odd(self, why: str, line: bytes) -> None:
        self.odd.append(why)

    def ask(self, id: object, token: object = None, method: str = "tools/call") -> Asked:
        asked = Asked(self.now)
        self.session.ask(*call(id, token, method), asked.answer)
        return asked

    def tell(self, **fields: Any) -> Asked:
        asked, body = Asked(self.now), message(**fields)
        self.session.tell(parse(body), body, asked.answer)
        return asked

    def listen(self, last: bytes = b"") -> Asked:
        asked = Asked(self.now)
        self.session.listen(last, asked.answer)
        return asked

    def heard(self, **fields: Any) -> None:
        self.session.heard(message(**fields))

    def progress(self, token: object) -> None:
        params = {"progressToken": token, "progress": 1}
        self.heard(method="notifications/progress", params=params)


def methods(asked: Asked) -> list[str]:
    return [one.get("method", "answer") for _, one in asked.events]


def test_an_answer_that_comes_first_is_plain_json() -> None:
    world = World()
    one, two = world.ask(1), world.ask(2)
    world.heard(id=2, result={"n": 2})
    assert (two.status, two.json["result"], one.status) == (200, {"n": 2}, 0)
    world.heard(id=1, error={"code": -32602, "message": "no"})
    assert (one.status, one.json["error"]["code"]) == (200, -32602)


def test_progress_goes_to_the_call_with_its_token() -> None:
    world = World()
    one, two = world.ask(1, "a"), world.ask(2, 5)
    world.progress(5)
    world.progress("a")
    world.heard(id=1, result={})
    world.heard(id=2, result={})
    assert methods(one) == methods(two) == ["notifications/progress", "answer"]
    assert two.events[0][1]["params"]["progressToken"] == 5
    assert one.carrier.whole
    assert two.carrier.whole


@pytest.mark.parametrize(
    ("calls", "listens", "place"),
    [(1, True, "call 0"), (1, False, "call 0"), (2, True, "common"), (2, False, "call 1"),
     (0, True, "common")],
)  # fmt: skip
def test_what_names_no_call_goes_where_it_most_likely_belongs(
    calls: int, listens: bool, place: str
) -> None:
    world = World()
    asked = {f"call {number}": world.ask(number) for number in range(calls)}
    if listens:
        asked["common"] = world.listen()
    world.session.heard(NEWS)
    got = {name for name, one in asked.items() if one.status and methods(one)}
    assert got == {place}


def test_what_nobody_listens_for_waits() -> None:
    world = World()
    world.session.heard(NEWS)
    first = world.listen()
    assert methods(first) == ["notifications/tools/list_changed"]
    assert methods(world.listen()) == []
    assert first.carrier.whole, "who listens again takes the place of the first"
    again = world.listen(first.events[0][0].encode())
    assert methods(again) == []


def test_a_call_that_takes_long_becomes_a_stream_that_can_be_taken_up_again() -> None:
    world = World()
    asked = world.ask(1)
    world.now += 2
    world.session.look(world.now)
    assert asked.carrier.body.startswith(b"id: ")
    asked.answer.lose()
    world.heard(id=1, result={"late": True})
    id = asked.carrier.body.split(b"\n")[0].removeprefix(b"id: ")
    back = world.listen(id)
    assert back.events[0][1]["result"] == {"late": True}
    assert back.carrier.whole


def test_older_versions_have_no_events_without_data() -> None:
    world = World("2025-06-18")
    asked = world.ask(1)
    world.now += 2
    world.session.look(world.now)
    assert asked.carrier.body == b": still there\n\n"


def test_a_stream_that_is_silent_is_kept_warm() -> None:
    world = World()
    asked = world.listen()
    before = asked.carrier.body
    world.now += 20
    world.session.look(world.now)
    assert asked.carrier.body == before + b": still there\n\n"


def test_a_cancelled_call_is_answered_once_its_program_has_had_its_word() -> None:
    world = World()
    asked, other = world.ask(1), world.ask(2)
    assert world.tell(method="notifications/cancelled", params={"requestId": 1}).status == 202
    assert world.child.told[-1]["method"] == "notifications/cancelled"
    world.session.look(world.now)
    assert asked.status == 0
    world.now += 2
    world.session.look(world.now)
    assert asked.carrier.whole
    assert not other.carrier.whole


def test_a_program_has_so_many_calls_and_one_that_nobody_waits_for_makes_room() -> None:
    world = World()
    asked = [world.ask(number) for number in range(4)]
    assert [one.status for one in asked] == [0, 0, 0, 503]
    assert asked[3].json["error"]["data"]["reason"] == "overloaded"
    asked[1].answer.lose()
    assert world.ask(4).status == 0
    world.heard(id=1, result={})
    assert world.odd == ["an answer to nothing that is asked"]


def test_two_calls_of_one_id_cannot_be_told_apart() -> None:
    world = World()
    world.ask(1)
    assert world.ask(1).status == 400


def test_a_program_that_does_not_read_is_told_no_more() -> None:
    world = World()
    world.child.room = False
    assert world.ask(1).status == 503
    assert world.tell(method="notifications/initialized").status == 503


def test_a_reader_that_does_not_read_stops_the_program_until_it_does() -> None:
    world = World()
    listening = world.listen()
    listening.carrier.full = True
    world.session.heard(NEWS)
    assert world.child.held
    world.session.look(world.now)
    assert world.child.held
    listening.carrier.full = False
    listening.answer.eased()
    assert not world.child.held


def test_a_reader_that_goes_holds_nothing_up() -> None:
    world = World()
    asked = world.ask(1, "t")
    asked.carrier.full = True
    world.progress("t")
    assert world.child.held
    world.heard(id=1, result={})
    world.session.look(world.now)
    assert not world.child.held


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"hello", "not strict JSON"),
        (b'{"jsonrpc":"2.0","id":1,"result":{},"result":{}}', "not strict JSON"),
        (b'[{"jsonrpc":"2.0","id":1,"result":{}}]', "an array is no message"),
        (b'{"id":9,"result":{}}', "`jsonrpc`"),
        (b'{"jsonrpc":"2.0","id":9,"result":{}}', "an answer to nothing"),
    ],
)
def test_what_is_no_message_or_nobodys_is_left_out(line: bytes, why: str) -> None:
    world = World()
    asked = world.ask(1)
    world.session.heard(line)
    assert len(world.odd) == 1
    assert why in world.odd[0]
    assert asked.status == 0


def test_a_call_whose_answer_cannot_be_read_fails_at_once() -> None:
    world = World()
    asked = world.ask(1)
    world.heard(id=1, result=5)
    assert (asked.status, asked.json["id"]) == (502, 1)


def test_a_line_with_a_carriage_return_is_one_event() -> None:
    world = World()
    asked = world.listen()
    world.session.heard(NEWS.replace(b", ", b",\r"))
    assert methods(asked) == ["notifications/tools/list_changed"]


@pytest.mark.parametrize("how", ["refused", "left"])
def test_a_session_that_does_not_begin_is_none(how: str) -> None:
    world = World(begun=False)
    asked = world.ask(0, method="initialize")
    if how == "refused":
        world.heard(id=0, error={"code": -32602, "message": "version"})
        assert asked.json["error"]["code"] == -32602
        assert b"mcp-session-id" not in asked.carrier.headers
    else:
        asked.answer.lose()
    assert world.closed == 1
    assert world.child.ended


def test_the_end_of_the_program_is_the_end_of_all_streams() -> None:
    world = World()
    plain, stream, common = world.ask(1), world.ask(2, "t"), world.listen()
    world.progress("t")
    world.session.ended("it was killed")
    assert plain.status == 502
    assert stream.events[-1][1]["error"]["data"]["reason"] == "upstream"
    assert stream.carrier.whole
    assert common.carrier.whole
    world.session.ended("again")
    world.session.heard(NEWS)
    assert world.closed == 1
