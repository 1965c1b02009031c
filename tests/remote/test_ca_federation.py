"""Bundles by URL: who serves them is proved, an older one refused, and a failure changes none."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.mint import Mint

from sidecar.ca.desk import spiffe_bundle
from sidecar.net.tls import Pair, ca_context
from sidecar.remote.ca_federation import Endpoint, Federation
from sidecar.spiffe.bundle import Bundles, TrustBundle

DOMAIN = "other.test"
AS_CA = f"spiffe://{DOMAIN}/ca"


class Site:
    """Another trust domain that serves its bundle, and who asks for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mint = Mint(folder / "mint", DOMAIN)
        self.now = time.time()
        self.said: list[str] = []
        self.served = spiffe_bundle(self.mint.root_pem, 5, 60)
        self.bootstrap = folder / "other.pem"
        self.bootstrap.write_bytes(self.mint.root_pem)
        self.bootstrap.chmod(0o644)
        self.own = folder / "own"
        self.own.mkdir()
        self.asked = 0

    def federation(self, url: str, who: str = AS_CA) -> Federation:
        endpoints = {DOMAIN: Endpoint(url, who, self.bootstrap)}
        return Federation(endpoints, self.own, lambda: self.now, self.said.append, 600)

    def context(self, uri: str = AS_CA) -> ssl.SSLContext:
        files = self.mint.leaf(uri=[uri])
        pair = Pair(files.cert.read_bytes(), files.key.read_bytes())
        bundle = TrustBundle.from_pem(self.mint.root_pem, DOMAIN)
        return ca_context(pair, Bundles.of([bundle]))

    def play(self, story: Callable[[str], object], uri: str = AS_CA) -> None:
        """Serve, as *uri*, and run *story*, which is told where."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(self.served)}\r\n\r\n"
            writer.write(head.encode() + self.served)
            await writer.drain()
            writer.close()

        async def act() -> None:
            server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=self.context(uri))
            port = server.sockets[0].getsockname()[1]
            await story(f"https://127.0.0.1:{port}/v1/bundle")  # type: ignore[misc]
            server.close()

        asyncio.run(act())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_bundle_is_fetched_kept_and_asked_for_again_within_its_hint(site: Site) -> None:
    async def story(url: str) -> None:
        federation = site.federation(url)
        assert "has not been fetched" in federation.stale()
        await federation.tend()
        (bundle,) = federation.bundles()
        assert (bundle.trust_domain, bundle.roots) == (DOMAIN, {site.mint.root_der})
        assert federation.stale() == ""
        await federation.tend()
        assert site.asked == 1
        site.now += 61
        await federation.tend()
        assert site.asked == 2
        again = site.federation("https://127.0.0.1:1/")  # after a restart, nobody there
        await again.tend()
        assert again.bundles() == [bundle]
        assert again.stale() == ""
        site.now += 601
        assert "s old" in again.stale()

    site.play(story)


def test_a_bundle_may_be_vouched_for_by_the_public_web(site: Site) -> None:
    """In the place of its authorities stands here one that vouches for `127.0.0.1`."""

    def believing(path: Path) -> Callable[[], ssl.SSLContext]:
        return lambda: ssl.create_default_context(cafile=str(path))

    other = site.folder / "web.pem"
    other.write_bytes(Mint(site.folder / "web", "web.test").root_pem)

    async def story(url: str) -> None:
        for roots, count in ((other, 0), (site.bootstrap, 1)):
            endpoints = {DOMAIN: Endpoint(url)}
            said = site.said.append
            federation = Federation(
                endpoints, site.own, lambda: site.now, said, 600, believing(roots)
            )
            await federation.tend()
            assert len(federation.bundles()) == count

    site.play(story)


def test_new_roots_are_taken_and_prove_who_serves_the_next(site: Site) -> None:
    async def story(url: str) -> None:
        federation = site.federation(url)
        await federation.tend()
        fresh = Mint(site.folder / "fresh", DOMAIN)
        site.served = spiffe_bundle(site.mint.root_pem + fresh.root_pem, 6, 60)
        site.now += 61
        await federation.tend()
        (bundle,) = federation.bundles()
        assert bundle.roots == {site.mint.root_der, fresh.root_der}

    site.play(story)


def test_another_member_of_that_domain_is_not_its_ca(site: Site) -> None:
    async def story(url: str) -> None:
        federation = site.federation(url)
        await federation.tend()
        assert federation.bundles() == []
        assert "answers, not `spiffe://other.test/ca`" in site.said[0]

    site.play(story, uri=f"spiffe://{DOMAIN}/ns/a/sa/b")


def test_another_domains_roots_prove_nothing_about_it(site: Site) -> None:
    site.bootstrap.write_bytes(Mint(site.folder / "third", "third.test").root_pem)

    async def story(url: str) -> None:
        federation = site.federation(url)
        await federation.tend()
        assert federation.bundles() == []
        assert "not believed" in site.said[0]

    site.play(story)


@pytest.mark.parametrize("served", [b"", b"{}", b'{"keys": 1}', b"x" * 2_000_000])
def test_what_is_no_bundle_leaves_the_old_one(site: Site, served: bytes) -> None:
    async def story(url: str) -> None:
        federation = site.federation(url)
        await federation.tend()
        before = federation.bundles()
        site.served = served
        site.now += 61
        await federation.tend()
        assert federation.bundles() == before
        assert len(site.said) == 1
        site.now += 600
        assert federation.stale() != ""

    site.play(story)


def test_an_older_bundle_is_refused(site: Site) -> None:
    async def story(url: str) -> None:
        federation = site.federation(url)
        await federation.tend()
        site.served = spiffe_bundle(Mint(site.folder / "x", DOMAIN).root_pem, 4, 60)
        site.now += 61
        await federation.tend()
        assert federation.bundles()[0].roots == {site.mint.root_der}
        assert "older bundle" in site.said[0]

    site.play(story)


def test_an_endpoint_that_is_away_for_days_is_still_asked(site: Site) -> None:
    async def story(url: str) -> None:
        federation = site.federation("https://127.0.0.1:1/")
        for _ in range(1100):
            site.now += 16
            await federation.tend()
        assert len(site.said) == 1
        assert "has not been fetched" in federation.stale()

    site.play(story)


def test_a_clock_that_is_set_back_puts_nothing_off(site: Site) -> None:
    async def story(url: str) -> None:
        federation = site.federation(url)
        await federation.tend()
        site.now -= 30
        await federation.tend()
        assert site.asked == 2
        assert federation.stale() == ""
        again = site.federation("https://127.0.0.1:1/")  # nobody there
        site.now -= 1200
        assert again.stale() == ""
        site.now += 601
        assert "601 s old" in again.stale()

    site.play(story)


def test_a_bundle_without_roots_means_that_nobody_is_believed(site: Site) -> None:
    async def story(url: str) -> None:
        federation = site.federation(url)
        await federation.tend()
        site.served = b'{"keys": [], "spiffe_sequence": 6}'
        site.now += 61
        await federation.tend()
        assert federation.bundles()[0].roots == frozenset()

    site.play(story)


@pytest.mark.parametrize("spoilt", ["torn", "open to others"])
def test_a_spoilt_file_leaves_the_last_good_bundle_and_is_mended(site: Site, spoilt: str) -> None:
    async def story(url: str) -> None:
        federation = site.federation(url)
        await federation.tend()
        good, path = federation.bundles(), federation.path(DOMAIN)
        if spoilt == "torn":
            path.write_bytes(b"{")
        else:
            path.chmod(0o666)
        assert federation.bundles() == good
        assert federation.bundles() == good
        assert len(site.said) == 1
        again = site.federation(url)  # after a restart nobody knows the last good one
        assert again.bundles() == []
        assert "has not been fetched" in again.stale()
        await again.tend()
        assert again.bundles() == good
        assert path.stat().st_mode & 0o777 == 0o644
        assert site.federation(url).bundles() == good

    site.play(story)
