"""Routes at work: where a call goes, what is changed on its way, and what is done to it."""

from __future__ import annotations

from typing import Any

import pytest
from support.flow import OK, Flow
from support.memory import in_memory
from support.routes import (
    JSON,
    SERVICES,
    SHADOW,
    V1A,
    V1B,
    V2,
    call_of,
    flow_of,
    routes,
    rule,
    status,
    to,
)

from sidecar.http.judge import RequestLine
from sidecar.policy.verdict import Refusal
from sidecar.replies import _first_lines


@pytest.mark.parametrize(("chance", "address"), [(0.0, V1A), (0.89, V1A), (0.9, V2), (0.99, V2)])
@in_memory
async def test_calls_are_shared_by_weight(chance: float, address: str) -> None:
    flow = flow_of({"route": [to("v1", 90), to("v2", 10)]})
    flow.chance = chance
    caller = await flow.called("GET", "/")
    await flow.answer(OK, address)
    assert status(caller) == 200
    assert flow.records[0].upstream == address
    assert flow.rests()


@pytest.mark.parametrize(
    ("match", "address"),
    [
        ({"uri": {"prefix": "/mcp"}}, V2),
        ({"uri": {"exact": "/other"}}, V1A),
        ({"headers": {"x-canary": {}}}, V2),
        ({"mcp": {"tool": {"exact": "search"}}}, V2),
        ({"mcp": {"tool": {"exact": "write"}}}, V1A),
        ({"mcp": {"principal": {"exact": "cluster.local/ns/agent/sa/alice"}}}, V2),
        ({"mcp": {"principal": {"prefix": "cluster.local/ns/other/"}}}, V1A),
        ({"port": 8443}, V2),
    ],
)
@in_memory
async def test_a_call_goes_by_the_first_route_that_matches(
    match: dict[str, Any], address: str
) -> None:
    flow = flow_of({"match": [match], "route": [to("v2")]}, {"route": [to("v1")]})
    caller = await flow.called("POST", "/mcp", call_of("search"), JSON, "x-canary: 1")
    await flow.answer(OK, address)
    assert status(caller) == 200


@in_memory
async def test_a_call_that_no_route_matches_is_answered_404_and_goes_nowhere() -> None:
    flow = flow_of({"match": [{"uri": {"exact": "/a"}}], "route": [to("v1")]})
    caller = await flow.called("GET", "/b")
    assert status(caller) == 404
    assert flow.loop.pipes == {}
    verdict = flow.records[0].verdict
    assert isinstance(verdict, Refusal)
    assert verdict.detail == "no route of its VirtualService matches"


@in_memory
async def test_paths_hosts_and_fields_are_rewritten_on_the_way() -> None:
    flow = flow_of(
        {
            "match": [{"uri": {"prefix": "/old"}}],
            "route": [to("v1", headers={"request": {"set": {"x-version": "v1"}}})],
            "rewrite": {"uri": "/new", "authority": "inner.local"},
            "headers": {
                "request": {"add": {"x-by": "route"}, "remove": ["x-drop"]},
                "response": {"set": {"x-route": "one"}, "remove": ["server"]},
            },
        }
    )
    caller = await flow.called("GET", "/old/a?b=c", b"", "x-drop: 1", "x-keep: 2")
    head = flow.server(V1A).heard().decode().split("\r\n")
    assert head[:2] == ["GET /new/a?b=c HTTP/1.1", "host: inner.local"]
    assert {"x-version: v1", "x-by: route", "x-keep: 2"} <= set(head)
    assert "x-drop: 1" not in head
    await flow.answer(
        b"HTTP/1.1 200 OK\r\nServer: x\r\nx-own: 1\r\ncontent-length: 2\r\n\r\nok", V1A
    )
    said = caller.heard().decode().split("\r\n")
    assert {"x-own: 1", "x-route: one"} <= set(said)
    assert not any(line.lower().startswith("server:") for line in said)


@in_memory
async def test_a_path_that_would_climb_out_is_refused() -> None:
    flow = flow_of(
        {
            "match": [{"uri": {"prefix": "/old"}}],
            "route": [to("v1")],
            "rewrite": {"uri": "/new/"},
        }
    )
    caller = await flow.called("GET", "/old..")
    assert status(caller) == 400
    assert flow.loop.pipes == {}


