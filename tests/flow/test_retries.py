"""What is tried again, where, how often, and what never is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.flow import OK, Flow
from support.memory import Pipe, in_memory
from support.routes import JSON, V1A, V1B, V2, call_of, flow_of, message, status, to

BAD = b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno"
RETRY = {"attempts": 2, "retryOn": "5xx,reset"}


def retrying(**retries: Any) -> Flow:
    return flow_of({"route": [to()], "retries": retries or RETRY})


def dialled(flow: Flow) -> list[str]:
    return [address for address in flow.loop.pipes]


@in_memory
async def test_a_bad_answer_is_tried_elsewhere_where_the_route_says_so() -> None:
    flow = retrying()
    caller = await flow.called("GET", "/")
    await flow.answer(BAD, V1A)
    assert caller.heard() == b""
    await flow.answer(OK, V1B)
    assert status(caller) == 200
    assert dialled(flow) == [V1A, V1B]
    assert flow.records[0].upstream == V1B
    assert flow.rests()


@in_memory
async def test_the_last_bad_answer_is_passed_on() -> None:
    flow = retrying()
    caller = await flow.called("GET", "/")
    for address in (V1A, V1B, V2):
        await flow.answer(BAD, address)
    said = caller.heard()
    assert said.startswith(b"HTTP/1.1 503 No")
    assert said.endswith(b"\r\n\r\nno")
    assert flow.rests()


@in_memory
async def test_a_lost_connection_is_tried_elsewhere_where_the_route_says_so() -> None:
    flow = retrying()
    caller = await flow.called("GET", "/")
    flow.server(V1A).reset()
    await flow.settle()
    await flow.answer(OK, V1B)
    assert status(caller) == 200


@pytest.mark.parametrize(
    ("body", "again"),
    [
        (call_of("write_file"), False),
        (call_of("read_file"), True),
        (message("tools/list"), True),
        (json.dumps({"jsonrpc": "2.0", "method": "notifications/x"}).encode(), False),
    ],
)
@in_memory
async def test_a_tool_is_called_again_only_if_the_operator_vouches_for_it(
    body: bytes, again: bool
) -> None:
    flow = retrying(**RETRY, idempotentTools=["read_*"])
    caller = await flow.called("POST", "/mcp", body, JSON)
    await flow.answer(BAD, V1A)
    assert dialled(flow) == ([V1A, V1B] if again else [V1A])
    if not again:
        assert status(caller) == 503


@in_memory
async def test_without_a_word_in_the_route_what_was_sent_is_not_sent_again() -> None:
    flow = flow_of({"route": [to()]})
    caller = await flow.called("GET", "/")
    await flow.answer(BAD, V1A)
    assert status(caller) == 503
    assert dialled(flow) == [V1A]


@in_memory
async def test_what_was_never_sent_is_tried_again_whatever_it_is() -> None:
    flow = flow_of({"route": [to()]})
    flow.loop.refuse = {V1A, V1B}
    caller = await flow.called("POST", "/mcp", call_of("write_file"), JSON)
    await flow.answer(OK, V2)
    assert status(caller) == 200


@in_memory
async def test_no_attempts_are_no_retries() -> None:
    flow = retrying(attempts=0)
    flow.loop.refuse = {V1A}
    caller = await flow.called("GET", "/")
    assert status(caller) == 503
    assert dialled(flow) == []


@pytest.mark.parametrize(("retry_on", "again"), [("302", True), ("5xx,reset", False)])
@in_memory
async def test_any_status_may_be_one_to_try_again_after(retry_on: str, again: bool) -> None:
    flow = retrying(attempts=1, retryOn=retry_on)
    caller = await flow.called("GET", "/")
    await flow.answer(b"HTTP/1.1 302 Found\r\nlocation: /b\r\ncontent-length: 0\r\n\r\n", V1A)
    await flow.settle(1.0)
    assert (dialled(flow) == [V1A, V1B]) is again
    assert (caller.heard() == b"") is again


@pytest.mark.parametrize(
    ("retry_on", "again"), [("5xx,503", False), ("503,envoy-ratelimited", True)]
)
@in_memory
async def test_who_limits_rates_is_asked_again_only_where_that_is_named(
    retry_on: str, again: bool
) -> None:
    flow = retrying(attempts=1, retryOn=retry_on)
    caller = await flow.called("GET", "/")
    limited = b"HTTP/1.1 503 No\r\nx-envoy-ratelimited: true\r\ncontent-length: 0\r\n\r\n"
    await flow.answer(limited, V1A)
    await flow.settle(1.0)
    assert (dialled(flow) == [V1A, V1B]) is again
    assert (caller.heard() == b"") is again


@in_memory
async def test_a_pause_comes_before_a_retry_and_grows() -> None:
    flow = flow_of({"route": [to()], "retries": {"attempts": 3, "retryOn": "5xx"}})
    flow.chance = 0.8
    await flow.called("GET", "/")
    first = dialled(flow)[0]
    await flow.answer(BAD, first)
    await flow.settle(0.019)
    assert len(dialled(flow)) == 1
    await flow.settle(0.002)
    assert len(dialled(flow)) == 2, "0.8 of 25 ms"
    await flow.answer(BAD, dialled(flow)[1])
    await flow.settle(0.059)
    assert len(dialled(flow)) == 2
    await flow.settle(0.002)
    assert len(dialled(flow)) == 3, "0.8 of 75 ms"


@in_memory
async def test_a_caller_that_leaves_during_the_pause_ends_the_call() -> None:
    flow = retrying()
    flow.chance = 0.9
    caller = await flow.called("GET", "/")
    await flow.answer(BAD, dialled(flow)[0])
    caller.reset()
    await flow.settle(1.0)
    assert len(dialled(flow)) == 1
    assert flow.rests()


@in_memory
async def test_the_routes_timeout_covers_all_tries_and_pauses() -> None:
    flow = flow_of({"route": [to()], "retries": RETRY, "timeout": "1s"})
    caller = await flow.called("GET", "/")
    await flow.settle(0.6)
    await flow.answer(BAD, V1A)
    await flow.settle(0.3)
    assert caller.heard() == b""
    await flow.settle(0.2)
    assert status(caller) == 504
    assert dialled(flow) == [V1A, V1B]
    assert flow.rests()


@in_memory
async def test_one_try_may_have_a_time_of_its_own() -> None:
    flow = retrying(attempts=1, retryOn="reset", perTryTimeout="500ms")
    caller = await flow.called("GET", "/")
    await flow.settle(0.51)
    assert flow.server(V1A).end == "aborted"
    assert dialled(flow) == [V1A, V1B]
    await flow.settle(0.49)
    assert caller.heard() == b""
    await flow.settle(0.02)
    assert status(caller) == 504
    cluster = next(iter(flow.world.clusters))
    assert cluster.counters["upstream_rq_timeout"] == 2
    caller.say(b"GET /again HTTP/1.1\r\nhost: a\r\n\r\n")
    await flow.settle()
    await flow.answer(OK, V2)
    await flow.settle(1.0)
    assert status(caller) == 200


@pytest.mark.parametrize(
    "lines",
    [
        b"content-type: text/event-stream\r\n",
        b"content-type: text/plain\r\ncontent-length: 9\r\n",
        b"content-type: application/json\r\ncontent-length: 9\r\n",
    ],
)
@in_memory
async def test_a_try_that_has_answered_is_not_late_any_more(lines: bytes) -> None:
    flow = retrying(attempts=1, retryOn="reset", perTryTimeout="500ms")
    caller = await flow.called("GET", "/")
    await flow.answer(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n", V1A)
    await flow.settle(2.0)
    await flow.answer(b"data: 1\n\n", V1A)
    assert b"data: 1" in caller.heard()
    assert caller.end == ""
    assert dialled(flow) == [V1A]


async def failing(flow: Flow, count: int) -> list[Pipe]:
    callers = [await flow.called("GET", "/") for _ in range(count)]
    for pipes in list(flow.loop.pipes.values()):
        for pipe in pipes:
            pipe.reset()
    await flow.settle()
    return callers


@in_memory
async def test_retries_under_way_are_bounded() -> None:
    flow = flow_of(
        {"route": [to("v2")], "retries": {"attempts": 1, "retryOn": "reset"}},
        connectionPool={"http": {"maxRetries": 2}},
    )
    callers = await failing(flow, 5)
    assert [bool(one.heard()) for one in callers].count(True) == 3
    cluster = next(one for one in flow.world.clusters if one.spec.name == "files.local|v2")
    assert cluster.counters["upstream_rq_retry"] == 2
    assert cluster.counters["upstream_rq_retry_overflow"] == 3
    assert cluster.retrying == 2
    for pipe in flow.servers(V2)[5:]:
        pipe.say(OK)
    await flow.settle()
    assert cluster.retrying == 0


@in_memory
async def test_retries_that_wait_for_their_pause_to_end_count_as_well() -> None:
    flow = flow_of(
        {"route": [to("v2")], "retries": {"attempts": 1, "retryOn": "reset"}},
        connectionPool={"http": {"maxRetries": 2}},
    )
    flow.chance = 0.9
    callers = await failing(flow, 5)
    assert [status(one) for one in callers if one.written] == [502] * 3
    cluster = next(one for one in flow.world.clusters if one.spec.name == "files.local|v2")
    assert (cluster.retrying, cluster.promised) == (0, 2)
    waiting = [one for one in callers if not one.end and not one.written]
    waiting[0].reset()
    await flow.settle(0.025)
    assert (cluster.retrying, cluster.promised) == (1, 0)
    assert cluster.counters["upstream_rq_retry_overflow"] == 3


@pytest.mark.parametrize("reply", [BAD, b""])
@in_memory
async def test_a_call_does_not_stand_in_its_own_way(reply: bytes) -> None:
    flow = flow_of(
        {"route": [to("v2")], "retries": {"attempts": 3, "retryOn": "5xx"}},
        connectionPool={"http": {"maxRetries": 1}},
    )
    caller = await flow.called("GET", "/")
    for number in range(3):
        assert sum(one.written.count(b"GET / ") for one in flow.servers(V2)) == number + 1
        server = flow.server(V2)
        server.say(reply) if reply else server.reset()
        await flow.settle(1.0)
    await flow.answer(OK, V2)
    assert status(caller) == 200


@in_memory
async def test_a_budget_is_a_share_of_the_calls_under_way() -> None:
    flow = flow_of(
        {"route": [to("v2")], "retries": {"attempts": 1, "retryOn": "reset"}},
        retryBudget={"percent": 0, "minRetryConcurrency": 1},
    )
    callers = await failing(flow, 3)
    assert [bool(one.heard()) for one in callers].count(True) == 2


@in_memory
async def test_the_access_line_says_where_a_call_went_and_how_often_it_was_tried() -> None:
    flow = flow_of({"route": [to("v1")], "retries": RETRY})
    await flow.called("GET", "/")
    await flow.answer(BAD, V1A)
    await flow.answer(OK, V1B)
    line = flow.records[0].line("", 0.0)
    assert (line["destination"], line["retries"], line["upstream"]) == ("files.local|v1", 1, V1B)
    plain = Flow()
    await plain.called("GET", "/")
    await plain.answer(OK)
    assert not {"destination", "retries"} & plain.records[0].line("", 0.0).keys()


@pytest.mark.parametrize(
    ("method", "body", "lines", "again"),
    [
        ("GET", b"", (), True),
        ("DELETE", b"", (), True),
        ("POST", message("tools/list"), (JSON,), True),
        ("POST", call_of("read_file"), (JSON,), False),
        ("POST", b"any text", ("content-type: text/plain",), False),
    ],
)
@in_memory
async def test_what_went_into_a_connection_that_was_ending_is_sent_again_if_it_may_be(
    method: str, body: bytes, lines: tuple[str, ...], again: bool
) -> None:
    flow = Flow()
    await flow.called("GET", "/")
    await flow.answer(OK)
    caller = await flow.called(method, "/mcp", body, *lines)
    (used,) = flow.servers()
    used.hang_up()
    await flow.settle(1)
    assert len(flow.servers()) == 1 + again
    if again:
        await flow.answer(OK)
    assert status(caller) == (200 if again else 502)
    assert flow.rests()
