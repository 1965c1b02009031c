"""What heads cost: remembered, all new, and as h11 alone would read them.

pytest bench/test_bench_http.py
"""

from __future__ import annotations

from itertools import count

import h11
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from sidecar.http.h1 import Bounds, ReplyReader, RequestReader
from sidecar.http.head import judge_request
from sidecar.http.lines import LineTable
from sidecar.http.reading import read_request

BODY = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
REPLY = (
    b"HTTP/1.1 200 OK\r\nServer: unit\r\nDate: Fri, 20 Nov 2026 12:00:00 GMT\r\n"
    b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
)


def head(number: int, *, all_new: bool = False) -> bytes:
    """Return a request head; its trace is always a new one, its other lines if *all_new*."""
    mark = b"%d" % number if all_new else b""
    return (
        b"POST /mcp HTTP/1.1\r\nHost: files%b.test\r\nUser-Agent: agent/1.%b\r\n"
        b"Accept: application/json, text/event-stream;n=%b\r\nContent-Type: application/json\r\n"
        b"Mcp-Session-Id: 5d41402abc4b2a76b9719d911017c592\r\n"
        b"traceparent: 00-%032x-00f067aa0ba902b7-01\r\nContent-Length: %d\r\n\r\n"
    ) % (mark, mark, mark, number, len(BODY))


def test_a_request_head_by_remembered_lines(benchmark: BenchmarkFixture) -> None:
    table, numbers = LineTable(32_768), count()
    found = benchmark(lambda: read_request(head(next(numbers)), table, 100))
    assert found.length == len(BODY)


def test_a_request_head_in_which_every_line_is_new(benchmark: BenchmarkFixture) -> None:
    table, numbers = LineTable(32_768), count()
    found = benchmark(lambda: read_request(head(next(numbers), all_new=True), table, 100))
    assert found.length == len(BODY)


def test_a_request_head_by_h11_as_a_whole(benchmark: BenchmarkFixture) -> None:
    numbers = count()
    found = benchmark(lambda: judge_request(head(next(numbers)), 100))
    assert found.length == len(BODY)


def test_a_request_head_by_h11_alone(benchmark: BenchmarkFixture) -> None:
    numbers = count()

    def read() -> object:
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(head(next(numbers)))
        return connection.next_event()

    assert isinstance(benchmark(read), h11.Request)


def test_a_whole_request(benchmark: BenchmarkFixture) -> None:
    reader, numbers = RequestReader(LineTable(32_768), Bounds()), count()
    found = benchmark(lambda: reader.take(head(next(numbers)) + BODY))
    assert found is not None
    assert found.body == BODY


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_whole_reply(benchmark: BenchmarkFixture, pieces: int) -> None:
    reader = ReplyReader(LineTable(32_768, replies=True), Bounds())
    cut = len(REPLY) // pieces

    def read() -> bytes:
        reader.begin("POST")
        reader.feed(REPLY[:cut])
        if pieces == 2:
            reader.feed(REPLY[cut:])
        return reader.take()

    assert benchmark(read) == b"{}"
