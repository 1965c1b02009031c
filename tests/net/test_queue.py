"""When all connections are lent: calls wait in turn, up to a limit, and ejection still holds."""

from __future__ import annotations

import pytest
from support.clusters import EJECT, OK, Net
from support.memory import in_memory

from sidecar.net.lease import FULL
from sidecar.upstream.outlier import Outcome

BAD = b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n"


@in_memory
async def test_calls_wait_in_turn_for_a_connection() -> None:
    net = Net(max_connections=1)
    held = await net.lent()
    waiting = [net.asked() for _ in range(3)]
    assert net.cluster.pending == 3
    pipe = net.pipe(held)
    for lease in (held, *waiting):
        assert lease.upstream is not None
        assert net.served(lease) is pipe
    assert net.loop.dialled("a:80") == 1
    assert (net.cluster.pending, net.counter("upstream_rq_pending_total")) == (0, 3)


@in_memory
async def test_beyond_the_queue_a_call_is_refused() -> None:
    net = Net(max_connections=1, max_pending=1)
    await net.lent()
    waiting = net.asked()
    in_flight = waiting.endpoint.in_flight
    assert net.ask() is FULL
    assert waiting.endpoint.in_flight == in_flight, "who is refused is no load"
    assert net.counter("upstream_rq_pending_overflow") == 1
    assert net.counter("upstream_cx_overflow") == 1


@in_memory
async def test_calls_under_way_have_a_limit_of_their_own() -> None:
    net = Net(max_requests=2, max_connections=1)
    held, waiting = await net.lent(), net.asked()
    assert net.ask() is FULL
    assert net.counter("upstream_rq_pending_overflow") == 1
    waiting.end(net.loop.clock())
    waiting.end(net.loop.clock())
    again = net.asked()
    assert net.ask() is FULL, "ending twice makes room once"
    for lease in (held, again):
        net.served(lease)
    assert [net.asked().endpoint.in_flight for _ in range(2)] == [1, 2]


@in_memory
async def test_who_leaves_the_queue_is_passed_over() -> None:
    net = Net(max_connections=1, max_pending=2)
    held = await net.lent()
    first, second = net.asked(), net.asked()
    first.end(net.loop.clock())
    assert net.cluster.pending == 1
    net.served(held)
    assert second.upstream is not None
    assert first.upstream is None
    net.served(second)
    assert second.endpoint.in_flight == 0


@in_memory
async def test_a_connection_that_is_lost_makes_room_for_the_first_who_waits() -> None:
    net = Net(max_connections=1)
    held = await net.lent()
    waiting = net.asked()
    net.pipe(held).reset()
    await net.loop.settle()
    assert waiting.upstream is not None
    assert net.loop.dialled("a:80") == 2
    assert net.cluster.connections == 1


@in_memory
async def test_a_dial_that_fails_makes_room_for_the_first_who_waits() -> None:
    net = Net(endpoints=("a:80", "b:80", "c:80"), max_connections=1)
    net.loop.refuse.add("a:80")
    failing, waiting = net.asked(), net.asked()
    await net.loop.settle()
    assert failing.fault is not None
    assert waiting.upstream is not None
    assert waiting.endpoint.address == "c:80"


@in_memory
async def test_all_who_wait_are_told_when_no_server_is_left() -> None:
    net = Net(max_connections=1, outlier=EJECT)
    held = await net.lent()
    waiting = [net.asked() for _ in range(2)]
    for _ in range(2):
        net.cluster.failed(held.endpoint, Outcome.CONNECT_FAILED, net.loop.clock())
    net.pipe(held).reset()
    await net.loop.settle()
    for lease in waiting:
        assert lease.fault is not None
        assert (lease.fault.status, lease.fault.sent) == (503, False)
        lease.end(net.loop.clock())
    assert net.cluster.pending == 0
    held.end(net.loop.clock())
    assert held.endpoint.in_flight == 0


@in_memory
async def test_a_larger_pool_after_a_reload_serves_those_who_wait() -> None:
    net = Net(max_connections=1)
    await net.lent()
    waiting = net.asked()
    net.clusters.replace([net.make(("a:80",), max_connections=2)])
    await net.loop.settle()
    assert waiting.upstream is not None


@in_memory
async def test_an_idle_connection_elsewhere_serves_when_there_may_be_no_new_one() -> None:
    net = Net(endpoints=("a:80", "b:80"), max_connections=1)
    pipe = net.served(await net.lent())
    lease = net.asked()  # it is the other's turn
    assert net.pipe(lease) is pipe
    assert lease.endpoint.address == "a:80"
    assert lease.endpoint.in_flight == 1
    assert net.cluster.endpoints["b:80"].in_flight == 0


