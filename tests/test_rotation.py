"""A local CA's certificates are renewed at half of their life, by a child, and never let lapse."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.daemon import issue
from support.mint import Mint

from sidecar.ca.identity import load_identity
from sidecar.errors import StartError
from sidecar.rotation import IdentitySpec, Rotation

NAME = "mcp-prod/files"
# A certificate begins a minute before it is made: one that ends in `HALF + 60` s is
# at half of its life in `HALF` s.
HALF = 2
TTL = f"{60 + 2 * HALF}s"


class Clock:
    """The wall clock, which a test may set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Site:
    """A folder with a CA, and a rotation over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "certs" / NAME
        self.ca = folder / "certs" / "ca"
        self.clock = Clock()
        self.said: list[str] = []
        issue(folder, "agent/alice")  # makes the CA

    def rotation(self, ttl: str = TTL, name: str = NAME) -> Rotation:
        spec = IdentitySpec(self.folder, name, self.ca, "cluster.local", ttl=ttl)
        return Rotation(spec, self.clock, lambda: 0.0, self.said.append)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def until(condition: Callable[[], bool], rotation: Rotation, patience: float = 20) -> None:
    """Let *rotation* run until *condition* holds."""
    running = asyncio.create_task(rotation.run())
    try:
        async with asyncio.timeout(patience):
            while not condition():
                assert not running.done()
                await asyncio.sleep(0.05)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def serial(rotation: Rotation) -> int:
    assert rotation.current is not None
    return rotation.current.svid.serial


def test_the_first_certificate_comes_from_the_ca(site: Site) -> None:
    rotation = site.rotation()
    asyncio.run(rotation.start())
    assert rotation.current is not None
    assert str(rotation.current.svid.id) == "spiffe://cluster.local/ns/mcp-prod/sa/files"
    assert load_identity(site.folder, time.time()).svid.serial == serial(rotation)


def test_a_certificate_with_more_than_half_of_its_life_is_used_again(site: Site) -> None:
    first, second = site.rotation("1h"), site.rotation("1h")
    asyncio.run(first.start())
    asyncio.run(second.start())
    assert serial(first) == serial(second)


def test_one_past_its_half_is_not(site: Site) -> None:
    first, second = site.rotation("1h"), site.rotation("1h")
    asyncio.run(first.start())
    site.clock.ahead = 31 * 60
    asyncio.run(second.start())
    assert serial(first) != serial(second)


def test_another_name_asks_for_another_certificate(site: Site) -> None:
    first, second = site.rotation("1h"), site.rotation("1h", name="mcp-prod/other")
    asyncio.run(first.start())
    asyncio.run(second.start())
    assert second.current is not None
    assert str(second.current.svid.id) == "spiffe://cluster.local/ns/mcp-prod/sa/other"


def test_at_half_of_its_life_it_is_renewed(site: Site) -> None:
    rotation = site.rotation()

    async def story() -> tuple[int, int]:
        await rotation.start()
        first = serial(rotation)
        await until(lambda: serial(rotation) != first, rotation)
        return first, serial(rotation)

    first, second = asyncio.run(story())
    assert first != second
    assert rotation.trouble == ""
    assert site.said == ["new identity loaded: spiffe://cluster.local/ns/mcp-prod/sa/files"]


def test_before_that_nobody_asks_the_ca(site: Site) -> None:
    rotation = site.rotation("1h")

    async def story() -> None:
        await rotation.start()
        shutil.rmtree(site.ca)  # a renewal would fail, and say so
        running = asyncio.create_task(rotation.run())
        await asyncio.sleep(1.5)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(story())
    assert site.said == []


def test_a_ca_that_is_gone_is_asked_again_and_the_old_identity_stays(site: Site) -> None:
    rotation = site.rotation()
    away = site.ca.with_name("away")

    async def story() -> None:
        await rotation.start()
        first = serial(rotation)
        site.ca.rename(away)
        await until(lambda: bool(rotation.trouble), rotation)
        assert serial(rotation) == first
        assert "renewal failed and is tried again" in site.said[-1]
        assert len(site.said) == 1, "told once, not once a second"
        assert rotation.failed == 1
        away.rename(site.ca)
        site.clock.ahead = 31
        await until(lambda: serial(rotation) != first, rotation)

    asyncio.run(story())
    assert rotation.trouble == ""
    assert rotation.failed == 0


def test_without_its_ca_it_does_not_start(site: Site) -> None:
    site.ca.rename(site.ca.with_name("away"))
    with pytest.raises(StartError, match="did not sign"):
        asyncio.run(site.rotation().start())
    assert not site.ca.exists(), "a CA that is named is never made"


def test_without_its_ca_it_starts_on_what_it_has(site: Site) -> None:
    first, second = site.rotation("1h"), site.rotation("1h")
    asyncio.run(first.start())
    site.ca.rename(site.ca.with_name("away"))
    asyncio.run(second.start())
    assert serial(first) == serial(second)


def test_a_certificate_past_its_half_is_better_than_none(site: Site) -> None:
    first, second = site.rotation("1h"), site.rotation("1h")
    asyncio.run(first.start())
    site.ca.rename(site.ca.with_name("away"))
    site.clock.ahead = 31 * 60
    asyncio.run(second.start())
    assert serial(first) == serial(second)
    assert "renewal failed" in site.said[-1]


def test_files_that_nobody_renews_are_looked_at_in_no_hurry_past_their_half(site: Site) -> None:
    issue(site.folder.parents[2], NAME)
    looks = 0

    class Counted(Rotation):
        def _stamp(self) -> object:
            nonlocal looks
            looks += 1
            return super()._stamp()

    async def told() -> None:
        rotation = Counted(IdentitySpec(site.folder), site.clock, lambda: 0.0, site.said.append)
        await rotation.start()
        site.clock.ahead = 20 * 3600  # of the 24 hours that it has
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await rotation.run()

    asyncio.run(told())
    assert 1 <= looks < 10


def test_another_domains_spoilt_bundle_holds_up_no_renewal_of_ours(site: Site) -> None:
    foreign = site.folder.parent / "other.pem"
    foreign.parent.mkdir(exist_ok=True)
    good = Mint(foreign.parent / "mint", "other.test").root_pem
    foreign.write_bytes(good)
    foreign.chmod(0o644)
    own = site.rotation()
    rotation = Rotation(
        replace(own.spec, bundles=(("other.test", foreign),)),
        site.clock,
        lambda: 0.0,
        site.said.append,
    )

    async def story() -> None:
        await rotation.start()
        first = serial(rotation)
        assert rotation.current is not None
        believed = rotation.current.bundles.bundle_of("other.test")
        foreign.write_bytes(b"no roots")
        await until(lambda: serial(rotation) != first, rotation)
        assert rotation.current.bundles.bundle_of("other.test") == believed

    asyncio.run(story())
    assert any("the old trust bundle of `other.test` stays" in line for line in site.said)
    with pytest.raises(StartError, match="cannot be read"):
        Rotation(rotation.spec, site.clock, lambda: 0.0, site.said.append)._load()