@in_memory
async def test_another_service_sees_its_own_name() -> None:
    flow = flow_of({"route": [to(host="shadow.local")]})
    await flow.called("GET", "/")
    assert b"\r\nhost: shadow.local\r\n" in flow.server(SHADOW).heard()


# -- faults


@in_memory
async def test_an_abort_answers_in_the_servers_place() -> None:
    fault = {"abort": {"httpStatus": 418, "percentage": {"value": 50}}}
    flow = flow_of({"route": [to("v1")], "fault": fault})
    caller = await flow.called("GET", "/")
    assert status(caller) == 418
    assert flow.loop.pipes == {}
    flow.chance = 0.6
    other = await flow.called("GET", "/")
    await flow.answer(OK, V1A)
    assert status(other) == 200


@in_memory
async def test_without_a_percentage_nobody_is_aborted_or_delayed() -> None:
    fault = {"abort": {"httpStatus": 500}, "delay": {"fixedDelay": "5s"}}
    flow = flow_of({"route": [to("v1")], "fault": fault})
    caller = await flow.called("GET", "/")
    await flow.answer(OK, V1A)
    assert status(caller) == 200


@in_memory
async def test_a_delay_comes_before_the_call_is_sent_and_ends_with_its_caller() -> None:
    fault = {"delay": {"fixedDelay": "5s", "percentage": {"value": 100}}}
    flow = flow_of({"route": [to("v1")], "fault": fault})
    caller, leaving = await flow.called("GET", "/"), await flow.called("GET", "/")
    await flow.settle(4.0)
    assert flow.loop.pipes == {}
    leaving.reset()
    await flow.settle(1.1)
    assert flow.loop.dialled(V1A) + flow.loop.dialled(V1B) == 1
    await flow.answer(OK, V1A)
    assert status(caller) == 200
    assert flow.rests()


# -- timeouts


@in_memory
async def test_a_routes_timeout_is_met_to_the_moment() -> None:
    flow = flow_of({"route": [to("v1")], "timeout": "200ms"})
    caller = await flow.called("GET", "/")
    await flow.settle(0.19)
    assert caller.heard() == b""
    await flow.settle(0.02)
    assert status(caller) == 504
    assert flow.rests()
    caller.say(b"GET /again HTTP/1.1\r\nhost: a\r\n\r\n")
    await flow.settle()
    await flow.answer(OK, V1B)
    await flow.settle(1.0)
    assert status(caller) == 200, "a timer of one call is none of the next"


@in_memory
async def test_a_reply_that_drags_on_is_broken_off_but_a_stream_is_not() -> None:
    flow = flow_of({"route": [to("v1")], "timeout": "1s"})
    dragging, streaming = await flow.called("GET", "/"), await flow.called("GET", "/")
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: 100\r\n\r\nhalf"
    await flow.answer(head % b"text/plain", V1A)
    await flow.answer(head % b"text/event-stream; charset=utf-8", V1B)
    await flow.settle(1.1)
    assert dragging.end == "aborted"
    assert streaming.end == ""
    assert b"half" in streaming.heard()


@in_memory
async def test_a_timeout_may_be_longer_than_the_limit_of_all_calls() -> None:
    flow = flow_of({"route": [to("v1")], "timeout": "20s"}, limits="callTimeout: 5s")
    caller = await flow.called("GET", "/")
    await flow.settle(15.0)
    assert caller.heard() == b""
    await flow.answer(OK, V1A)
    assert status(caller) == 200


# -- mirrors


MIRRORED: dict[str, Any] = {"route": [to("v1")], "mirror": {"host": "shadow.local"}}