# -- while an endpoint is ejected


async def one_ejected(net: Net) -> None:
    """Let `a:80` fail until it is out."""
    while not net.cluster.endpoints["a:80"].ejected:
        lease = await net.lent()
        net.served(lease, BAD if lease.endpoint.address == "a:80" else OK)


@in_memory
async def test_an_ejected_endpoint_gets_no_call_until_its_time_is_over() -> None:
    net = Net(endpoints=("a:80", "b:80"), outlier=EJECT)
    await one_ejected(net)
    assert net.told == ["ejected a:80"]
    addresses = set()
    for _ in range(6):
        lease = await net.lent()
        addresses.add(lease.endpoint.address)
        net.served(lease)
    assert addresses == {"b:80"}
    for seconds in range(12):
        net.clusters.sweep(net.loop.clock() + seconds)
    assert net.told == ["ejected a:80", "returned a:80"]
    leases = [await net.lent() for _ in range(2)]
    assert {lease.endpoint.address for lease in leases} == {"a:80", "b:80"}


@in_memory
async def test_the_connections_of_an_ejected_endpoint_do_not_serve_the_queue() -> None:
    net = Net(endpoints=("a:80", "b:80"), outlier=EJECT, max_connections=2)
    leases = {lease.endpoint.address: lease for lease in [await net.lent(), await net.lent()]}
    waiting = [net.asked() for _ in range(6)]
    for _ in range(2):  # both connections are lent, six calls wait, and `a` fails
        net.cluster.failed(leases["a:80"].endpoint, Outcome.RESET, net.loop.clock())
    assert net.cluster.endpoints["a:80"].ejected
    net.served(leases["a:80"], BAD)
    await net.loop.settle()
    served = [lease for lease in waiting if lease.upstream is not None]
    assert len(served) == 1
    assert served[0].endpoint.address == "b:80"


@in_memory
async def test_the_idle_connections_of_an_ejected_endpoint_do_not_keep_others_waiting() -> None:
    net = Net(endpoints=("a:80", "b:80"), outlier=EJECT, max_connections=1)
    lease = await net.lent()
    assert lease.endpoint.address == "a:80"
    pipe = net.served(lease)
    for _ in range(2):
        net.cluster.failed(lease.endpoint, Outcome.RESET, net.loop.clock())
    assert net.cluster.endpoints["a:80"].ejected
    waiting = net.asked()
    await net.loop.settle()
    assert pipe.end == "aborted"
    assert waiting.upstream is not None
    assert waiting.endpoint.address == "b:80"


# -- what counts against an endpoint


@pytest.mark.parametrize(
    ("counter", "tell"),
    [("upstream_rq_rx_reset", "reset"), ("upstream_rq_timeout", "timed_out")],
)
@in_memory
async def test_no_answer_counts_against_the_endpoint_once(counter: str, tell: str) -> None:
    net = Net(outlier=EJECT)
    for _ in range(2):
        lease = await net.lent()
        net.send(lease)
        getattr(lease, tell)(net.loop.clock())
        getattr(lease, tell)(net.loop.clock())
        net.end(lease)
    assert net.counter(counter) == 2
    assert net.told == ["ejected a:80"]


@in_memory
async def test_what_fails_after_the_answer_does_not_count() -> None:
    net = Net(outlier=EJECT)
    for _ in range(3):
        lease = await net.lent()
        net.send(lease, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
        lease.answered(200, net.loop.clock())
        lease.reset(net.loop.clock())
        net.end(lease)
    assert net.counter("upstream_rq_2xx") == 3
    assert net.counter("upstream_rq_rx_reset") == 0
    assert net.told == []


@in_memory
async def test_waiting_in_vain_is_not_the_servers_fault() -> None:
    net = Net(max_connections=1, outlier=EJECT)
    await net.lent()
    waiting = net.asked()
    waiting.timed_out(net.loop.clock())
    waiting.end(net.loop.clock())
    assert net.counter("upstream_rq_timeout") == 0


@pytest.mark.parametrize(
    ("status", "counter"),
    [
        (200, "upstream_rq_2xx"),
        (304, "upstream_rq_3xx"),
        (404, "upstream_rq_4xx"),
        (599, "upstream_rq_5xx"),
        (999, "upstream_rq_other"),
    ],
)
@in_memory
async def test_answers_are_counted_by_family(status: int, counter: str) -> None:
    net = Net()
    (await net.lent()).answered(status, net.loop.clock())
    assert net.counter(counter) == 1
