"""Thousands of mixed calls over two sidecars while servers die: nothing lost that may be repeated.

2 000 calls unless `SIDECAR_CHAOS_CALLS` says how many.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.daemon import PYTHON, Process, free_port
from support.e2e import Daemon
from support.two_sidecars import ALICE, Near, Pair
from support.wire import eventually

CALLS = int(os.environ.get("SIDECAR_CHAOS_CALLS", "2000"))
CALLERS = 16
# Seconds between two kills, and between two calls of a caller at most.
GAP, PAUSE = (0.3, 0.02) if CALLS <= 2000 else (2.0, 0.1)
SERVER = Path(__file__).parents[1] / "support" / "ledger_server.py"
CLEAN = {502, 503, 504}
# What is asked, and whether it may be asked again after it was sent.
MIX = (
    ("tools/call", "read_file", True),
    ("tools/call", "read_stream", True),
    ("tools/call", "write_file", False),
    ("tools/call", "write_stream", False),
    ("tools/list", "", True),
    ("ping", "", True),
)
POOL = "connectionPool: {http: {idleTimeout: 1s}}"
EJECT = (
    "outlierDetection: {consecutiveGatewayErrors: 3, interval: 200ms, baseEjectionTime: 200ms, "
    "maxEjectionPercent: 70}"
)
NEAR_POOL = f"""\
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: files, namespace: agent}}
spec: {{host: files.mesh, trafficPolicy: {{{POOL}}}}}
"""

pytestmark = pytest.mark.timeout(60 + CALLS // 20)


def far_documents(ports: list[int]) -> str:
    endpoints = ", ".join(f"{{address: 127.0.0.1, ports: {{http: {port}}}}}" for port in ports)
    return f"""\
{ALICE}---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: three, namespace: mcp-prod}}
spec:
  hosts: [three.local]
  ports: [{{number: 80, name: http}}]
  resolution: STATIC
  endpoints: [{endpoints}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: three, namespace: mcp-prod}}
