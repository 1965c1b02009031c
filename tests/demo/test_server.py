"""The demo's server, as a process: bounded HTTP, and the real MCP client can use it."""

from __future__ import annotations

import http.client
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from support.daemon import PYTHON, Process, running

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
JSON = {"content-type": "application/json"}


def start(folder: Path, *more: str) -> list[str]:
    return [PYTHON, "-m", "sidecar.demo.server", "--root", str(folder), *more]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Process, str, int]]:
    root = tmp_path / "root"
    root.mkdir()
    (root / "notes.txt").write_text("hello")
    with running("files", start(root, "--listen", "127.0.0.1:0"), tmp_path) as process:
        url, port = process.wait_for(r"listening on (http://127.0.0.1:(\d+)/mcp)").groups()
        yield process, url, int(port)


def post(port: int, body: bytes, headers: dict[str, str] | None = None, path: str = "/mcp") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", path, body, {**JSON, **(headers or {})})
        return connection.getresponse().status
    finally:
        connection.close()


def raw(port: int, data: bytes) -> bytes:
    """Send bytes as they are; return the first line of the reply, empty if there is none."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(data)
        return connection.makefile("rb").readline()


@pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28"])
def test_the_real_client_lists_and_calls(server: tuple[Process, str, int], mode: str) -> None:
    from mcp import Client  # takes seconds, also in who only collects tests

    async def play() -> tuple[list[str], str, str]:
        async with Client(server[1], mode=mode) as client:
            tools = await client.list_tools()
            result = await client.call_tool("read_file", {"path": "notes.txt"})
            [content] = result.content
            return [tool.name for tool in tools.tools], content.text, client.protocol_version

    names, text, version = anyio.run(play)
    assert names == ["list_files", "read_file", "write_file", "delete_file"]
    assert text == "hello"
    assert version == ("2025-11-25" if mode == "legacy" else "2026-07-28")


def test_requests_follow_each_other_on_one_connection(server: tuple[Process, str, int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server[2], timeout=10)
    try:
        for number in range(3):
            body = json.dumps({**CALL, "id": number, "params": {"name": "list_files"}})
            connection.request("POST", "/mcp", body, JSON)
            assert json.load(connection.getresponse())["id"] == number
    finally:
        connection.close()


def test_paths_methods_and_origins(server: tuple[Process, str, int]) -> None:
    _, _, port = server
    ping = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode()
    assert post(port, ping) == 200
    assert post(port, ping, path="/other") == 404
    assert post(port, ping, {"origin": "http://evil.example"}) == 403
    assert post(port, ping, {"origin": "http://127.0.0.1.evil.example:80"}) == 403
    assert post(port, ping, {"origin": "http://localhost:6274"}) == 200
    for method in (b"GET", b"DELETE"):
        line = raw(port, method + b" /mcp HTTP/1.1\r\nhost: x\r\n\r\n")
        assert line.startswith(b"HTTP/1.1 405")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"not http at all\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n" + b"a: " + b"x" * 20_000, b"431"),
        (
            b"POST /mcp HTTP/1.1\r\nhost: x\r\ncontent-length: 2000000\r\n\r\n" + b"x" * 1_100_000,
            b"413",
        ),
        (
            b"POST /mcp HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n",
            b"100",
        ),
    ],
)
def test_what_is_too_long_or_not_http_is_refused(
    server: tuple[Process, str, int], data: bytes, status: bytes
) -> None:
    assert raw(server[2], data).split(b" ")[1] == status
    assert server[0].is_alive()


def test_a_caller_that_leaves_does_no_harm(server: tuple[Process, str, int]) -> None:
    process, _, port = server
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(b"POST /mcp HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf")
    assert post(port, json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode()) == 200
    assert "Traceback" not in process.said()


def test_a_failing_replica_answers_with_its_status(tmp_path: Path) -> None:
    argv = start(tmp_path, "--listen", "127.0.0.1:0", "--status", "502")
    with running("failing", argv, tmp_path) as process:
        port = int(process.wait_for(r"listening on \S+:(\d+)/mcp")[1])
        assert post(port, b"{}") == 502


def test_it_stops_at_once_when_told_even_with_a_connection_open(
    server: tuple[Process, str, int],
) -> None:
    process, _, port = server
    with socket.create_connection(("127.0.0.1", port), 10):
        process.signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert "Traceback" not in process.said()


@pytest.mark.parametrize("address", ["0.0.0.0:9000", "127.0.0.1", "127.0.0.1:99999", "x:1"])
def test_it_listens_on_loopback_only(tmp_path: Path, address: str) -> None:
    with running("refused", start(tmp_path, "--listen", address), tmp_path) as process:
        assert process.wait() == 2
        assert "loopback" in process.said()
