"""A CA that is slow, lies, or gives what was not asked for: the old identity is better."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from sidecar.ca.desk import Answer, Desk
from sidecar.ca.identity import load_identity
from sidecar.ca.revocations import drop_authorities, revoke_id
from sidecar.ca.store import key_pem, make_ca, new_key
from sidecar.ca.tokens import TokenStore
from sidecar.errors import StartError
from sidecar.remote.ca_client import CaClient, CaRefusal
from sidecar.remote.ca_enrolment import Enrolment, RemoteCa
from sidecar.remote.ca_http import CaAway
from sidecar.remote.ca_server import CaServer
from sidecar.spiffe.id import SpiffeId

NOW = time.time()
FILES = SpiffeId.of_short("mcp-prod/files")
OTHER = SpiffeId.of_short("mcp-prod/other")


class Doctored(Desk):
    """A desk whose answers a test may change before they are given."""

    change: Callable[[Answer], Answer] = staticmethod(lambda answer: answer)

    def join(self, body: bytes, address: str, now: float) -> Answer:
        return self.change(super().join(body, address, now))

    def renew(self, chain: Sequence[bytes], body: bytes, address: str, now: float) -> Answer:
        return self.change(super().renew(chain, body, address, now))


class Site:
    """A CA with a server, and a machine that joins it."""

    def __init__(self, folder: Path) -> None:
        self.ca = make_ca(folder / "ca", "cluster.local", time.time())
        self.desk = Doctored(folder / "ca", ttl=3600, grace=60, refresh=7)
        self.folder = folder / "files"
        self.token = folder / "token"
        self.token.touch(mode=0o600)
        self.said: list[str] = []

    def new_token(self) -> None:
        store = TokenStore(self.ca.folder, self.ca.root_sha256)
        self.token.write_text(str(store.make(FILES, time.time())))

    def play(self, story: Callable[[Enrolment], Coroutine[Any, Any, None]]) -> None:
        """Run *story* with the CA's server beside it."""

        async def act() -> None:
            server = CaServer(self.desk, time.time, self.said.append, self._report)
            await server.start("127.0.0.1:0")
            try:
                await story(self.enrolment(f"https://{server.address}"))
            finally:
                await asyncio.sleep(0.05)  # who has hung up is gone, then
                await server.stop()

        asyncio.run(act())

    def enrolment(self, url: str) -> Enrolment:
        return Enrolment(RemoteCa(url, self.token), self.folder, FILES, time.time)

    def _report(self, what: str, fault: BaseException) -> None:
        raise AssertionError(what) from fault

    def serial(self) -> int:
        return load_identity(self.folder, time.time()).svid.serial


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.new_token()
    return made


def changed(**parts: str) -> Callable[[Answer], Answer]:
    def change(answer: Answer) -> Answer:
        return Answer(answer.status, json.dumps({**json.loads(answer.body), **parts}).encode())

    return change


def test_it_joins_renews_and_learns(site: Site) -> None:
    async def story(enrolment: Enrolment) -> None:
        await enrolment.renew()
        first = site.serial()
        await enrolment.renew()
        assert site.serial() != first
        assert await enrolment.refresh() == 7
        assert enrolment.denied is not None
        assert enrolment.denied.ids == frozenset()
        revoke_id(site.ca, OTHER, time.time())
        await enrolment.refresh()
        assert enrolment.denied.ids == {str(OTHER)}
        assert enrolment.stale() == ""

    site.play(story)


def test_what_was_learnt_is_known_after_a_restart(site: Site) -> None:
    async def story(enrolment: Enrolment) -> None:
        await enrolment.renew()
        revoke_id(site.ca, OTHER, time.time())
        await enrolment.refresh()

    site.play(story)
    again = site.enrolment("https://127.0.0.1:1")
    assert again.stale() != ""
    again.recall()
    assert again.stale() == ""
    assert again.denied is not None
    assert again.denied.ids == {str(OTHER)}


def lies(site: Site) -> dict[str, Callable[[Answer], Answer]]:
    """Answers to a renewal that must not be taken."""
    now = time.time()
    other_key = site.ca.issue(FILES, new_key().public_key(), ttl=60, now=now)
    foreign = make_ca(site.folder.with_name("foreign"), "cluster.local", now)
    by_foreign = foreign.issue(FILES, new_key().public_key(), ttl=60, now=now)
    return {
        "another key": changed(certificate=other_key.chain.decode()),
        "another CA": changed(certificate=by_foreign.chain.decode()),
        "a key in it": changed(certificate=key_pem(new_key()).decode()),
        "nothing": changed(certificate=""),
        "no JSON": lambda answer: Answer(200, b"{"),
        "no object": lambda answer: Answer(200, b"[]"),
        "too much": lambda answer: Answer(200, b" " * 300_000),
        "a trouble": lambda answer: Answer(503, answer.body),
        "too often": lambda answer: Answer(429, b'{"reason":"x","message":"wait"}'),
    }


LIES = ["another key", "another CA", "a key in it", "nothing", "no JSON", "no object"]
LIES += ["too much", "a trouble", "too often"]


