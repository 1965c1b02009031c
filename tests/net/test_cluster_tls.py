"""A cluster over TLS: what a failed handshake costs, and which connections are used again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from support.clusters import EJECT, OK, Net
from support.memory import in_memory

from sidecar.errors import IdentityError
from sidecar.net.clusters import Clusters
from sidecar.net.dial import Dialler, connect_plain
from sidecar.net.upstream import Upstream
from sidecar.upstream.cluster import TlsMode, TlsSpec

FILES = TlsSpec(TlsMode.ISTIO_MUTUAL, names=("spiffe://a/files",))
MAILS = replace(FILES, names=("spiffe://a/mails",))


class Handshakes(Dialler):
    """Believes everybody but those in `wrong`; a connection is good for `life` seconds."""

    def __init__(self) -> None:
        super().__init__(lambda: None, lambda: 0.0, lambda *_: None)
        self.wrong: set[str] = set()
        self.life = 100.0
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def connect(self, upstream: Upstream, spec: TlsSpec, now: Callable[[], float]) -> None:
        await connect_plain_unless(upstream, self.wrong)
        await self.goes_on.wait()
        upstream.tls, upstream.expires = spec, now() + self.life

    def judge(self, upstream: Upstream) -> None:
        if upstream.endpoint.address in self.wrong:
            raise IdentityError("revoked", "nobody believes it any more")


async def connect_plain_unless(upstream: Upstream, wrong: set[str]) -> None:
    if upstream.endpoint.address in wrong:
        raise IdentityError("other_identity", "somebody else answered")
    await connect_plain(upstream)


class SecureNet(Net):
    """A cluster in memory whose connections are secured."""

    def __init__(self, endpoints: Sequence[str] = ("a:80",), **more: object) -> None:
        super().__init__(endpoints, **more)  # type: ignore[arg-type]
        self.dialler = Handshakes()
        self.clusters = Clusters(replace(self.clusters._means, dialler=self.dialler))
        self.take(FILES)

    def take(self, tls: TlsSpec | None) -> None:
        """Reload, with another word on TLS."""
        self.spec = replace(self.spec, tls=tls)
        self.clusters.replace([self.spec])


@in_memory
async def test_somebody_else_who_answers_gets_nothing_and_the_next_is_tried() -> None:
    net = SecureNet(("a:80", "b:80"), outlier=EJECT)
    net.dialler.wrong = {"a:80"}
    lease = net.asked()
    await net.loop.settle()
    assert lease.upstream is None
    assert lease.fault is not None
    assert (lease.fault.sent, lease.fault.status) == (False, 503)
    assert "a:80: somebody else answered" in str(lease.fault)
    assert net.cluster.connections == 0
    assert net.counter("upstream_cx_connect_fail") == 1
    lease.end(net.loop.clock())
    again = await net.lent(["a:80"])
    assert again.endpoint.address == "b:80"
    assert not net.loop.dialled("a:80")


@in_memory
async def test_who_goes_on_answering_wrongly_is_ejected() -> None:
    net = SecureNet(("a:80", "b:80"), outlier=EJECT)
    net.dialler.wrong = {"a:80"}
    for _ in range(4):
        lease = net.asked()
        await net.loop.settle()
        lease.end(net.loop.clock())
    assert net.told == ["ejected a:80"]


@in_memory
async def test_nothing_is_connected_to_where_nobody_speaks_tls() -> None:
    net = Net()
    net.clusters.replace([replace(net.spec, tls=FILES)])
    lease = net.asked()
    await net.loop.settle()
    assert lease.fault is not None
    assert not net.loop.pipes


@in_memory
async def test_a_connection_is_used_again_until_its_certificates_end() -> None:
    net = SecureNet()
    first = net.served(await net.lent())
    await net.loop.settle(50)
    assert net.served(await net.lent()) is first
    await net.loop.settle(45)
    late = await net.lent()
    assert net.pipe(late) is first
    net.send(late)
    await net.loop.settle(10)
    first.say(OK)
    net.end(late)
    await net.loop.settle()
    assert first.end == "aborted", "its certificates have ended while it was lent"
    assert net.cluster.connections == 0


@in_memory
async def test_an_idle_connection_is_closed_when_its_certificates_end() -> None:
    net = SecureNet(idle_timeout=1000.0)
    first = net.served(await net.lent())
    await net.loop.settle(101)
    await net.loop.settle(1)
    assert first.end == "aborted"


@in_memory
async def test_another_word_on_who_may_answer_ends_what_was_opened_under_the_old_one() -> None:
    net = SecureNet()
    idle = await net.lent()
    busy = await net.lent()
    one, other = net.served(idle), net.send(busy)
    net.take(MAILS)
    await net.loop.settle()
    assert (one.end, other.end) == ("aborted", "")
    other.say(OK)
    net.end(busy)
    await net.loop.settle()
    assert other.end == "aborted"
    fresh = await net.lent()
    assert net.pipe(fresh) not in (one, other)


@in_memory
async def test_what_was_dialled_under_the_old_word_is_not_kept_for_others() -> None:
    net = SecureNet()
    net.dialler.goes_on.clear()
    lease = net.asked()
    await net.loop.settle()
    net.take(MAILS)
    lease.end(net.loop.clock())
    net.dialler.goes_on.set()
    await net.loop.settle()
    (pipe,) = net.loop.pipes["a:80"]
    assert pipe.end == "aborted"
    assert net.cluster.connections == 0


@in_memory
async def test_whoever_is_believed_no_more_loses_its_connections_lent_or_not() -> None:
    net = SecureNet(("a:80", "b:80"))
    leases = [await net.lent() for _ in range(4)]
    for lease in leases[:2]:
        net.served(lease)
    pipes = {one.endpoint.address: net.send(one) for one in leases[2:]}
    net.dialler.wrong = {"a:80"}
    net.clusters.judge_again()
    await net.loop.settle()
    assert pipes["a:80"].end == "aborted"
    assert pipes["b:80"].end == ""
    assert net.cluster.connections == 2
    broken = next(one for one in leases[2:] if one.endpoint.address == "a:80")
    assert broken.upstream is not None
    assert "nobody believes it" in str(broken.upstream.fault)
