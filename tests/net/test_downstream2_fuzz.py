"""Frames in any order and of any content: streams end, connections end, and no bug is met."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from support.floods import GREETING, asked, block, frame
from support.lines2 import Line, Served
from support.memory import in_memory, loop

PATHS = ("/a", "/big", "/never", "/pump", "/short", "/nothing", "/stream")
numbers = st.sampled_from([0, 1, 1, 3, 5, 7, 2, 2**31 - 1])
blocks = st.sampled_from(
    [block(path, method) for path in PATHS for method in ("GET", "POST", "HEAD")]
    + [
        block("/a", "POST", ("content-length", "4")),
        block("/a", "POST", ("expect", "100-continue")),
    ]
    + [block("/a", "GET", ("connection", "close")), b"\0\x01x\x01y", b"\x82"]
)
payloads = st.one_of(
    blocks,
    st.binary(max_size=24),
    st.sampled_from([b"\0\0\0\x08", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\x04\0\0\0\0", b"body"]),
    st.just(b"\0\x04\0\x10\0\0"),
)
odd = st.builds(
    frame, st.integers(0, 10), payloads, st.sampled_from([0, 1, 4, 5, 8, 0x25]), numbers
)
plain = st.builds(
    lambda stream, ended, what: asked(stream, ended=ended, what=what),
    st.sampled_from([1, 3, 5, 7, 9, 11]),
    st.booleans(),
    blocks,
)
data = st.builds(
    lambda stream, body, flags: frame(0, body, flags, stream),
    st.sampled_from([1, 3, 5, 7]),
    st.sampled_from([b"", b"body", b"x" * 5_000]),
    st.sampled_from([0, 1]),
)
steps = st.lists(st.one_of(odd, plain, plain, data, st.sampled_from(["time", "stall", "drain"])))


@settings(max_examples=300, deadline=None)
@given(steps, st.booleans())
def test_whatever_comes_no_bug_is_met_and_nothing_is_left(
    sent: list[bytes | str], drained: bool
) -> None:
    @in_memory
    async def run() -> None:
        faults: list[object] = []
        loop().set_exception_handler(lambda _, context: faults.append(context))
        line = Line(Served())
        pipe = line.callers.connect2()
        pipe.say(GREETING)
        for step in sent:
            if step == "stall":
                pipe.stall()
            elif step == "drain":
                pipe.drain()
            elif isinstance(step, bytes):
                pipe.say(step)
            await loop().settle(7.0 if step == "time" else 0.0)
        if drained:
            pipe.protocol.drain()  # type: ignore[attr-defined]
            await loop().settle()
        pipe.abort()
        await loop().settle()
        line.pipe.abort()
        await loop().settle()
        assert not faults
        assert not line.callers.faults
        assert not line.callers.live
        assert len(line.callers.tasks) == len(line.callers.deadlines) == 0

    run()
