"""A server that says anything in frames: calls fail or are answered, and no bug is met."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from support.clusters import Net
from support.floods import frame
from support.memory import in_memory, loop

from sidecar.errors import UpstreamError
from sidecar.net.lease import Lease

REQUEST = b"POST /a HTTP/1.1\r\nhost: up.test\r\ncontent-length: 4\r\n\r\nbody"
HEADS = [
    b"\x88",  # :status 200
    b"\x88\x0f\x0d\x014",  # with content-length: 4
    b"\x08\x03103",  # an interim one
    b"\x08\x03101",
    b"\x89",
    b"\x82",
    b"\x88\0\x0aconnection\x05close",
    b"\0\x01x\x01y",
]
payloads = st.one_of(
    st.sampled_from(HEADS),
    st.binary(max_size=20),
    st.sampled_from(
        [b"body", b"\0\0\0\x07", b"\x7f\xff\xff\xff", bytes(8), b"\0\0\0\x01" + bytes(4)]
    ),
)
frames = st.builds(
    frame,
    st.integers(0, 10),
    payloads,
    st.sampled_from([0, 1, 4, 5, 8]),
    st.sampled_from([0, 1, 1, 3, 3, 5, 2]),
)
heads = st.builds(
    lambda what, flags, stream: frame(1, what, flags, stream),
    st.sampled_from(HEADS[:3]),
    st.sampled_from([4, 5]),
    st.sampled_from([1, 3, 5]),
)
data = st.builds(
    lambda body, flags, stream: frame(0, body, flags, stream),
    st.sampled_from([b"", b"body", b"x" * 9_000]),
    st.sampled_from([0, 1]),
    st.sampled_from([1, 3, 5]),
)
steps = st.lists(st.one_of(frames, heads, heads, data, st.sampled_from(["ask", "take", "end"])))


class Asking:
    """A few calls on one cluster."""

    def __init__(self) -> None:
        self.net = Net(http2=True)
        self.leases: list[Lease] = []

    async def ask(self) -> None:
        lease = self.net.asked()
        await loop().settle()
        if lease.upstream is not None:
            try:
                lease.upstream.send("POST", REQUEST, lease.wake)
            except UpstreamError:
                pass
        self.leases.append(lease)

    def take(self) -> None:
        for lease in self.leases:
            if lease.upstream is not None:
                lease.upstream.take()

    def end(self) -> None:
        while self.leases:
            self.leases.pop().end(loop().clock())


@settings(max_examples=300, deadline=None)
@given(steps)
def test_whatever_a_server_says_no_bug_is_met_and_nothing_is_left(sent: list[bytes | str]) -> None:
    @in_memory
    async def run() -> None:
        faults: list[object] = []
        loop().set_exception_handler(lambda _, context: faults.append(context))
        asking = Asking()
        for step in [frame(4), "ask", "ask", *sent]:
            if step == "ask":
                await asking.ask()
            elif step == "take":
                asking.take()
            elif step == "end":
                asking.end()
            else:
                for pipe in asking.net.loop.pipes.get("a:80", [])[-1:]:
                    pipe.say(step)  # type: ignore[arg-type]
            await loop().settle()
        asking.end()
        asking.net.cluster.close()
        await loop().settle()
        assert not faults
        assert not asking.net.faults
        assert asking.net.cluster.connections == asking.net.cluster.active == 0

    run()
