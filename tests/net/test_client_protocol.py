"""Where calls go on in the protocol they came in: a connection for each, one pool for both."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.both import Both
from support.clusters import EJECT, Net
from support.memory import in_memory

from sidecar.errors import IdentityError
from sidecar.net.connect import connect
from sidecar.net.lease import FULL, Lease
from sidecar.net.shelf import Shelf
from sidecar.net.upstream import Upstream
from sidecar.net.upstream2 import Upstream2
from sidecar.upstream.cluster import TlsMode, TlsSpec

BOTH = (False, True)


@in_memory
async def test_each_goes_on_in_its_own_and_finds_its_own_again() -> None:
    net = Both()
    for _ in range(3):
        old, new = await net.sent(http2=False), await net.sent(http2=True)
        assert isinstance(net.pipe(old).protocol, Upstream)
        assert isinstance(net.pipe(new).protocol, Upstream2)
        await net.answered(new)
        await net.answered(old)
    assert net.speaks() == [1, 2]
    assert (net.counter("upstream_cx_total"), net.counter("upstream_rq_2xx")) == (2, 6)


@in_memory
async def test_calls_over_http2_share_a_connection_and_the_others_do_not() -> None:
    net = Both()
    leases = [net.asked(http2=http2) for http2 in (True, False, True, False, True)]
    await net.settle()
    assert sorted(net.speaks()) == [1, 1, 2]
    assert [isinstance(lease.upstream, Upstream) for lease in leases] == [
        False,
        True,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("pool", [{"http2": True}, {"http2": False}, {"preserve": True}])
@in_memory
async def test_without_both_everybody_shares_one_protocol(pool: dict[str, bool]) -> None:
    net = Both(**{"http2": False, "preserve": False} | pool)
    for http2 in BOTH * 2:
        await net.answered(await net.sent(http2=http2))
    assert net.speaks() == [2 if pool.get("http2") else 1]


@in_memory
async def test_what_counts_against_an_endpoint_counts_for_both() -> None:
    net = Both("a:80", "b:80", outlier=EJECT)
    for http2 in BOTH:
        await net.answered(await net.sent(http2=http2, at="a:80"), 503)
    assert net.told == ["ejected a:80"]
    for http2 in BOTH:
        assert (await net.sent(http2=http2)).endpoint.address == "b:80"


# -- limits


@pytest.mark.parametrize("first", BOTH)
@in_memory
async def test_connections_of_both_have_one_limit(*, first: bool) -> None:
    net = Both(max_connections=1)
    held = await net.sent(http2=first)
    waiting = await net.asked_for(http2=not first)
    assert (waiting.upstream, net.cluster.pending) == (None, 1)
    await net.answered(held)
    assert waiting.upstream is not None, "the other's connection has made room"
    assert len(net.speaks()) == 2
    assert net.cluster.connections == 1
    await net.send_on(waiting)
    await net.answered(waiting)


@pytest.mark.parametrize("first", BOTH)
@in_memory
async def test_what_is_idle_makes_room_for_callers_of_the_other_protocol(*, first: bool) -> None:
    net = Both(max_connections=1)
    await net.answered(await net.sent(http2=first))
    lease = await net.sent(http2=not first)
    await net.answered(lease)
    assert net.counter("upstream_cx_overflow") == 1
    assert net.cluster.connections == len(net.open) == 1


@in_memory
async def test_a_connection_that_carries_something_is_not_closed_for_others() -> None:
    net = Both(max_connections=1)
    held = await net.sent(http2=True)
    waiting = await net.asked_for(http2=False)
    beside = await net.sent(http2=True)
    await net.answered(beside)
    assert (waiting.upstream, net.pipe(held).end) == (None, "")
    await net.answered(held)
    assert waiting.upstream is not None


@in_memory
async def test_calls_and_those_that_wait_have_one_limit() -> None:
    net = Both(max_requests=2)
    leases = [await net.sent(http2=http2) for http2 in BOTH]
    assert net.ask(http2=True) is net.ask(http2=False) is FULL
    await net.answered(leases[0])
    assert isinstance(net.ask(http2=True), Lease)
    net = Both(max_connections=1, max_pending=2)
    await net.sent(http2=False)
    for http2 in BOTH:
        await net.asked_for(http2=http2)
    assert net.ask(http2=True) is net.ask(http2=False) is FULL
    assert net.counter("upstream_rq_pending_overflow") == 2


@in_memory
async def test_who_waits_for_a_connection_that_comes_holds_up_nobody_of_the_other_protocol() -> (
    None
):
    net = Both("a:80", "b:80", max_connections=2)
    net.loop.hang.add("a:80")
    held = await net.sent(http2=False, at="b:80")
    first = await net.asked_for(http2=True, at="a:80")
    second = await net.asked_for(http2=True, at="a:80")
    third = await net.asked_for(http2=False, at="b:80")
    net.pipe(held).reset()
    await net.settle()
    assert third.upstream is not None, "it has the place that became free"
    assert (first.upstream, second.upstream) == (None, None)
    await net.settle(11)
    assert first.fault is not None
    assert second.fault is not None
    assert net.cluster.pending == 0


@in_memory
async def test_a_dial_that_fails_is_told_to_those_who_waited_for_it_alone() -> None:
    net = Both(max_connections=2)
    held = await net.sent(http2=False)
    net.loop.refuse.add("a:80")
    new = [net.asked(http2=True) for _ in range(2)]
    old = net.asked(http2=False)
    await net.settle()
    assert [lease.fault is not None for lease in new] == [True, True]
    assert old.fault is not None, "its own dial failed as well"
    net.loop.refuse.clear()
    await net.answered(held)
    await net.answered(await net.sent(http2=False))
    assert net.cluster.connections == 1


@in_memory
async def test_a_dial_that_comes_to_nothing_leaves_those_who_wait_for_the_other_protocol() -> None:
    net = Both(max_connections=2)
    held = await net.sent(http2=False)
    net.loop.hang.add("a:80")
    new = [net.asked(http2=True) for _ in range(2)]
    old = await net.asked_for(http2=False)
    net.loop.hang.clear()
    await net.settle(11)
    assert [lease.fault is not None for lease in new] == [True, True]
    assert old.fault is None
    assert old.upstream is not None, "the place that became free is its own"
    await net.answered(held)


@in_memory
async def test_who_waits_for_a_connection_that_comes_keeps_his_turn() -> None:
    net = Both("a:80", "b:80", max_connections=2, max_streams=2)
    held = await net.sent(http2=False, at="b:80")
    leases = [net.asked(http2=True, at="a:80") for _ in range(3)]
    net.pipe(held).reset()
    await net.settle()
    assert net.pipe(leases[0]) is net.pipe(leases[1]) is not net.pipe(leases[2])


# -- tries, and what changes


@in_memory
async def test_another_try_is_in_the_same_protocol() -> None:
    net = Both("a:80", "b:80")
    for http2 in BOTH:
        first = await net.sent(http2=http2, at="a:80")
        net.pipe(first).reset()
        await net.settle()
        first.end(net.loop.clock())
        second = net.asked(["a:80"], http2=http2)
        await net.settle()
        await net.send_on(second)
        await net.answered(second)
    assert net.speaks("b:80") == [1, 2]
    assert net.counter("upstream_rq_retry") == 2


@pytest.mark.parametrize("gone", [False, True])
@in_memory
async def test_what_is_no_longer_meant_is_drained_in_both(*, gone: bool) -> None:
    net = Both()
    busy = [await net.sent(http2=http2) for http2 in BOTH]
    await net.answered(await net.sent(http2=False))
    assert len(net.open) == 3
    net.clusters.replace([] if gone else [net.make(("b:80",), http2=True, preserve=True)])
    await net.settle()
    assert len(net.open) == 2, "what was idle is closed, and what is under way ends whole"
    if not gone:
        for lease in busy:
            await net.answered(lease)
        assert net.open == []


@pytest.mark.parametrize(
    ("before", "after", "speak"),
    [
        ({}, {"http2": True, "preserve": True}, [1, 2]),
        ({"http2": True}, {"http2": True, "preserve": True}, [1, 2]),
        ({"http2": True, "preserve": True}, {"http2": True}, [2, 2]),
        ({"http2": True, "preserve": True}, {}, [1, 1]),
    ],
)
@in_memory
async def test_a_reload_acts_on_the_next_calls_and_lets_the_others_finish(
    before: dict[str, bool], after: dict[str, bool], speak: list[int]
) -> None:
    net = Both(**{"http2": False, "preserve": False} | before)
    idle = await net.sent(http2=False)
    busy = [await net.sent(http2=http2) for http2 in BOTH]
    await net.answered(idle)
    net.clusters.replace([net.make(("a:80",), **after)])
    await net.settle()
    known = len(net.speaks())
    for http2, spoken in zip(BOTH, speak, strict=True):
        lease = await net.sent(http2=http2)
        assert isinstance(net.pipe(lease).protocol, Upstream2) is (spoken == 2)
        await net.answered(lease)
    for lease in busy:
        await net.answered(lease)
    old = [pipe for pipe in net.loop.pipes["a:80"][:known] if not pipe.end]
    assert old == [], "none of those from before is used again"
    assert net.cluster.connections == len(net.open)


@in_memory
async def test_who_waits_when_a_reload_comes_goes_on_as_it_says() -> None:
    net = Both(max_connections=1)
    held = await net.sent(http2=False)
    waiting = [await net.asked_for(http2=http2) for http2 in BOTH]
    net.clusters.replace([net.make(("a:80",), max_connections=3, http2=True)])
    await net.settle()
    assert all(lease.upstream is not None for lease in waiting)
    assert net.speaks() == [1, 2], "both of them share what all share now"
    await net.answered(held)
    assert net.cluster.connections == 1


@in_memory
async def test_a_connection_that_was_dialled_before_a_reload_serves_its_call_alone() -> None:
    net = Both()
    first, second = net.asked(http2=True), net.asked(http2=True)
    net.clusters.replace([net.make(("a:80",))])
    await net.settle()
    assert first.upstream is not None
    assert second.upstream is not None
    assert sorted(net.speaks()) == [1, 2]
    for lease in (first, second):
        await net.send_on(lease)
        await net.answered(lease)
    assert [pipe.end for pipe in net.servers] == ["closed"]


@in_memory
async def test_a_connection_that_nobody_waits_for_any_more_is_kept_for_its_protocol() -> None:
    net = Both()
    for http2 in BOTH:
        lease = net.asked(http2=http2)
        lease.end(net.loop.clock())
        await net.settle()
    for http2 in BOTH:
        await net.answered(await net.sent(http2=http2))
    assert net.speaks() == [1, 2]


@pytest.mark.parametrize("http2", BOTH)
@in_memory
async def test_a_connection_that_nobody_waits_for_and_a_reload_means_no_more_is_closed(
    *, http2: bool
) -> None:
    net = Both()
    lease = net.asked(http2=http2)
    lease.end(net.loop.clock())
    net.clusters.replace([net.make(("a:80",), http2=True)])
    await net.settle()
    assert (net.open, net.cluster.connections) == ([], 0)


@in_memory
async def test_without_tls_there_is_nobody_to_ask_and_without_a_dialler_no_tls() -> None:
    net = Net(http2=True)
    [endpoint] = net.cluster.endpoints.values()
    means, spec = net.clusters._means, net.spec
    lost: list[object] = []
    made = await connect(endpoint, Shelf(http2=True), spec, means, lost.append)
    assert isinstance(made, Upstream2)
    made = await connect(endpoint, Shelf(http2=False), spec, means, lost.append)
    assert isinstance(made, Upstream)
    secure = replace(spec, tls=TlsSpec(TlsMode.SIMPLE))
    with pytest.raises(IdentityError):
        await connect(endpoint, Shelf(http2=True), secure, means, lost.append)
