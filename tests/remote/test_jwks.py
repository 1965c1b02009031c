"""Keys that are kept: fetched, renewed, asked for, and never lost while they cannot be had."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.tokens import Issuer, Signer
from support.wire import Heard, Recorder, reply

from sidecar.net.tasks import Tasks
from sidecar.policy.tokens.keys import KeyRing, KeySource
from sidecar.remote import jwks as subject
from sidecar.remote.jwks import KeyKeeper

ONE = Issuer("https://one.test", Signer("one", "ES256"))
TWO = Issuer("https://two.test", Signer("two", "ES256"))
Test = Callable[[], Coroutine[object, object, None]]


class World:
    """A keeper, what it says, and a server of keys."""

    def __init__(self, server: Recorder) -> None:
        self.server = server
        self.said: list[str] = []
        self.faults: list[BaseException] = []
        self.tasks = Tasks(lambda _, fault: self.faults.append(fault))
        self.keeper = KeyKeeper(self.tasks.spawn, time.monotonic, self.said.append)

    def serve(self, body: str | bytes, status: str = "200 OK") -> None:
        data = body.encode() if isinstance(body, str) else body
        self.server.answer = lambda _: reply(data, status)

    def ring(self, path: str = "/keys", seconds: float = 5.0, **more: Any) -> KeyRing:
        return KeyRing(KeySource(f"{self.server.url}{path}", timeout=seconds, **more))

    async def kept(self, *rings: KeyRing) -> None:
        """What a start and a reload do."""
        await self.keeper.prepare(rings)
        self.keeper.keep(rings)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    with Recorder() as server:
        made = World(server)
        made.serve(ONE.jwks())
        try:
            yield made
        finally:
            await made.tasks.end()
    assert made.faults == []


def running(test: Callable[[World], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test in a loop of its own, with a world."""

    async def run() -> None:
        async with world() as made:
            await test(made)

    def sync() -> None:
        asyncio.run(run())

    sync.__name__ = test.__name__
    return sync


async def until(look: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not look():
            await asyncio.sleep(0.005)


def kids(ring: KeyRing) -> list[str]:
    return [] if ring.keys is None else [key.kid for key in ring.keys.keys]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "SOONEST", 0.01)
    monkeypatch.setattr(subject, "_FIRST_RETRY", 0.01)
    monkeypatch.setattr(subject, "_LAST_RETRY", 0.02)


@running
async def test_keys_are_there_once_they_were_prepared(world: World) -> None:
    ring = world.ring()
    await world.kept(ring)
    assert kids(ring) == ["one"]
    assert (len(world.server), world.said) == (1, [])


@running
async def test_a_source_is_asked_once_whoever_names_it(world: World) -> None:
    rings = [world.ring(), world.ring(), world.ring("/other")]
    await world.kept(*rings)
    assert [kids(ring) for ring in rings] == [["one"]] * 3
    assert sorted(one.path for one in world.server.heard) == ["/keys", "/other"]


@running
async def test_a_reload_keeps_the_keys_of_a_source_that_stays(world: World) -> None:
    first = world.ring()
    await world.kept(first)
    second = world.ring()
    await world.kept(second)
    assert second.keys is first.keys is not None
    assert len(world.server) == 1
    await world.kept()
    third = world.ring()
    await world.kept(third)
    assert kids(third) == ["one"]
    assert len(world.server) == 2


@running
async def test_a_token_with_an_unknown_key_brings_newer_ones(world: World) -> None:
    ring = world.ring()
    await world.kept(ring)
    world.serve(TWO.jwks())
    ring.ask()
    await until(lambda: kids(ring) == ["two"])


@running
async def test_keys_that_did_not_change_stay_the_same_object(world: World) -> None:
    ring = world.ring()
    await world.kept(ring)
    before = ring.keys
    ring.ask()
    await until(lambda: len(world.server) == 2)
    await asyncio.sleep(0.02)
    assert ring.keys is before


