"""Where a session's calls go: to the server that it began at, for as long as that is there."""

from __future__ import annotations

from typing import Any

import pytest
from support.flow import OK, Flow, compiled
from support.memory import in_memory
from support.routes import (
    JSON,
    SERVICES,
    V1A,
    V1B,
    V2,
    call_of,
    flow_of,
    message,
    routes,
    rule,
    status,
    to,
)

from sidecar.policy.verdict import Refusal

ALLOW = """\
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: everybody, namespace: mcp-prod}
spec: {rules: [{}]}
"""


def begun(session: str) -> bytes:
    lines = f"mcp-session-id: {session}\r\ncontent-type: application/json\r\n"
    return f"HTTP/1.1 200 OK\r\n{lines}content-length: 2\r\n\r\n{{}}".encode()


async def begin(flow: Flow, session: str = "abc", address: str = V1A) -> None:
    """Begin a session; it is *address*'s turn."""
    caller = await flow.called("POST", "/mcp", message("initialize"), JSON)
    await flow.answer(begun(session), address)
    assert status(caller) == 200


def asked(flow: Flow) -> dict[str, int]:
    """How many calls each server has heard, and forget them."""
    heard = {
        address: sum(pipe.heard().count(b" HTTP/1.1\r\n") for pipe in pipes)
        for address, pipes in flow.loop.pipes.items()
    }
    return {address: count for address, count in heard.items() if count}


async def go_on(flow: Flow, session: str = "abc", answer: bytes = OK, **more: str) -> int:
    """Send one call of *session*; whoever is asked answers."""
    asked(flow)
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    caller = await flow.called(
        "POST", "/mcp", call_of("search"), JSON, f"mcp-session-id: {session}", *lines
    )
    for pipes in list(flow.loop.pipes.values()):
        for pipe in pipes:
            if pipe.written and not pipe.end:
                pipe.say(answer)
    await flow.settle()
    return status(caller)


def reload(flow: Flow, *http: dict[str, Any], services: str = SERVICES, **policy: Any) -> None:
    documents = ALLOW + services + rule(**policy) + (routes(*http) if http else "")
    flow.world.adopt(compiled(documents, "http://files.local", ""))


@in_memory
async def test_a_sessions_calls_go_where_it_began() -> None:
    flow = flow_of()
    await begin(flow)
    for _ in range(4):
        assert await go_on(flow) == 200
        assert asked(flow) == {V1A: 1}
    assert flow.rests()


@in_memory
async def test_sessions_have_servers_of_their_own() -> None:
    flow = flow_of()
    for number, address in enumerate((V1A, V1B, V2)):
        await begin(flow, f"s{number}", address)
    for number, address in enumerate((V1A, V1B, V2)):
        assert await go_on(flow, f"s{number}") == 200
        assert asked(flow) == {address: 1}


@in_memory
async def test_the_stateless_era_has_no_sessions() -> None:
    flow = flow_of()
    await begin(flow)
    seen = set()
    for _ in range(3):
        assert await go_on(flow, mcp_protocol_version="2026-07-28") == 200
        seen.update(asked(flow))
    assert seen == {V1A, V1B, V2}


@in_memory
async def test_a_session_nobody_knows_goes_to_one_server_always() -> None:
    flow = flow_of()
    homes = set()
    for name in ("x1", "x2", "x3", "x4", "x5", "x6"):
        first = None
        for _ in range(3):
            assert await go_on(flow, name) == 200
            (where,) = asked(flow)
            assert first in (None, where)
            first = where
        homes.add(first)
    assert len(homes) > 1, "not all of them to the same"


@in_memory
async def test_a_session_survives_reloads_and_moves_of_all_weight() -> None:
    flow = flow_of({"route": [to("v1", 100), to("v2", 0)]})
    await begin(flow)
    reload(flow, {"route": [to("v1", 0), to("v2", 100)]})
    assert await go_on(flow) == 200
    assert asked(flow) == {V1A: 1}
    reload(flow, {"route": [to("v2")]})
    assert await go_on(flow) == 200
    assert asked(flow) == {V1A: 1}, "no route leads there any more, and it is there"
    reload(flow)
    assert await go_on(flow) == 200
    assert asked(flow) == {V1A: 1}
    other = await flow.called("POST", "/mcp", message("initialize"), JSON)
    other.reset()


@in_memory
async def test_a_session_of_a_single_server_stays_when_others_join() -> None:
    single = SERVICES.replace("  - {address: 127.0.0.2, labels: {version: v1}}\n", "").replace(
        "  - {address: 127.0.0.3, labels: {version: v2}}\n", ""
    )
    flow = Flow(ALLOW + single, to="http://files.local")
    await begin(flow)
    reload(flow)
    for _ in range(3):
        assert await go_on(flow) == 200
        assert asked(flow) == {V1A: 1}


