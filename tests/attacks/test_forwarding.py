"""The bytes that were judged are the bytes that go on; and headers go on as they were judged."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from support.flow import Flow
from support.memory import in_memory
from support.spellings import written

from sidecar.policy.verdict import Permit

from .harness import ANYTHING, policy, to, use

RULES = policy(to("methods: [POST], paths: [/mcp], tools: [read]"))
OPEN = policy(ANYTHING)

ARGUMENTS = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**60), 2**60),
        st.text('abc\u00e9\U0001f600"\\/ \t', max_size=8),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text("abcd", min_size=1, max_size=4), inner, max_size=3),
    ),
    max_leaves=6,
)


def call(arguments: Any) -> dict[str, Any]:
    params = {"name": "read", "arguments": {"a": arguments}}
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}


@st.composite
def framed(draw: DrawFn, body: bytes) -> list[bytes]:
    """A request with *body*, chunked or not, in the pieces in which it comes."""
    chunked = draw(st.booleans())
    if chunked:
        cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=4)))
        parts = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        sent = (
            b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"
        )
        line = b"transfer-encoding: chunked"
    else:
        sent, line = body, b"content-length: %d" % len(body)
    head = b"POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n" + line
    data = head + b"\r\n\r\n" + sent
    cuts = sorted(draw(st.lists(st.integers(1, len(data)), max_size=4)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


BODIES = ARGUMENTS.map(call).flatmap(lambda value: written(value, {}, sound=True))
REQUESTS = BODIES.flatmap(lambda body: st.tuples(st.just(body), framed(body)))


@settings(max_examples=60, deadline=None)
@given(REQUESTS)
@in_memory
async def test_what_was_judged_is_what_is_sent(asked: tuple[bytes, list[bytes]]) -> None:
    body, pieces = asked
    flow = Flow(RULES)
    caller = flow.callers.connect()
    for piece in pieces:
        caller.say(piece)
        await flow.settle()
    record_call = flow.server().heard()
    head, _, heard = record_call.partition(b"\r\n\r\n")
    assert heard == body
    assert b"content-length: %d" % len(body) in head
    assert b"transfer-encoding" not in head
    await flow.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    [record] = flow.records
    assert type(record.verdict) is Permit
    assert record.call is not None
    assert record.call.body == body


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=1, max_size=300))
@in_memory
async def test_a_body_that_nobody_reads_goes_on_as_it_is(body: bytes) -> None:
    flow = Flow(OPEN)
    flow.call("POST", "/upload", body, "content-type: application/octet-stream")
    await flow.settle()
    assert flow.server().heard().partition(b"\r\n\r\n")[2] == body


NAMES = st.sampled_from(
    ["mcp-method", "Mcp-Method", "MCP-METHOD", "Mcp_Method", "mcp-name", "Mcp-Name", "mcp_name"]
)
METHODS = st.sampled_from(["tools/call", "ping", "Tools/Call", "tools/call, ping"])
TOOLS = st.sampled_from(["read", "drop", "READ", "=?base64?cmVhZA==?=", "=?base64?ZHJvcA==?="])
BLANKS = st.sampled_from(["", " ", "  ", "\t", " \t "])


@st.composite
def mirror(draw: DrawFn) -> str:
    """One header line that mirrors the method or the name, in some spelling."""
    name = draw(NAMES)
    value = draw(METHODS if "ethod" in name.lower() else TOOLS)
    return f"{name}:{draw(BLANKS)}{value}{draw(BLANKS)}"


def mirrored(head: bytes) -> dict[str, set[str]]:
    """What readers may take the mirrors in *head* for: `_` for `-`, lists, first or last."""
    found: dict[str, set[str]] = {"mcp-method": set(), "mcp-name": set()}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        known = found.get(name.strip().lower().replace("_", "-"))
        if known is not None:
            known.update(one.strip() for one in value.split(","))
    return found


@settings(max_examples=80, deadline=None)
@given(st.lists(mirror(), max_size=3))
@in_memory
async def test_no_header_that_is_sent_says_something_else_than_the_body(lines: list[str]) -> None:
    flow = Flow(RULES)
    body = use("read").encode()
    flow.call("POST", "/mcp", body, "content-type: application/json", *lines)
    await flow.settle()
    if not flow.servers():
        return
    found = mirrored(flow.server().heard().partition(b"\r\n\r\n")[0])
    assert found["mcp-method"] <= {"tools/call"}
    assert found["mcp-name"] <= {"read", "=?base64?cmVhZA==?="}
