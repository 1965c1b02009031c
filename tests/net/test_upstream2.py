"""A shared connection to a server: many exchanges on it, each with its own end and fault."""

from __future__ import annotations

import pytest
from h2.settings import SettingCodes
from support.memory import in_memory
from support.shared import Shared, fault

from sidecar.http.h2 import CANCEL, NO_ERROR, REFUSED
from sidecar.http.h2_frames import write_goaway
from sidecar.net.upstream2 import Upstream2


@in_memory
async def test_a_call_is_asked_and_answered_on_a_stream() -> None:
    shared = Shared()
    lease = await shared.sent()
    asked = shared.server.asked[1]
    assert (asked.headers[":path"], asked.headers[":scheme"], asked.body) == ("/a", "http", b"body")
    await shared.say(shared.server.reply(1, b"reply"))
    up = lease.upstream
    assert up is not None
    assert up.reply.head is not None
    assert (up.reply.head.status, up.reply.whole, up.take()) == (200, True, b"reply")
    lease.end(0)
    assert not shared.server.asked[1].reset


@in_memory
async def test_exchanges_share_one_connection() -> None:
    shared = Shared()
    leases = [await shared.sent() for _ in range(5)]
    assert len(shared.servers) == shared.net.cluster.connections == 1
    assert list(shared.server.asked) == [1, 3, 5, 7, 9]
    await shared.say(shared.server.reply(9))
    whole = [lease.upstream.reply.whole for lease in leases if lease.upstream]
    assert whole == [False, False, False, False, True]


@in_memory
async def test_calls_that_come_while_it_is_dialled_wait_for_that_connection() -> None:
    shared = Shared()
    leases = [shared.net.asked() for _ in range(5)]
    await shared.settle()
    assert all(lease.upstream is not None for lease in leases)
    assert shared.net.counter("upstream_cx_total") == 1


@in_memory
async def test_calls_that_wait_for_a_dial_that_fails_are_told() -> None:
    shared = Shared()
    shared.net.loop.refuse.add("a:80")
    leases = [shared.net.asked() for _ in range(3)]
    await shared.settle()
    assert all(lease.fault is not None and not lease.fault.sent for lease in leases)
    assert shared.net.cluster.connections == shared.net.cluster.pending == 0


@in_memory
async def test_what_is_over_a_connections_streams_goes_on_another() -> None:
    shared = Shared(max_streams=2)
    for _ in range(3):
        await shared.sent()
    assert shared.net.cluster.connections == 2


@in_memory
async def test_what_is_over_the_servers_streams_goes_on_another() -> None:
    shared = Shared(streams=2)
    for _ in range(3):
        await shared.sent()
    assert shared.net.cluster.connections == 2


@in_memory
async def test_who_waits_gets_the_stream_that_becomes_free() -> None:
    shared = Shared(max_streams=1, max_connections=1)
    first = await shared.sent()
    second = shared.net.asked()
    await shared.settle()
    assert second.upstream is None
    await shared.say(shared.server.reply(1))
    first.end(0)
    await shared.settle()
    assert second.upstream is not None
    assert shared.net.counter("upstream_cx_total") == 1


@in_memory
async def test_a_connection_carries_so_many_in_its_life() -> None:
    shared = Shared(max_requests_per_connection=1)
    for _ in range(2):
        lease = await shared.sent()
        pipe, server = list(shared.servers.items())[-1]
        pipe.say(server.reply(1))
        await shared.settle()
        lease.end(0)
        await shared.settle()
    assert [pipe.end for pipe in shared.servers] == ["closed", "closed"]


@in_memory
async def test_a_body_that_nobody_takes_shuts_its_own_window_alone() -> None:
    shared = Shared()
    first, second = await shared.sent(), await shared.sent()
    server = shared.server
    await shared.say(server.reply(1, b"x" * 65_535, end=False))
    assert server.h2.local_flow_control_window(1) == 0
    await shared.say(server.reply(3, b"y" * 65_535, end=False))
    assert second.upstream is not None
    assert len(second.upstream.take()) == 65_535
    await shared.settle()
    assert (server.h2.local_flow_control_window(1), first.ended) == (0, False)
    assert server.h2.local_flow_control_window(3) > 0
    assert first.upstream is not None
    assert len(first.upstream.take()) == 65_535
    await shared.settle()
    assert server.h2.local_flow_control_window(1) > 0


@in_memory
async def test_a_long_request_goes_out_as_the_server_takes_it() -> None:
    shared = Shared()
    body = b"b" * 300_000
    head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 300000\r\n\r\n"
    await shared.sent(head + body)
    for _ in range(30):
        await shared.settle()
    assert shared.server.asked[1].body == body


# -- what comes to nothing