def test_asking_a_hundred_times_fetches_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "SOONEST", 0.2)

    async def run() -> None:
        async with world() as made:
            ring = made.ring()
            await made.kept(ring)
            for _ in range(20):
                for _ in range(5):
                    ring.ask()
                await asyncio.sleep(0)
            await until(lambda: len(made.server) == 2)
            assert len(made.server) == 2

    asyncio.run(run())


def test_keys_are_fetched_anew_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "REFRESH", 0.02)

    async def run() -> None:
        async with world() as made:
            ring = made.ring()
            await made.kept(ring)
            made.serve(TWO.jwks())
            await until(lambda: kids(ring) == ["two"])

    asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (reply(b"no", "404 Not Found"), "answers 404"),
        (reply(b"no"), "not strict JSON"),
        (reply(b'{"keys":[]}'), "no public key"),
        (reply(b'{"keys":[{"kty":"oct","k":"AAAA"}]}'), "no public key"),
        (reply(b"{" + b" " * 300_000), "longer than"),
        (b"", "not HTTP"),
        (b"nonsense\r\n\r\n", "not HTTP"),
    ],
    ids=range(7),
)
def test_the_last_good_keys_stay_while_newer_ones_cannot_be_had(answer: bytes, word: str) -> None:
    async def run() -> None:
        async with world() as made:
            ring = made.ring("/keys?secret=1")
            await made.kept(ring)
            good = ring.keys
            made.server.answer = lambda _: answer
            ring.ask()
            await until(lambda: len(made.server) > 3)
            assert ring.keys is good is not None
            (line,) = made.said
            assert word in line
            assert "stay" in line
            assert "secret" not in line
            made.serve(TWO.jwks())
            await until(lambda: kids(ring) == ["two"])
            await until(lambda: len(made.said) == 2)
            assert "there again" in made.said[1]

    asyncio.run(run())


@running
async def test_without_any_keys_there_are_none_until_they_come(world: World) -> None:
    world.serve("", "503 Later")
    ring = world.ring()
    await world.kept(ring)
    assert ring.keys is None
    assert "tokens are refused until then" in world.said[0]
    world.serve(ONE.jwks())
    await until(lambda: kids(ring) == ["one"])


def test_a_slow_source_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_FIRST_WAIT", 0.05)

    def slow(heard: Heard) -> bytes:
        heard.socket.recv(1)
        return b""

    async def run() -> None:
        async with world() as made:
            made.server.answers["/slow"] = slow
            slow_ring, ring = made.ring("/slow"), made.ring()
            await made.kept(slow_ring, ring)
            assert (kids(slow_ring), kids(ring)) == ([], ["one"])

    asyncio.run(run())


@running
async def test_a_source_is_given_its_own_time(world: World) -> None:
    def slow(heard: Heard) -> bytes:
        heard.socket.recv(1)
        return b""

    world.server.answer = slow
    await world.kept(world.ring(seconds=0.02))
    assert "longer than 0.02 s" in world.said[0]


@running
async def test_an_issuer_is_asked_where_its_keys_are(world: World) -> None:
    document = json.dumps({"issuer": "x", "jwks_uri": f"{world.server.url}/keys"}).encode()
    world.server.answers["/.well-known/openid-configuration"] = lambda _: reply(document)
    ring = world.ring("/.well-known/openid-configuration", discover=True)
    await world.kept(ring)
    assert kids(ring) == ["one"]


@pytest.mark.parametrize(
    "document",
    [b"[]", b"no", b"{}", b'{"jwks_uri":5}', b'{"jwks_uri":"http://10.0.0.1/"}'],
)
def test_a_discovery_that_leads_nowhere_safe_is_not_followed(document: bytes) -> None:
    async def run() -> None:
        async with world() as made:
            made.server.answer = lambda _: reply(document)
            ring = made.ring("/x", discover=True)
            await made.kept(ring)
            assert ring.keys is None
            assert "discovery document" in made.said[0]
            assert {one.path for one in made.server.heard} == {"/x"}

    asyncio.run(run())
