"""Sessions on a running sidecar: they stay where they began, and are told when that is gone."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop
from support.e2e import Daemon, Mesh
from support.load import EVERYBODY, Client, Counting, connect, istio, service
from support.wire import eventually

TO = {"to": "http://files.local"}
MODERN = "mcp-protocol-version: 2026-07-28"


class Story:
    """A sidecar before three servers, and a caller."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.servers: list[Counting] = []
        self.running: Daemon
        self.client: Client

    async def begin(self, stack: AsyncExitStack) -> None:
        for name in ("v1", "v2", "v3"):
            self.servers.append(await stack.enter_async_context(Counting(name)))
        self.mesh.write("policy.yaml", EVERYBODY)
        self.mesh.write("services.yaml", service("files.local", *self.servers))
        self.running = await asyncio.to_thread(stack.enter_context, self.mesh.run({"mcp": TO}))
        self.client = await connect(self.running)

    async def session(self) -> tuple[str, str]:
        """Begin a session; return its id and who has it."""
        answer = await self.client.ask("initialize")
        assert answer.status == 200
        return answer.session, answer.by

    async def reload(self, *servers: Counting, more: str = "") -> None:
        self.mesh.write("services.yaml", service("files.local", *servers) + more)
        assert "reloaded" in await asyncio.to_thread(self.running.reload)


def told(folder: Path, story: Any) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack:
            one = Story(Mesh(folder))
            await one.begin(stack)
            await story(one)
            one.client.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def test_sessions_stay_where_they_began_and_the_stateless_era_has_none(tmp_path: Path) -> None:
    async def story(one: Story) -> None:
        sessions = [await one.session() for _ in range(12)]
        assert len({home for _, home in sessions}) > 1
        for _ in range(3):
            for session, home in sessions:
                assert await one.client.called(session) == home
        session, _ = sessions[0]
        modern = [await one.client.ask("server/discover", session, *HEADERS) for _ in range(60)]
        assert {answer.by for answer in modern} == {"v1", "v2", "v3"}

    told(tmp_path, story)


HEADERS = (MODERN, "mcp-method: server/discover")


def test_a_session_whose_server_is_killed_is_answered_404_and_begins_anew(tmp_path: Path) -> None:
    async def story(one: Story) -> None:
        session, home = await one.session()
        other, elsewhere = session, home
        while elsewhere == home:
            other, elsewhere = await one.session()
        next(server for server in one.servers if server.name == home).stop()
        answer = await one.client.ask(session=session)
        if answer.status == 502:  # sent over a connection whose end had not been heard of
            answer = await one.client.ask(session=session)
        assert answer.status == 404
        assert b"initialize again" in answer.body
        assert await one.client.called(other) == elsewhere, "the others go on"
        again, new = await one.session()
        assert new != home
        assert await one.client.called(again) == new

    told(tmp_path, story)


def test_a_session_whose_server_a_reload_takes_away_is_answered_404(tmp_path: Path) -> None:
    async def story(one: Story) -> None:
        session, home = await one.session()
        staying = [server for server in one.servers if server.name != home]
        await one.reload(*staying)
        assert (await one.client.ask(session=session)).status == 404
        await one.reload(*one.servers)
        assert await one.client.called(session) == home, "it was never lost there"

    told(tmp_path, story)


def test_calls_of_one_principal_stay_together_where_a_rule_says_so(tmp_path: Path) -> None:
    async def story(one: Story) -> None:
        spec = {
            "host": "files.local",
            "trafficPolicy": {"loadBalancer": {"consistentHash": {"usePrincipal": True}}},
        }
        await one.reload(*one.servers, more=istio("DestinationRule", "files", spec))
        homes = set()
        for name in "abcdefgh":
            client = await connect(one.running, f"agent/{name}")
            found = Counter([await client.called() for _ in range(5)])
            assert len(found) == 1
            homes.update(found)
            client.close()
        assert len(homes) > 1

    told(tmp_path, story)


def test_a_name_is_looked_up_and_called(tmp_path: Path) -> None:
    async def story(one: Story) -> None:
        spec = {
            "hosts": ["files.local"],
            "ports": [{"number": 80, "name": "http", "targetPort": one.servers[0].port}],
            "resolution": "DNS",
            "endpoints": [{"address": "localhost"}],
        }
        one.mesh.write("services.yaml", istio("ServiceEntry", "files", spec))
        assert "reloaded" in await asyncio.to_thread(one.running.reload)
        stats = await asyncio.to_thread(one.running.stats)
        assert stats["cluster.files.local.membership_total"] >= 1
        # Where `::1` is one of its addresses nobody is there, and the other one is tried.
        assert Counter([await one.client.called() for _ in range(10)]) == Counter(v1=10)

    told(tmp_path, story)


def test_a_broken_reload_keeps_sessions_and_routes_as_they_were(tmp_path: Path) -> None:
    async def story(one: Story) -> None:
        session, home = await one.session()
        bad = istio("VirtualService", "bad", {"hosts": ["files.local"], "http": [{"route": []}]})
        one.mesh.write("routes.yaml", bad)
        said = await asyncio.to_thread(one.running.reload)
        assert "stays in force" in said
        assert "SC0210" in said
        assert await one.client.called(session) == home
        await asyncio.to_thread(eventually, lambda: one.running.page("/readyz")[0] == 200, "ready")

    told(tmp_path, story)
