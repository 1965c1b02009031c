"""One connection to a server: what it wakes, what it holds back, when it may serve again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.clusters import BOUNDS, OK, Net
from support.memory import Pipe, in_memory

from sidecar.errors import UpstreamError
from sidecar.net.lease import Lease
from sidecar.net.upstream import Upstream

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n"


async def sent(net: Net) -> tuple[Lease, Upstream, Pipe]:
    """A call that was sent and waits for its reply."""
    lease = await net.lent()
    pipe = net.send(lease)
    assert lease.upstream is not None
    return lease, lease.upstream, pipe


@in_memory
async def test_a_call_goes_out_in_one_write() -> None:
    lease, _, pipe = await sent(Net())
    assert pipe.heard() == b"GET / HTTP/1.1\r\n\r\n"
    lease.end(0)


@in_memory
async def test_a_server_that_is_not_read_is_stopped_and_goes_on_when_it_is() -> None:
    net = Net()
    _, upstream, pipe = await sent(net)
    pipe.say(HEAD)
    pipe.say(b"x" * 60_000)
    assert pipe.reading
    pipe.say(b"x" * 10_000)
    assert not pipe.reading
    pipe.say(b"y" * 10_000)
    assert upstream.reply.waiting == 70_000, "what it sends now stays in the kernel"
    assert upstream.take() == b"x" * 70_000
    assert pipe.reading
    await net.loop.settle()
    assert upstream.take() == b"y" * 10_000


@in_memory
async def test_how_much_may_wait_is_a_limit_that_is_set() -> None:
    net = Net(bounds=replace(BOUNDS, buffer=100))
    _, upstream, pipe = await sent(net)
    pipe.say(HEAD + b"x" * 100)
    assert pipe.reading
    pipe.say(b"x")
    assert not pipe.reading
    assert upstream.take() == b"x" * 101


@in_memory
async def test_a_reply_that_nobody_took_leaves_no_deaf_connection_behind() -> None:
    net = Net()
    lease, _, pipe = await sent(net)
    body = b"x" * 100_000
    pipe.say(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + body)
    lease.end(net.loop.clock())  # refused unread: compressed, say
    again = await net.lent()
    pipe = net.send(again)
    pipe.say(OK)
    assert again.upstream is not None
    assert again.upstream.reply.whole, "the next call would wait until its limit"


@in_memory
async def test_a_reset_breaks_a_body_that_lasts_until_the_close() -> None:
    _, upstream, pipe = await sent(Net())
    pipe.say(b"HTTP/1.1 200 OK\r\n\r\nhalf")
    pipe.reset()
    assert not upstream.reply.whole
    assert upstream.fault is not None
    assert upstream.fault.sent


@in_memory
async def test_a_close_ends_a_body_that_lasts_until_the_close() -> None:
    net = Net()
    _, upstream, pipe = await sent(net)
    pipe.say(b"HTTP/1.1 200 OK\r\n\r\nto the end")
    pipe.hang_up()
    await net.loop.settle()
    assert upstream.reply.whole
    assert upstream.fault is None
    assert upstream.take() == b"to the end"


@pytest.mark.parametrize("how", ["hang_up", "reset"])
@pytest.mark.parametrize("so_far", [b"", b"HTTP/1.1 2", HEAD, HEAD + b"half"])
@in_memory
async def test_a_reply_cut_off_is_a_fault_of_something_that_was_sent(
    so_far: bytes, how: str
) -> None:
    net = Net()
    _, upstream, pipe = await sent(net)
    if so_far:
        pipe.say(so_far)
    getattr(pipe, how)()
    await net.loop.settle()
    assert upstream.fault is not None
    assert (upstream.fault.sent, upstream.fault.status) == (True, 502)
    assert not upstream.alive()


@in_memory
async def test_the_first_fault_is_the_one_that_is_told() -> None:
    net = Net()
    _, upstream, pipe = await sent(net)
    pipe.say(b"no reply at all\r\n\r\n")
    first = upstream.fault
    assert first is not None
    await net.loop.settle()
    assert upstream.fault is first


@in_memory
async def test_on_a_lost_connection_nothing_is_sent() -> None:
    net = Net()
    lease = await net.lent()
    net.pipe(lease).reset()
    assert lease.upstream is not None
    with pytest.raises(UpstreamError) as fault:
        lease.upstream.send("GET", b"GET / HTTP/1.1\r\n\r\n", lease.wake)
    assert not fault.value.sent
    lease.upstream.abort()


@in_memory
async def test_whatever_is_learnt_wakes_who_waits() -> None:
    net = Net()
    for learn in (
        lambda pipe: pipe.say(b"H"),
        lambda pipe: pipe.say(b"nonsense\r\n\r\n"),
        lambda pipe: pipe.hang_up(),
        lambda pipe: pipe.reset(),
    ):
        lease, _, pipe = await sent(net)
        woken: list[bool] = []

        async def wait(lease: Lease = lease, woken: list[bool] = woken) -> None:
            await lease.wake
            woken.append(True)

        net.tasks.spawn(wait(), "waits")
        await net.loop.settle()
        learn(pipe)
        await net.loop.settle()
        assert woken == [True]
        lease.end(net.loop.clock())


@in_memory
async def test_a_server_is_not_read_on_until_something_is_taken() -> None:
    _, upstream, pipe = await sent(Net())
    pipe.say(HEAD + b"x")
    assert upstream.take() == b"x"
    upstream.hold()
    upstream.hold()
    assert not pipe.reading
    assert upstream.take() == b""
    assert pipe.reading
    upstream.abort()
    upstream.hold()


@pytest.mark.parametrize("how", ["hang_up", "reset"])
@pytest.mark.parametrize(
    ("calls", "so_far", "stale"),
    [(1, b"", False), (2, b"", True), (2, b"H", False), (2, HEAD, False)],
)
@in_memory
async def test_what_ends_without_a_word_at_its_second_call_was_about_to_end(
    calls: int, so_far: bytes, stale: bool, how: str
) -> None:
    net = Net()
    first, other = await net.lent(), await net.lent()
    for lease in (first, other)[: calls + 1]:
        net.send(lease, OK)
        lease.end(0)
    if calls == 1:
        net.cluster.close()
        await net.loop.settle()
    lease, upstream, pipe = await sent(net)
    if so_far:
        pipe.say(so_far)
    getattr(pipe, how)()
    await net.loop.settle()
    assert upstream.fault is not None
    assert upstream.fault.stale == stale
    lease.end(0)
    await net.loop.settle()
    idle = 0 if stale or calls == 1 else 1
    assert net.cluster.connections == idle, "what was idle beside it is not trusted either"
