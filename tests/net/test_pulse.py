"""A server over HTTP/2 is asked whether it lives, and its connection left when it does not say."""

from __future__ import annotations

from support.memory import in_memory
from support.shared import Shared, fault

from sidecar.upstream.endpoint import Http2Keepalive

PING = b"\0\0\x08\x06\0\0\0\0\0"


def watched() -> Shared:
    """A cluster whose servers are asked every ten seconds and have three to answer."""
    return Shared(http2_keepalive=Http2Keepalive(10, 3))


@in_memory
async def test_a_server_that_answers_is_kept() -> None:
    shared = watched()
    await shared.sent()
    for _ in range(30):
        await shared.settle(4)
    assert not shared.pipe.end


@in_memory
async def test_nothing_is_asked_before_its_time() -> None:
    shared = watched()
    await shared.sent()
    await shared.net.loop.settle(9)
    assert PING not in shared.pipe.heard()
    await shared.net.loop.settle(2)
    assert PING in shared.pipe.heard()


@in_memory
async def test_a_server_that_does_not_answer_fails_its_calls_and_is_left() -> None:
    shared = watched()
    lease = await shared.sent()
    for _ in range(4):
        await shared.net.loop.settle(4)
    assert fault(lease).status == 504
    assert shared.pipe.end == "aborted"
    lease.end(0)
    assert shared.net.cluster.connections == 0


@in_memory
async def test_whatever_it_says_is_a_sign() -> None:
    shared = watched()
    await shared.sent()
    for _ in range(12):
        await shared.net.loop.settle(2)
        shared.pipe.say(b"\0\0\x05\x02\0\0\0\0\x01" + b"\0\0\0\0\x10")
    assert not shared.pipe.end


@in_memory
async def test_it_is_watched_no_longer_than_it_lives() -> None:
    shared = watched()
    lease = await shared.sent()
    shared.pipe.reset()
    lease.end(0)
    await shared.settle(11)
    await shared.settle(1)
    assert len(shared.net.deadlines) == 0