@in_memory
async def test_a_mirror_gets_a_copy_and_its_answer_goes_nowhere() -> None:
    flow = flow_of(MIRRORED)
    caller = await flow.called("POST", "/a?b=c", b"body", "content-type: text/plain")
    copy, sent = flow.server(SHADOW).heard(), flow.server(V1A).heard()
    assert copy == sent.replace(b"host: files.local\r\n", b"host: files.local-shadow\r\n")
    await flow.answer(b"HTTP/1.1 500 No\r\ncontent-length: 7\r\n\r\nsecrets", SHADOW)
    assert caller.heard() == b""
    await flow.answer(OK, V1A)
    assert caller.heard().endswith(b"\r\n\r\nok")
    assert flow.world.mirrors.active == 0
    assert flow.rests()
    again = await flow.called("GET", "/again")
    assert flow.loop.dialled(SHADOW) == 1, "its connection is used again"
    again.reset()


@pytest.mark.parametrize("how", ["refuse", "reset", "silence", "no reply"])
@in_memory
async def test_whatever_becomes_of_a_copy_its_call_does_not_notice(how: str) -> None:
    flow = flow_of(MIRRORED, limits="callTimeout: 5s")
    if how == "refuse":
        flow.loop.refuse = {SHADOW}
    caller = await flow.called("GET", "/")
    if how == "reset":
        flow.server(SHADOW).reset()
    if how == "no reply":
        await flow.answer(b"nonsense\r\n\r\n", SHADOW)
    await flow.answer(OK, V1A)
    assert status(caller) == 200
    await flow.settle(6.0)
    assert flow.world.mirrors.active == 0
    assert flow.rests()
    assert flow.faults == []


@in_memory
async def test_copies_under_way_are_bounded() -> None:
    flow = flow_of(MIRRORED, limits="mirroredCalls: 2")
    for _ in range(4):
        await flow.called("GET", "/")
    assert flow.loop.dialled(SHADOW) == 2
    shadow = next(one for one in flow.world.clusters if one.spec.name == "shadow.local")
    assert shadow.counters["upstream_rq_mirror_overflow"] == 2


@in_memory
async def test_a_mirrors_long_answer_is_read_to_its_end_and_kept_nowhere() -> None:
    flow = flow_of(MIRRORED)
    await flow.called("GET", "/")
    shadow = flow.server(SHADOW)
    shadow.say(b"HTTP/1.1 200 OK\r\ncontent-length: 400000\r\n\r\n")
    for _ in range(4):
        shadow.say(b"x" * 100_000)
        await flow.settle()
    assert flow.world.mirrors.active == 0
    assert shadow.end == ""
    await flow.called("GET", "/again")
    assert flow.loop.dialled(SHADOW) == 1, "its connection is used again"


@in_memory
async def test_of_a_stream_that_is_only_listened_to_no_copy_goes_on() -> None:
    flow = flow_of(MIRRORED)
    await flow.called("GET", "/mcp")
    stream = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    await flow.answer(stream, SHADOW)
    assert flow.world.mirrors.active == 0
    assert flow.server(SHADOW).end == "aborted"
    await flow.called("POST", "/mcp", b"x")
    await flow.answer(stream + b"data: 1\n\n", SHADOW)
    assert flow.world.mirrors.active == 1, "what answers a call ends by itself"


@pytest.mark.parametrize(("chance", "copies"), [(0.09, 1), (0.1, 0)])
@in_memory
async def test_a_share_of_calls_is_copied(chance: float, copies: int) -> None:
    flow = flow_of({**MIRRORED, "mirrorPercentage": {"value": 10}})
    flow.chance = chance
    await flow.called("GET", "/")
    assert flow.loop.dialled(SHADOW) == copies


@in_memory
async def test_what_is_refused_is_not_copied() -> None:
    flow = Flow(SERVICES + rule() + routes(MIRRORED), to="http://files.local")
    caller = await flow.called("GET", "/")
    assert status(caller) == 403
    assert flow.loop.pipes == {}


def test_a_request_line_is_remembered_for_few_hosts_where_it_is_short_and_asks_nothing() -> None:
    start = RequestLine.of("POST", b"/mcp")
    for number in range(10):
        host = b"host-%d" % number
        for _ in range(2):
            lines = _first_lines(start, "/mcp", "", host)
            assert lines == b"POST /mcp HTTP/1.1\r\nhost: %b\r\n" % host
    assert 0 < len(start.written) <= 4
    start.written.clear()
    _first_lines(start, "/mcp", "token=secret", b"a")
    _first_lines(start, "/" + "a" * 300, "", b"a")
    assert start.written == {}
