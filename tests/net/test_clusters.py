"""Leases: who gets which connection, who waits, who is refused, and what is given back."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import get_type_hints

import pytest
from support.clusters import EJECT, OK, Net
from support.memory import in_memory

from sidecar.errors import UpstreamError
from sidecar.net.clusters import Clusters
from sidecar.net.lease import FULL, NO_ENDPOINT
from sidecar.net.wake import Wake
from sidecar.policy.verdict import Permit, Reason, Refusal

BAD = b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n"


class Subpermit(Permit):
    """No policy makes these."""

    __slots__ = ()


# -- the key


@pytest.mark.parametrize(
    "key", [None, True, "permit", object(), Permit, Refusal(Reason.DENIED, "no"), Subpermit()]
)
@in_memory
async def test_nothing_but_a_permit_opens_a_way_to_a_server(key: object) -> None:
    net = Net()
    with pytest.raises(TypeError):
        net.clusters.lease(key, "files", Wake(net.loop))  # type: ignore[arg-type]
    await net.loop.settle()
    assert net.loop.dialled("a:80") == 0
    assert net.counter("upstream_rq_total") == 0


def test_the_type_checker_is_told_so_too() -> None:
    assert get_type_hints(Clusters.lease)["permit"] is Permit
    parameters = list(inspect.signature(Clusters.lease).parameters.values())
    assert parameters[1].name == "permit"
    assert parameters[1].default is inspect.Parameter.empty


# -- the pool


@in_memory
async def test_a_connection_is_dialled_once_and_used_again() -> None:
    net = Net()
    first = await net.lent()
    pipe = net.served(first)
    again = net.asked()
    assert net.pipe(again) is pipe, "an idle one is there at once"
    assert net.loop.dialled("a:80") == 1
    assert (net.counter("upstream_cx_total"), net.counter("upstream_rq_total")) == (1, 2)


@in_memory
async def test_calls_under_way_share_no_connection() -> None:
    net = Net()
    leases = [await net.lent() for _ in range(3)]
    assert len({id(lease.upstream) for lease in leases}) == 3
    assert net.cluster.connections == 3


@in_memory
async def test_load_is_counted_while_a_call_is_under_way() -> None:
    net = Net()
    lease = await net.lent()
    assert lease.endpoint.in_flight == 1
    net.served(lease)
    lease.end(net.loop.clock())
    assert lease.endpoint.in_flight == 0, "ending twice is ending once"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\nto the end",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
    ],
)
@in_memory
async def test_an_exchange_that_is_not_over_takes_its_connection_with_it(answer: bytes) -> None:
    net = Net()
    pipe = net.served(await net.lent(), answer)
    await net.loop.settle()
    assert pipe.end == "aborted"
    assert net.cluster.connections == 0


@in_memory
async def test_a_request_that_is_not_all_sent_takes_its_connection_with_it() -> None:
    net = Net()
    lease = await net.lent()
    net.pipe(lease).unsent = 10  # the server answered before it had read it all
    pipe = net.served(lease)
    await net.loop.settle()
    assert pipe.end == "aborted"


@pytest.mark.parametrize("extra", [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison", b"\r\n"])
@in_memory
async def test_an_idle_connection_that_says_something_is_closed(extra: bytes) -> None:
    net = Net()
    pipe = net.served(await net.lent())
    pipe.say(extra)
    assert pipe.end == "aborted"
    assert net.pipe(await net.lent()) is not pipe


@in_memory
async def test_bytes_right_behind_a_reply_are_a_fault() -> None:
    net = Net()
    lease = await net.lent()
    pipe = net.send(lease, OK)
    pipe.say(b"HTTP/1.1 200 OK\r\n")
    assert lease.upstream is not None
    assert lease.upstream.fault is not None
    assert pipe.end == "aborted"


@pytest.mark.parametrize("how", ["hang_up", "reset"])
@in_memory
async def test_an_idle_connection_that_the_server_closed_is_not_lent(how: str) -> None:
    net = Net()
    pipe = net.served(await net.lent())
    getattr(pipe, how)()
    assert net.pipe(await net.lent()) is not pipe
    assert net.cluster.connections == 1


@in_memory
async def test_a_connection_serves_no_more_calls_than_it_may() -> None:
    net = Net(max_requests_per_connection=2)
    pipes = [net.served(await net.lent()) for _ in range(5)]
    await net.loop.settle()
    assert net.loop.dialled("a:80") == 3
    assert [pipe.end for pipe in pipes] == ["aborted"] * 4 + [""]


@in_memory
async def test_a_connection_lives_no_longer_than_it_may() -> None:
    net = Net(max_connection_duration=60)
    pipe = net.served(await net.lent())
    net.loop.clock.now += 59
    assert net.served(await net.lent()) is pipe
    lease = await net.lent()
    net.loop.clock.now += 1
    net.served(lease)
    assert pipe.end == "aborted"


@in_memory
async def test_a_connection_is_closed_when_it_was_idle_too_long() -> None:
    net = Net(idle_timeout=10)
    pipe = net.served(await net.lent())
    await net.loop.settle(9)
    assert pipe.end == ""
    await net.loop.settle(2)
    assert pipe.end == "aborted"
    assert net.cluster.connections == 0
    assert len(net.deadlines) == 0


@in_memory
async def test_a_connection_that_is_lent_is_never_idle() -> None:
    net = Net(idle_timeout=10)
    net.served(await net.lent())
    lease = await net.lent()
    pipe = net.send(lease)
    await net.loop.settle(60)
    assert pipe.end == ""


@in_memory
async def test_a_unix_socket_is_dialled_as_one() -> None:
    net = Net(endpoints=("unix:/run/files.sock",))
    net.served(await net.lent())
    assert net.loop.dialled("unix:/run/files.sock") == 1


# -- what comes before it was asked for


@in_memory
async def test_what_a_server_says_before_it_was_asked_is_never_believed() -> None:
    net = Net()
    net.loop.on_open = lambda pipe: pipe.say(OK)
    lease = net.asked()
    await net.loop.settle()
    assert lease.upstream is None
    assert lease.fault is not None
    assert not lease.fault.sent
    lease.end(net.loop.clock())
    assert net.cluster.connections == 0
    assert len(net.deadlines) == 0, "nothing is kept of it"


@in_memory
async def test_what_comes_between_the_dial_and_the_call_closes_the_connection() -> None:
    net = Net()
    lease = await net.lent()
    net.pipe(lease).say(OK[:20])
    assert lease.upstream is not None
    with pytest.raises(UpstreamError) as fault:
        lease.upstream.send("GET", b"GET / HTTP/1.1\r\n\r\n", lease.wake)
    assert not fault.value.sent


@pytest.mark.parametrize("how", ["hang_up", "reset"])
@in_memory
async def test_a_server_that_hangs_up_at_once_is_no_connection(how: str) -> None:
    net = Net()
    net.loop.on_open = lambda pipe: getattr(pipe, how)()
    lease = net.asked()
    await net.loop.settle()
    assert lease.upstream is None
    assert lease.fault is not None
    assert not lease.fault.sent
    assert net.cluster.connections == 0
    assert net.counter("upstream_cx_connect_fail") == 1


# -- dials that fail


@in_memory
async def test_a_refused_connection_is_a_fault_that_sent_nothing() -> None:
    net = Net()
    net.loop.refuse.add("a:80")
    lease = net.asked()
    await net.loop.settle()
    assert lease.fault is not None
    assert (lease.fault.sent, lease.fault.status) == (False, 503)
    assert "a:80" in str(lease.fault)
    assert net.cluster.connections == 0
    assert net.counter("upstream_cx_connect_fail") == 1


@in_memory
async def test_a_connection_that_takes_too_long_is_a_fault_too() -> None:
    net = Net(connect_timeout=3)
    net.loop.hang.add("a:80")
    lease = net.asked()
    await net.loop.settle()
    await net.loop.settle(2.9)
    assert lease.fault is None
    await net.loop.settle(0.2)
    assert lease.fault is not None
    assert (lease.fault.sent, lease.fault.status) == (False, 504)
    assert net.counter("upstream_cx_connect_timeout") == 1
    assert net.cluster.connections == 0


@in_memory
async def test_a_retry_goes_elsewhere() -> None:
    net = Net(endpoints=("a:80", "b:80"))
    assert (await net.lent(avoid=["a:80"])).endpoint.address == "b:80"
    assert (await net.lent(avoid=["b:80"])).endpoint.address == "a:80"
    assert (await net.lent(avoid=["b:80", "a:80"])).upstream is not None
    assert net.counter("upstream_rq_retry") == 3


@in_memory
async def test_a_dial_that_nobody_waits_for_any_more_serves_the_next() -> None:
    net = Net()
    first = net.asked()
    first.end(net.loop.clock())
    await net.loop.settle()
    assert net.asked().upstream is not None
    assert net.loop.dialled("a:80") == 1


# -- configuration


@in_memory
async def test_a_reload_keeps_the_connections_of_those_who_stay() -> None:
    net = Net(endpoints=("a:80", "b:80"))
    first, second = await net.lent(), await net.lent()
    pipes = {lease.endpoint.address: net.served(lease) for lease in (first, second)}
    net.clusters.replace([net.make(("b:80", "c:80"))])
    await net.loop.settle()
    assert pipes["a:80"].end == "aborted"
    assert pipes["b:80"].end == ""
    assert {net.pipe(await net.lent()) for _ in range(2)} > {pipes["b:80"]}


@in_memory
async def test_a_connection_lent_over_a_reload_that_drops_its_endpoint_is_not_kept() -> None:
    net = Net(endpoints=("a:80",))
    lease = await net.lent()
    net.clusters.replace([net.make(("b:80",))])
    assert net.served(lease).end == "aborted"
    await net.loop.settle()
    assert net.cluster.connections == 0


@in_memory
async def test_a_reload_that_changes_nothing_changes_nothing() -> None:
    net = Net(endpoints=("a:80", "b:80"), outlier=EJECT)
    balancer, endpoints = net.cluster.balancer, dict(net.cluster.endpoints)
    net.clusters.replace([net.make(("a:80", "b:80"), outlier=EJECT)])
    assert net.cluster.balancer is balancer
    assert net.cluster.endpoints == endpoints


@in_memory
async def test_a_cluster_that_is_gone_closes_what_is_idle() -> None:
    net = Net()
    pipe = net.served(await net.lent())
    net.clusters.replace([])
    assert pipe.end == "aborted"
    assert list(net.clusters) == []


@in_memory
async def test_without_an_endpoint_that_is_in_there_is_a_refusal() -> None:
    net = Net(outlier=EJECT)
    for _ in range(2):
        net.served(await net.lent(), BAD)
    refusal = net.ask()
    assert isinstance(refusal, Refusal)
    assert refusal.retry_after > 0, "when the endpoint returns is known"
    assert refusal.headers == (b"retry-after: %d\r\n" % refusal.retry_after,)
    assert replace(refusal, headers=(), retry_after=0) == NO_ENDPOINT
    assert (NO_ENDPOINT.status, FULL.status) == (503, 503)
