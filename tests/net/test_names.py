"""Names are looked up again and again, and what was found last stands while that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from support.clusters import BOUNDS
from support.memory import MemoryLoop, in_memory, loop

from sidecar.http.lines import LineTables
from sidecar.net.cluster import Cluster
from sidecar.net.clusters import Clusters
from sidecar.net.deadlines import Deadlines
from sidecar.net.lease import Lease
from sidecar.net.means import Means
from sidecar.net.names import look_up
from sidecar.net.tasks import Tasks
from sidecar.net.wake import Wake
from sidecar.policy.verdict import Permit
from sidecar.upstream.cluster import ClusterSpec, EndpointSpec, NamesSpec

A = EndpointSpec("a.example:80", weight=3, resolve=True)
FIXED = EndpointSpec("10.0.0.9:80")


class Resolver:
    """Answers as it is told: addresses, a failure, or never."""

    def __init__(self) -> None:
        self.known: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.hangs = False

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if host not in self.known:
            raise OSError("no such name")
        return [f"{address}:{port}" for address in self.known[host]]


class Net:
    """Clusters whose names a resolver knows."""

    def __init__(self) -> None:
        self.loop: MemoryLoop = loop()
        self.resolver = Resolver()
        self.faults: list[BaseException] = []
        self.clusters = Clusters(
            Means(
                tasks=Tasks(lambda _, fault: self.faults.append(fault)),
                deadlines=Deadlines(self.loop, self.loop.clock),
                tables=LineTables(32_768, 16, replies=True),
                bounds=BOUNDS,
                now=self.loop.clock,
                random=lambda: 0.0,
                tell=lambda _, __: None,
                look_up=self.resolver,
            )
        )

    async def use(self, *endpoints: EndpointSpec, most: int = 64) -> None:
        specs = [ClusterSpec("files", endpoints, names=NamesSpec(5.0, most))] if endpoints else []
        await self.clusters.prepare(specs)
        self.clusters.replace(specs)

    async def after(self, seconds: float) -> None:
        await self.loop.settle(seconds)
        self.clusters.sweep(self.loop.clock())
        await self.loop.settle()

    @property
    def cluster(self) -> Cluster:
        return next(iter(self.clusters))

    @property
    def addresses(self) -> list[str]:
        return list(self.cluster.endpoints)


@in_memory
async def test_a_name_stands_for_all_its_addresses_from_the_beginning() -> None:
    net = Net()
    net.resolver.known["a.example"] = ["10.0.0.2", "10.0.0.1"]
    await net.use(A, FIXED)
    assert net.addresses == ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.9:80"]
    assert [one.weight for one in net.cluster.endpoints.values()] == [3, 3, 1]


@in_memory
async def test_other_addresses_take_the_place_of_those_before_and_who_stays_keeps_its_state() -> (
    None
):
    net = Net()
    net.resolver.known["a.example"] = ["10.0.0.1", "10.0.0.2"]
    await net.use(A)
    kept = net.cluster.endpoints["10.0.0.2:80"]
    net.resolver.known["a.example"] = ["10.0.0.3", "10.0.0.2"]
    await net.after(5.1)
    assert net.addresses == ["10.0.0.2:80", "10.0.0.3:80"]
    assert net.cluster.endpoints["10.0.0.2:80"] is kept


@in_memory
async def test_it_is_looked_up_no_sooner_than_the_limit_says() -> None:
    net = Net()
    net.resolver.known["a.example"] = ["10.0.0.1"]
    await net.use(A)
    await net.after(0.0)
    asked = len(net.resolver.asked)
    await net.after(4.9)
    assert len(net.resolver.asked) == asked
    await net.after(0.2)
    assert len(net.resolver.asked) == asked + 1


@pytest.mark.parametrize("how", ["fails", "hangs", "empty"])
@in_memory
async def test_while_a_look_up_fails_what_was_found_last_stands(how: str) -> None:
    net = Net()
    net.resolver.known["a.example"] = ["10.0.0.1"]
    await net.use(A)
    if how == "fails":
        del net.resolver.known["a.example"]
    elif how == "empty":
        net.resolver.known["a.example"] = []
    net.resolver.hangs = how == "hangs"
    for _ in range(3):
        await net.after(6.0)
        assert net.addresses == ["10.0.0.1:80"]
    net.resolver.hangs = False
    net.resolver.known["a.example"] = ["10.0.0.2"]
    for _ in range(2):
        await net.after(6.0)
    assert net.addresses == ["10.0.0.2:80"]
    assert net.faults == []


@in_memory
async def test_a_name_that_nobody_knows_holds_nothing_up_and_is_found_later() -> None:
    net = Net()
    await net.use(A)
    lease = net.clusters.lease(Permit(), "files", Wake(net.loop))
    assert not isinstance(lease, Lease)
    assert lease.status == 503
    net.resolver.known["a.example"] = ["10.0.0.1"]
    await net.after(6.0)
    assert isinstance(net.clusters.lease(Permit(), "files", Wake(net.loop)), Lease)


@in_memory
async def test_of_one_name_a_bounded_number_of_addresses_is_used() -> None:
    net = Net()
    net.resolver.known["a.example"] = [f"10.0.0.{number}" for number in range(9, 0, -1)]
    await net.use(A, most=2)
    assert net.addresses == ["10.0.0.1:80", "10.0.0.2:80"]


@in_memory
async def test_a_name_that_no_document_has_any_more_is_not_asked_for() -> None:
    net = Net()
    net.resolver.known["a.example"] = ["10.0.0.1"]
    await net.use(A)
    await net.use(FIXED)
    net.resolver.asked.clear()
    await net.after(20.0)
    assert net.resolver.asked == []


@in_memory
async def test_a_reload_waits_for_new_names_only() -> None:
    net = Net()
    net.resolver.known["a.example"] = ["10.0.0.1"]
    await net.use(A)
    net.resolver.asked.clear()
    net.resolver.known["b.example"] = ["10.0.1.1"]
    await net.use(A, EndpointSpec("b.example:80", resolve=True))
    assert net.resolver.asked == ["b.example"]
    assert net.addresses == ["10.0.0.1:80", "10.0.1.1:80"]


def test_the_systems_resolver_knows_this_machine() -> None:
    found = asyncio.run(look_up("localhost", 80))
    assert set(found) & {"127.0.0.1:80", "[::1]:80"}
