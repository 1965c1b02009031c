"""Leases that are for one endpoint and no other, also where connections are short."""

from __future__ import annotations

from support.clusters import Net
from support.memory import in_memory

from sidecar.net.lease import Lease
from sidecar.policy.verdict import Refusal

TWO = ("a:80", "b:80")


@in_memory
async def test_a_call_for_an_address_goes_there_and_nowhere_else() -> None:
    net = Net(TWO)
    for _ in range(3):
        lease = await net.lent(at="b:80")
        assert lease.endpoint.address == "b:80"
        net.served(lease)


@in_memory
async def test_an_address_that_is_gone_or_ejected_is_answered_404() -> None:
    net = Net(TWO)
    refused = net.ask(at="c:80")
    assert isinstance(refused, Refusal)
    assert refused.status == 404
    net.cluster.endpoints["b:80"].ejected = True
    assert isinstance(net.ask(at="b:80"), Refusal)
    net.cluster.endpoints["b:80"].ejected = False
    assert isinstance(net.ask(at="b:80"), Lease)


@in_memory
async def test_a_key_goes_to_one_endpoint() -> None:
    net = Net(("a:80", "b:80", "c:80"))
    first = await net.lent(key=b"ann")
    again = await net.lent(key=b"ann")
    assert first.endpoint is again.endpoint


@in_memory
async def test_where_connections_are_short_another_endpoints_idle_one_is_closed_for_it() -> None:
    net = Net(TWO, max_connections=1)
    idle = await net.lent(at="a:80")
    net.served(idle)
    lease = await net.lent(at="b:80")
    assert lease.endpoint.address == "b:80"
    assert net.cluster.connections == 1


@in_memory
async def test_a_connection_that_comes_free_is_not_given_to_one_who_waits_for_another() -> None:
    net = Net(TWO, max_connections=1)
    holding = await net.lent(at="a:80")
    waiting = net.asked(at="b:80")
    anywhere = net.asked()
    net.served(holding)
    await net.loop.settle()
    assert anywhere.upstream is not None
    assert anywhere.endpoint.address == "a:80", "who may go anywhere takes it"
    assert waiting.upstream is None
    net.served(anywhere)
    await net.loop.settle()
    assert waiting.upstream is not None
    assert waiting.endpoint.address == "b:80", "and then its place is dialled for who waits"


@in_memory
async def test_who_waits_for_an_endpoint_that_leaves_is_told() -> None:
    net = Net(TWO, max_connections=1)
    holding = await net.lent(at="a:80")
    waiting = net.asked(at="b:80")
    net.clusters.replace([net.make(("a:80",), max_connections=1)])
    net.served(holding)
    await net.loop.settle()
    assert waiting.fault is not None
    assert not waiting.fault.sent


@in_memory
async def test_retries_under_way_are_counted_until_they_end() -> None:
    net = Net(TWO)
    lease = await net.lent(avoid=["a:80"])
    assert (lease.endpoint.address, net.cluster.retrying) == ("b:80", 1)
    net.served(lease)
    assert net.cluster.retrying == 0
    assert net.counter("upstream_rq_retry") == 1
