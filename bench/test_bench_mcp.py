"""What reading, cutting and shortening MCP messages costs."""

from __future__ import annotations

import json

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from sidecar.mcp.edit import error_reply, filter_tools
from sidecar.mcp.message import parse
from sidecar.mcp.session import check_headers
from sidecar.mcp.sse import EventSplitter, write_event

HEADERS = [
    *((b"host", b"files.internal"), (b"accept", b"application/json, text/event-stream")),
    *((b"content-type", b"application/json"), (b"user-agent", b"agent/1.0")),
    *((b"mcp-protocol-version", b"2026-07-28"), (b"mcp-method", b"tools/call")),
    *((b"mcp-name", b"search"), (b"content-length", b"1024")),
]


def call(size: int, arguments: dict[str, object]) -> bytes:
    """A `tools/call` of *size* bytes: these arguments and one long text."""
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "progressToken": 3}
    params = {"name": "search", "arguments": {**arguments, "query": ""}, "_meta": meta}
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
    room = size - len(json.dumps(message))
    params["arguments"] = {**arguments, "query": ("lorem ipsum " * (room // 12 + 1))[:room]}
    return json.dumps(message).encode()


def tool_list(tools: int) -> bytes:
    schema = {
        "type": "object",
        "properties": {"path": {"type": "string", "description": "the file to read"}},
        "required": ["path"],
    }
    listed = [
        {"name": f"tool_{number}", "description": "words " * 30, "inputSchema": schema}
        for number in range(tools)
    ]
    result = {"tools": listed, "ttlMs": 0, "cacheScope": "private"}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()


REPLY = json.dumps(
    {"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": "x" * 930}]}}
).encode()
ROWS = [{"path": f"/srv/{number}", "line": number, "hit": "text"} for number in range(1000)]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(call(1024, {"path": "/srv/a", "limit": 5}), id="1KB"),
        pytest.param(call(65536, {"path": "/srv/a"}), id="64KB-one-string"),
        pytest.param(call(65536, {"rows": ROWS}), id="64KB-3000-values"),
        pytest.param(REPLY, id="1KB-reply"),
    ],
)
def test_parse(benchmark: BenchmarkFixture, body: bytes) -> None:
    benchmark(parse, body)


def test_check_headers(benchmark: BenchmarkFixture) -> None:
    benchmark(check_headers, parse(call(1024, {})), HEADERS)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("size", [1024, 65536])
def test_split_one_event(benchmark: BenchmarkFixture, size: int, end: bytes) -> None:
    splitter = EventSplitter(1 << 20)
    chunk = b"event: message" + end + b"data: " + b"x" * size + end + end
    assert len(benchmark(splitter.feed, chunk)) == 1


def test_split_an_event_in_chunks(benchmark: BenchmarkFixture) -> None:
    event = b"data: " + b"x" * 65536 + b"\r\n\r\n"
    chunks = [event[start : start + 4096] for start in range(0, len(event), 4096)]
    splitter = EventSplitter(1 << 20)

    def pour() -> int:
        return sum(len(splitter.feed(chunk)) for chunk in chunks)

    assert benchmark(pour) == 1


def test_write_an_event(benchmark: BenchmarkFixture) -> None:
    [event] = EventSplitter(1 << 20).feed(b"id: 1\ndata: {}\n\n")
    benchmark(write_event, REPLY, event)


@pytest.mark.parametrize("tools", [10, 150])
@pytest.mark.parametrize("share", ["all", "half"])
def test_filter_a_list(benchmark: BenchmarkFixture, tools: int, share: str) -> None:
    body = tool_list(tools)
    value = parse(body).value
    seen = "0123456789" if share == "all" else "13579"
    benchmark(filter_tools, body, lambda name: name[-1] in seen, value)


def test_filter_a_reply_that_is_no_list(benchmark: BenchmarkFixture) -> None:
    value = parse(REPLY).value
    assert benchmark(filter_tools, REPLY, lambda name: False, value) is REPLY


def test_write_an_error(benchmark: BenchmarkFixture) -> None:
    data = {"reason": "denied", "policy": "tools/readers", "requestId": "0" * 32}
    benchmark(error_reply, 7, -32004, "RBAC: access denied", data)