@in_memory
async def test_goaway_lets_finish_what_was_looked_at_and_the_rest_was_never_sent() -> None:
    shared = Shared()
    first, second = await shared.sent(), await shared.sent()
    await shared.say(write_goaway(1, NO_ERROR))
    assert first.upstream is not None
    assert first.upstream.fault is None
    assert not fault(second).sent
    await shared.say(shared.server.reply(1))
    assert first.upstream.reply.whole
    for lease in (first, second):
        lease.end(0)
    await shared.settle()
    assert shared.pipe.end == "closed"
    shared.net.asked()
    await shared.settle()
    assert shared.net.counter("upstream_cx_total") == 2


@pytest.mark.parametrize(("code", "sent"), [(REFUSED, False), (CANCEL, True)])
@in_memory
async def test_a_reset_is_one_calls_fault(code: int, sent: bool) -> None:
    shared = Shared()
    first, second = await shared.sent(), await shared.sent()
    shared.server.h2.reset_stream(1, code)
    await shared.say(shared.server.h2.data_to_send())
    assert fault(first).sent is sent
    assert second.upstream is not None
    assert second.upstream.fault is None


@in_memory
async def test_a_refusal_behind_a_head_is_no_leave_to_try_again() -> None:
    shared = Shared()
    lease = await shared.sent()
    data = shared.server.reply(1, b"half", end=False)
    shared.server.h2.reset_stream(1, REFUSED)
    await shared.say(data + shared.server.h2.data_to_send())
    assert fault(lease).sent


@in_memory
async def test_a_connection_that_breaks_is_every_calls_fault() -> None:
    shared = Shared()
    leases = [await shared.sent() for _ in range(2)]
    shared.pipe.reset()
    await shared.settle()
    assert [fault(lease).sent for lease in leases] == [True, True]
    for lease in leases:
        lease.end(0)
    assert shared.net.cluster.connections == 0


@in_memory
async def test_a_head_that_is_broken_is_one_calls_fault() -> None:
    shared = Shared()
    first, second = await shared.sent(), await shared.sent()
    shared.server.h2.config.validate_outbound_headers = False
    shared.server.h2.config.normalize_outbound_headers = False
    await shared.say(shared.server.reply(1, b"", headers=[("connection", "close")]))
    assert fault(first).sent
    first.end(0)
    await shared.say(shared.server.reply(3))
    assert second.upstream is not None
    assert second.upstream.reply.whole


@in_memory
async def test_what_is_no_http2_is_every_calls_fault() -> None:
    shared = Shared()
    lease = await shared.sent()
    await shared.say(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    assert fault(lease).sent
    assert shared.pipe.end


@in_memory
async def test_a_server_that_floods_is_left() -> None:
    shared = Shared()
    lease = await shared.sent()
    await shared.say(b"\0\0\0\x04\0\0\0\0\0" * 2_000)
    assert fault(lease).sent
    assert shared.pipe.end == "closed"


@in_memory
async def test_small_events_are_no_flood() -> None:
    shared = Shared()
    lease = await shared.sent()
    server = shared.server
    events = server.reply(1, b"data: 0\n\n", end=False)
    events += b"".join(server.more(1, b"data: 1\n\n") for _ in range(2_000))
    await shared.say(events)
    assert lease.upstream is not None
    assert lease.upstream.fault is None
    assert len(lease.upstream.take()) == 9 * 2_001


@in_memory
async def test_an_exchange_that_is_given_up_resets_its_stream() -> None:
    shared = Shared()
    lease = await shared.sent()
    lease.end(0)
    await shared.settle()
    assert shared.server.asked[1].reset
    assert not shared.pipe.end


@in_memory
async def test_a_lease_that_was_never_used_leaves_nothing() -> None:
    shared = Shared()
    lease = shared.net.asked()
    await shared.settle()
    lease.end(0)
    await shared.settle()
    assert not shared.server.asked
    assert shared.net.cluster.active == 0


# -- its end


@in_memory
async def test_a_connection_that_carries_nothing_is_closed_in_time() -> None:
    shared = Shared(idle_timeout=5)
    lease = await shared.sent()
    await shared.settle(20)
    assert not shared.pipe.end
    await shared.say(shared.server.reply(1))
    lease.end(shared.net.loop.clock())
    await shared.settle(6)
    await shared.settle(1)
    assert shared.server.goaway
    assert shared.net.cluster.connections == 0


@in_memory
async def test_an_endpoint_that_goes_lets_its_exchanges_finish() -> None:
    shared = Shared("a:80")
    lease = await shared.sent()
    shared.net.clusters.replace([shared.net.make(("b:80",), http2=True)])
    await shared.settle()
    assert not shared.pipe.end
    await shared.say(shared.server.reply(1))
    assert lease.upstream is not None
    assert lease.upstream.reply.whole
    lease.end(0)
    await shared.settle()
    assert shared.pipe.end == "closed"


@in_memory
async def test_fewer_streams_than_before_are_learnt() -> None:
    shared = Shared()
    await shared.sent()
    upstream = shared.pipe.protocol
    assert isinstance(upstream, Upstream2)
    shared.server.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    await shared.say(shared.server.h2.data_to_send())
    assert (upstream.room, upstream.alive()) == (0, False)