@pytest.mark.parametrize("how", ["removed", "ejected", "refusing"])
@in_memory
async def test_a_session_whose_server_is_gone_is_answered_404(how: str) -> None:
    flow = flow_of()
    await begin(flow)
    if how == "removed":
        gone = SERVICES.replace("  - {address: 127.0.0.1, labels: {version: v1}}\n", "")
        reload(flow, services=gone)
    elif how == "ejected":
        cluster = next(iter(flow.world.clusters))
        cluster.endpoints[V1A].ejected = True
    else:
        for pipe in flow.servers(V1A):
            pipe.reset()
        flow.loop.refuse = {V1A}
        await flow.settle()
    assert await go_on(flow) == 404
    assert asked(flow) == {}
    verdict = flow.records[-1].verdict
    assert isinstance(verdict, Refusal)
    assert verdict.message == "the session's server is gone: initialize again"
    await begin(flow, "new", V1B)
    assert await go_on(flow, "new") == 200
    assert asked(flow) == {V1B: 1}
    assert flow.rests()


@in_memory
async def test_an_ended_session_is_forgotten() -> None:
    flow = flow_of()
    await begin(flow)
    caller = await flow.called("DELETE", "/mcp", b"", "mcp-session-id: abc")
    await flow.answer(b"HTTP/1.1 204 Gone\r\n\r\n", V1A)
    assert status(caller) == 204
    assert len(flow.world.sessions) == 0


@in_memory
async def test_a_session_that_its_server_has_lost_is_forgotten() -> None:
    flow = flow_of()
    await begin(flow)
    lost = b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n"
    assert await go_on(flow, answer=lost) == 404
    assert len(flow.world.sessions) == 0


@in_memory
async def test_a_server_cannot_take_anothers_session_over() -> None:
    flow = flow_of()
    await begin(flow, "abc", V1A)
    await begin(flow, "abc", V1B)
    assert await go_on(flow) == 200
    assert asked(flow) == {V1A: 1}


@in_memory
async def test_sessions_are_bounded_and_forgotten_in_time() -> None:
    flow = Flow(
        ALLOW + SERVICES + rule(),
        to="http://files.local",
        limits="sessions: 2, sessionLifetime: 60s",
    )
    for number, address in enumerate((V1A, V1B, V2)):
        await begin(flow, f"s{number}", address)
    assert len(flow.world.sessions) == 2
    await flow.settle(61)
    await go_on(flow, "s2")
    assert len(flow.world.sessions) == 1, "looked for, found too old, and forgotten"


# -- what belongs together by a rule


HASHED = {"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user"}}}


async def asked_as(flow: Flow, *lines: str) -> tuple[str, bytes]:
    """Return who was asked, and what the caller was answered."""
    asked(flow)
    caller = await flow.called("GET", "/", b"", *lines)
    (address,) = [
        address
        for address, pipes in flow.loop.pipes.items()
        for pipe in pipes
        if pipe.written and not pipe.end
    ]
    await flow.answer(OK, address)
    return address, caller.heard()


@in_memory
async def test_calls_of_one_user_go_to_one_server() -> None:
    flow = flow_of(**HASHED)
    homes = {}
    for user in "abcdefgh":
        found = {(await asked_as(flow, f"x-user: {user}"))[0] for _ in range(3)}
        assert len(found) == 1
        homes[user] = found.pop()
    assert len(set(homes.values())) > 1


@in_memory
async def test_a_caller_without_the_cookie_is_given_one_that_brings_it_back() -> None:
    cookie = {"httpCookie": {"name": "who", "ttl": "60s", "path": "/mcp"}}
    flow = flow_of(loadBalancer={"consistentHash": cookie})
    flow.chance = 0.3
    first, said = await asked_as(flow)
    line = next(x for x in said.decode().split("\r\n") if x.startswith("set-cookie: "))
    assert line.endswith("; Max-Age=60; Path=/mcp; HttpOnly")
    value = line.removeprefix("set-cookie: ").partition(";")[0]
    again, said = await asked_as(flow, f"cookie: {value}")
    assert again == first
    assert b"set-cookie" not in said


@in_memory
async def test_with_a_hash_a_retry_goes_where_it_was() -> None:
    flow = flow_of(**HASHED)
    home, _ = await asked_as(flow, "x-user: a")
    for pipe in flow.servers(home):
        pipe.reset()
    flow.loop.refuse = {home}
    await flow.settle()
    caller = await flow.called("GET", "/", b"", "x-user: a")
    assert status(caller) == 503
    cluster = next(iter(flow.world.clusters))
    assert cluster.counters["upstream_cx_connect_fail"] == 3


@in_memory
async def test_a_session_stays_when_its_versions_are_named_anew() -> None:
    flow = flow_of({"route": [to("v1", 100), to("v2", 0)]})
    await begin(flow)
    renamed = (
        rule().replace('"name": "v1"', '"name": "old"').replace('"name": "v2"', '"name": "new"')
    )
    documents = ALLOW + SERVICES + renamed + routes({"route": [to("new")]})
    flow.world.adopt(compiled(documents, "http://files.local", ""))
    assert await go_on(flow) == 200
    assert asked(flow) == {V1A: 1}