spec: {{host: three.local, trafficPolicy: {{{POOL}, {EJECT}}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: three, namespace: mcp-prod}}
spec:
  hosts: [three.local]
  http:
  - route: [{{destination: {{host: three.local}}}}]
    retries: {{attempts: 4, retryOn: "reset,gateway-error", idempotentTools: ["read_*"]}}
"""


@dataclass
class Servers:
    """Three server processes at fixed ports, one of which is killed now and then."""

    folder: Path
    stack: ExitStack
    ports: list[int] = field(default_factory=lambda: [free_port() for _ in range(3)])
    running: list[Process] = field(default_factory=list)
    kills: int = 0

    def start(self) -> None:
        self.running = [self._one(place) for place in range(3)]
        for process in self.running:
            process.wait_for("listening")

    def _one(self, place: int) -> Process:
        argv = [PYTHON, str(SERVER), str(self.ports[place]), str(self.folder / "ledger")]
        process = Process(f"server-{place}-{self.kills}", argv, self.folder)
        self.stack.callback(process.stop)
        return process

    async def die_now_and_then(self) -> None:
        """Kill one at a time, and have it back before the next."""
        while True:
            await asyncio.sleep(GAP)
            place = self.kills % 3
            self.running[place].signal(signal.SIGKILL)
            await asyncio.to_thread(self.running[place].wait)
            self.kills += 1
            self.running[place] = self._one(place)
            await asyncio.to_thread(self.running[place].wait_for, "listening")

    def written(self) -> list[str]:
        return (self.folder / "ledger").read_text().split()


@dataclass
class Tally:
    """What became of the calls."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    cut: int = 0  # streams that had begun and broke off, so that nobody takes them for whole
    done: set[str] = field(default_factory=set)  # keys of writes that were answered


class Client:
    """One local process: a connection that is opened anew when it was closed."""

    def __init__(self, near: Near, tally: Tally) -> None:
        self._path = str(near.sockets["files"])
        self._tally = tally
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, number: int) -> None:
        method, name, repeats = MIX[number % len(MIX)]
        params = {"name": name, "arguments": {"key": f"k{number}"}} if name else {}
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        body = json.dumps(message).encode()
        if self._open is None:
            self._open = await asyncio.open_unix_connection(self._path)
        reader, writer = self._open
        writer.write(
            b"POST /mcp HTTP/1.1\r\nhost: files\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
        except asyncio.IncompleteReadError as error:
            self._tally.wrong.append(f"{number} {name or method}: no answer: {error.partial!r}")
            self.close()
            return
        status = int(head.split(b" ")[1])
        self._tally.statuses[status] += 1
        try:
            said = await _body(head, reader)
        except asyncio.IncompleteReadError:
            self._tally.cut += 1
            if not name.endswith("stream"):
                self._tally.wrong.append(f"{number} {name or method}: cut off")
            self.close()
            return
        self._judge(number, name or method, repeats, status, said)
        if b"connection: close" in head:
            self.close()

    def _judge(self, number: int, name: str, repeats: bool, status: int, said: bytes) -> None:
        message = json.loads(said.rpartition(b"data: ")[2])
        if message.get("id") != number:
            self._tally.wrong.append(f"{number} {name}: answered {said!r}")
        elif status == 200 and "result" in message:
            self._tally.done.add(message["result"]["key"])
        elif name.endswith("stream") and status == 200:
            self._tally.cut += 1  # an error of ours took the place of the events to come
        elif repeats or status not in CLEAN or message["error"]["data"]["reason"] != "upstream":
            self._tally.wrong.append(f"{number} {name}: {status} {said!r}")

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    if b"transfer-encoding: chunked" not in head:
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return await reader.readexactly(length)
    data = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        data += await reader.readexactly(size + 2)
    await reader.readexactly(2)
    return data


async def storm(near: Near, servers: Servers) -> Tally:
    tally = Tally()
    numbers = iter(range(CALLS))

    async def caller() -> None:
        client = Client(near, tally)
        for number in numbers:
            await client.call(number)
            await asyncio.sleep(random.random() * PAUSE)
        client.close()

    killing = asyncio.ensure_future(servers.die_now_and_then())
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    killing.cancel()
    await asyncio.gather(killing, return_exceptions=True)
    return tally


def counts(daemon: Daemon) -> dict[str, float]:
    """Everything that is open or under way."""
    return {
        name: value
        for name, value in daemon.stats().items()
        if name.endswith(("_active", "total_connections", "server.tasks"))
        and "ejections" not in name
    }


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Near, Daemon, Servers]]:
    with ExitStack() as stack:
        servers = Servers(tmp_path, stack)
        servers.start()
        documents = far_documents(servers.ports)
        pair = Pair(tmp_path)
        near, far = stack.enter_context(
            pair.run("http://three.local", policy=documents, more=NEAR_POOL)
        )
        yield near, far, servers


def test_no_call_is_lost_that_may_be_repeated_and_nothing_is_left_behind(
    world: tuple[Near, Daemon, Servers],
) -> None:
    near, far, servers = world
    before = counts(near), counts(far)
    tally = asyncio.run(storm(near, servers))

    assert tally.wrong == []
    assert sum(tally.statuses.values()) == CALLS
    assert set(tally.statuses) <= {200, *CLEAN}
    assert tally.statuses[200] > CALLS * 0.9
    assert servers.kills >= 3
    written = servers.written()
    assert len(written) == len(set(written)), "nothing was written twice"
    writes = {key for key in tally.done if key and MIX[int(key[1:]) % len(MIX)][1][:5] == "write"}
    assert writes <= set(written), "what was said to be done was done"

    eventually(lambda: counts(near) == before[0], f"{counts(near)} as before: {before[0]}")
    eventually(lambda: counts(far) == before[1], f"{counts(far)} as before: {before[1]}")
    assert far.stats()["cluster.three.local.upstream_rq_retry"] > 0
    for daemon in (near, far):
        assert daemon.stats()["server.internal_faults"] == 0