@pytest.mark.parametrize("lie", LIES)
def test_what_is_not_as_asked_for_leaves_the_old_identity(site: Site, lie: str) -> None:
    async def story(enrolment: Enrolment) -> None:
        await enrolment.renew()
        before = site.serial()
        site.desk.change = lies(site)[lie]  # type: ignore[method-assign]
        with pytest.raises(CaAway):
            await enrolment.renew()
        assert site.serial() == before
        site.desk.change = lambda answer: answer  # type: ignore[method-assign]
        await enrolment.renew()
        assert site.serial() != before

    site.play(story)


def test_a_certificate_for_somebody_else_is_not_taken(site: Site) -> None:
    """Even with the right key: a CA that mixes members up gives nobody another's name."""
    give = site.desk._issued  # type: ignore[attr-defined]

    async def story(enrolment: Enrolment) -> None:
        site.desk._issued = lambda who, *rest: give(OTHER, *rest)  # type: ignore[attr-defined]
        with pytest.raises(CaAway, match="mcp-prod/sa/other"):
            await enrolment.renew()
        assert not (site.folder / "svid.pem").exists()

    site.play(story)


def test_a_slow_ca_is_waited_for_so_long_and_no_longer(site: Site) -> None:
    async def story(enrolment: Enrolment) -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            await writer.wait_closed()
            gone.set()

        gone = asyncio.Event()
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        url = f"https://127.0.0.1:{port}"
        client = CaClient(url, "cluster.local", time.time, seconds=0.3)
        with pytest.raises(CaAway, match="no answer within"):
            await client._pinned("ab" * 32)
        await gone.wait()
        server.close()

    site.play(story)


def test_a_token_is_tried_once_and_the_next_when_it_is_there(site: Site) -> None:
    async def story(enrolment: Enrolment) -> None:
        site.token.write_text(f"v1.{site.ca.root_sha256}.{'0' * 32}")
        before = enrolment.token_stamp()
        with pytest.raises(CaRefusal):
            await enrolment.renew()
        with pytest.raises(StartError, match="of no use any more"):
            await enrolment.renew()
        site.new_token()
        assert enrolment.token_stamp() != before
        await enrolment.renew()

    site.play(story)


def test_a_token_that_others_may_read_is_not_used(site: Site) -> None:
    site.token.chmod(0o644)

    async def story(enrolment: Enrolment) -> None:
        with pytest.raises(StartError, match="read by others"):
            await enrolment.renew()

    site.play(story)


def test_after_too_long_only_a_new_token_helps(site: Site) -> None:
    async def story(enrolment: Enrolment) -> None:
        await enrolment.renew()
        before = site.serial()
        site.desk.change = lambda answer: Answer(403, EXPIRED)  # type: ignore[method-assign]
        with pytest.raises(CaRefusal, match="expired"):
            await enrolment.renew()
        site.new_token()
        site.desk.change = once(Answer(403, EXPIRED))  # type: ignore[method-assign]
        await enrolment.renew()
        assert site.serial() != before

    site.play(story)


EXPIRED = b'{"reason":"expired","message":"the certificate has expired"}'


def once(answer: Answer) -> Callable[[Answer], Answer]:
    answers = [answer]
    return lambda real: answers.pop() if answers else real


def test_who_has_a_dropped_intermediates_key_cannot_play_the_ca(site: Site) -> None:
    async def story(enrolment: Enrolment) -> None:
        await enrolment.renew()
        stolen = site.ca.issuer.certificate.sha256
        drop_authorities(site.ca, {stolen}, time.time())
        await enrolment.refresh()  # the last thing that is believed of it
        for asking in (enrolment.refresh, enrolment.renew):
            with pytest.raises(CaAway, match="was dropped"):
                await asking()

    site.play(story)


def test_a_token_of_another_ca_brings_one_over_to_it(site: Site, tmp_path: Path) -> None:
    other = make_ca(tmp_path / "other-ca", "cluster.local", time.time())

    async def at_first(enrolment: Enrolment) -> None:
        await enrolment.renew()
        revoke_id(site.ca, OTHER, time.time())
        await enrolment.refresh()

    async def then(enrolment: Enrolment) -> None:
        before = site.serial()
        enrolment.recall()
        with pytest.raises(CaAway, match="not believed"):
            await enrolment.renew()  # the spent token of the first CA is of no use here
        site.token.write_text(str(TokenStore(other.folder, other.root_sha256).make(FILES, NOW)))
        await enrolment.renew()
        assert site.serial() != before
        await enrolment.refresh()  # although the new list has a lower sequence
        assert enrolment.denied is not None
        assert enrolment.denied.ids == frozenset()
        await enrolment.renew()

    site.play(at_first)
    site.desk = Doctored(other.folder, ttl=3600, grace=60, refresh=7)
    site.play(then)


def test_an_older_list_is_not_taken_for_a_newer_one(site: Site) -> None:
    async def story(enrolment: Enrolment) -> None:
        await enrolment.renew()
        revoke_id(site.ca, OTHER, time.time())
        await enrolment.refresh()
        (site.ca.folder / "revoked.json").unlink()
        with pytest.raises(CaAway, match="older than the one that is known"):
            await enrolment.refresh()
        assert enrolment.denied is not None
        assert enrolment.denied.ids == {str(OTHER)}

    site.play(story)
