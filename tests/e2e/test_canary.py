"""A canary on a running sidecar: shared by weight, moved by a reload under load, and copied.

All calls of a story are checked one by one: whatever is not answered 200 by a server
that may be asked fails the test.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop
from support.e2e import Daemon, Mesh
from support.load import EVERYBODY, Callers, Counting, connect, istio, service
from support.wire import eventually

CALLS = 10_000
CONNECTIONS = 8


def subsets(*names: str) -> str:
    found = [{"name": one, "labels": {"version": one}} for one in names]
    return istio("DestinationRule", "files", {"host": "files.local", "subsets": found})


def canary(old: int, new: int, **more: Any) -> str:
    route = [
        {"destination": {"host": "files.local", "subset": name}, "weight": weight}
        for name, weight in (("v1", old), ("v2", new))
    ]
    spec = {"hosts": ["files.local"], "http": [{"route": route, **more}]}
    return istio("VirtualService", "files", spec)


async def story(mesh: Mesh) -> None:
    async with AsyncExitStack() as stack:
        v1, v2, shadow = [
            await stack.enter_async_context(Counting(name)) for name in ("v1", "v2", "shadow")
        ]
        mesh.write("policy.yaml", EVERYBODY)
        mesh.write(
            "services.yaml",
            service("files.local", v1, v2) + service("shadow.local", shadow) + subsets("v1", "v2"),
        )
        mesh.write("routes.yaml", canary(90, 10))
        running = await asyncio.to_thread(stack.enter_context, mesh.run({"mcp": TO}))
        callers = await stack.enter_async_context(Callers(running, CONNECTIONS))
        await shares(callers)
        session = await begin(running, "v1")
        await moves_under_load(mesh, running, callers, v1, session)
        await copies(mesh, running, callers, v2, shadow, session)


TO = {"to": "http://files.local"}


async def shares(callers: Callers) -> None:
    found = await callers.calls(CALLS)
    assert sum(found.values()) == CALLS
    assert abs(found["v2"] / CALLS - 0.10) < 0.01, found


async def begin(running: Daemon, at: str) -> str:
    """Begin a session of the legacy era at the server *at*, and return its id."""
    client = await connect(running)
    for _ in range(200):
        answer = await client.ask("initialize")
        assert answer.status == 200
        if answer.by == at:
            client.close()
            return answer.session
    raise AssertionError(f"{at} began no session")


async def moves_under_load(
    mesh: Mesh, running: Daemon, callers: Callers, v1: Counting, session: str
) -> None:
    """All weight moves while calls are under way; the session stays where it is."""
    ended = asyncio.Event()
    loading = asyncio.create_task(callers.until(ended))
    staying = asyncio.create_task(stays(running, session, ended))
    await asyncio.sleep(0.3)
    mesh.write("routes.yaml", canary(0, 100))
    said = await asyncio.to_thread(running.reload)
    assert "configuration reloaded" in said
    await asyncio.sleep(0.3)
    ended.set()
    assert sum((await loading).values()) > 0
    assert await staying > 0
    before = v1.heard
    found = await callers.calls(500)
    assert found == Counter(v2=500)
    assert v1.heard == before
    assert v1.sessions[session] > 1


async def stays(running: Daemon, session: str, ended: asyncio.Event) -> int:
    """Go on with a session until *ended*; every call of it is its own server's to answer."""
    client = await connect(running)
    calls = 0
    while not ended.is_set():
        assert await client.called(session) == "v1"
        calls += 1
    client.close()
    return calls


async def copies(
    mesh: Mesh,
    running: Daemon,
    callers: Callers,
    v2: Counting,
    shadow: Counting,
    session: str,
) -> None:
    """A mirror hears every call, and nobody hears the mirror."""
    mesh.write("routes.yaml", canary(0, 100, mirror={"host": "shadow.local"}))
    await asyncio.to_thread(running.reload)
    assert await callers.calls(1_000) == Counter(v2=1_000)
    client = await connect(running)
    assert await client.called(session) == "v1", "a session stays whatever is copied"
    client.close()
    await asyncio.to_thread(eventually, lambda: shadow.heard == 1_001, "the copies")
    assert shadow.hosts == {"files-shadow"}
    assert v2.hosts == {"files"}
    shadow.stop()
    assert await callers.calls(500) == Counter(v2=500), "a mirror that is gone is not missed"


def run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


def test_a_canary_is_shared_moved_and_copied_without_a_lost_call(tmp_path: Path) -> None:
    run(story(Mesh(tmp_path)))
