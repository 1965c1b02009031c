"""What it costs to write an exchange down: its numbers and its line.

pytest bench/test_bench_record.py
"""

from __future__ import annotations

from pytest_benchmark.fixture import BenchmarkFixture

from sidecar.errors import Where
from sidecar.mcp.message import parse
from sidecar.observe.journal import Journal
from sidecar.observe.metrics import Metrics
from sidecar.observe.record import Record
from sidecar.policy.call import Call, Peer
from sidecar.policy.verdict import Permit, RuleRef
from sidecar.spiffe.id import SpiffeId

BODY = (
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call",'
    b'"params":{"name":"read_file","arguments":{"path":"a.txt"}}}'
)


def record() -> Record:
    peer = Peer(SpiffeId.parse("spiffe://cluster.local/ns/agent/sa/alice"), "127.0.0.1", 4711)
    call = Call(peer, "POST", "/mcp", "", "files.test", (), BODY, message=parse(BODY))
    rule = RuleRef("mcp-prod/readers", 0, Where("policies/files.yaml", 7, 5))
    return Record(
        "5d41402abc4b2a76-00000001",
        peer,
        "127.0.0.1:8443",
        started=1.0,
        call=call,
        verdict=Permit(rule),
        status=200,
        upstream="127.0.0.1:9000",
        sent=1.0001,
        answered=1.0021,
    )


def test_an_exchange_is_counted_and_written(benchmark: BenchmarkFixture) -> None:
    metrics = Metrics("0", 200)
    journal = Journal(metrics, lambda: 1_795_000_000.5, writes=True)
    one = record()

    def write() -> None:
        journal.write(one, 1.0023)
        journal.take()

    benchmark(write)
    assert metrics.lost_lines == 0


def test_an_exchange_is_only_counted(benchmark: BenchmarkFixture) -> None:
    metrics = Metrics("0", 200)
    one = record()
    benchmark(lambda: metrics.count(one, 1.0023, 0.0003))
    assert b'tool="read_file"' in metrics.text()


def test_the_numbers_are_scraped(benchmark: BenchmarkFixture) -> None:
    metrics = Metrics("0", 200)
    metrics.count(record(), 1.0023, 0.0003)
    assert b"sidecar_requests_total" in benchmark(metrics.text)
