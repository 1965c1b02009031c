"""The whole flow in memory: real documents, real clusters, no socket and no clock but ours.

flow = Flow(ALLOW_ALL)
caller = flow.call("GET", "/a")
await flow.settle()
flow.server().say(OK)
"""

from __future__ import annotations

from itertools import count

from sidecar.config.files import load
from sidecar.config.snapshot import Snapshot, compile_snapshot
from sidecar.exchange import World, serve
from sidecar.http.h1 import Bounds, Request
from sidecar.http.lines import LineTables
from sidecar.net.clusters import Clusters
from sidecar.net.downstream import Downstream
from sidecar.net.means import Means
from sidecar.observe.journal import Journal
from sidecar.observe.metrics import Metrics
from sidecar.observe.record import Record

from .callers import Callers, request
from .memory import Pipe, loop

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LISTEN = "127.0.0.1:8443"

BOOTSTRAP = """\
apiVersion: sidecar/v1
kind: Sidecar
metadata: {{name: files, namespace: mcp-prod, labels: {{app: mcp-server}}}}
spec:
  inbound: [{{listen: "127.0.0.1:8443", to: "{to}"}}]
  limits: {{{limits}}}
  {spec}
"""

ALLOW_ALL = """\
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: everybody, namespace: mcp-prod}
spec: {rules: [{}]}
"""

INSPECTION = """\
---
apiVersion: sidecar/v1
kind: Inspection
metadata: {name: injections, namespace: mcp-prod}
spec: {patterns: [{id: ignore, text: "ignore previous instructions"}]}
"""

REPLICAS = """\
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: replicas, namespace: mcp-prod}
spec:
  hosts: [replicas.local]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}, {address: 127.0.0.2}, {address: 127.0.0.3}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: replicas, namespace: mcp-prod}
spec:
  host: replicas.local
  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}
"""


def compiled(documents: str, to: str, limits: str, spec: str = "") -> Snapshot:
    """Return the snapshot of *documents* behind one inbound."""
    text = BOOTSTRAP.format(to=to, limits=limits or "callTimeout: 300s", spec=spec) + documents
    loaded = load([], given={"test.yaml": text.encode()})
    assert not loaded.errors, loaded.errors
    assert loaded.bootstrap is not None
    return compile_snapshot(loaded.bootstrap, loaded.documents)


class Kept(Journal):
    """A journal that also keeps the records themselves."""

    __slots__ = ("records",)

    def write(self, record: Record, ended: float) -> None:
        self.records.append(record)
        super().write(record, ended)


class Flow:
    """`exchange.serve` between a caller in memory and servers in memory."""

    def __init__(
        self,
        documents: str = ALLOW_ALL,
        to: str = "http://127.0.0.1:9000",
        limits: str = "",
        spec: str = "",
    ) -> None:
        self.loop = loop()
        self.chance = 0.0
        self.snapshot = compiled(documents, to, limits, spec)
        self.faults: list[BaseException] = []
        self.callers = Callers(self._serve, bounds=Bounds(16_384, 100, 65_536), inbound=LISTEN)
        self.metrics = Metrics("1", 100)
        self.journal = Kept(self.metrics, lambda: 1_700_000_000.0, writes=True)
        self.journal.records = []
        clusters = Clusters(
            Means(
                tasks=self.callers.tasks,
                deadlines=self.callers.deadlines,
                tables=LineTables(32_768, 16, replies=True),
                bounds=Bounds(16_384, 100, 0),
                now=self.loop.clock,
                random=lambda: self.chance,
                tell=lambda _, __: None,
            )
        )
        clusters.replace(self.snapshot.clusters)
        ids = count(1)
        self.world = World(
            self.snapshot,
            clusters,
            self.journal,
            self.loop.clock,
            lambda: 1_700_000_000.0,
            lambda: f"id-{next(ids)}",
            self._report,
        )

    async def _serve(self, request: Request, down: Downstream) -> None:
        await serve(request, down, self.world)

    def _report(self, what: str, fault: BaseException) -> None:
        self.metrics.faults += 1
        self.faults.append(fault)

    @property
    def records(self) -> list[Record]:
        records: list[Record] = self.journal.records
        return records

    def call(self, method: str, target: str, body: bytes = b"", *lines: str) -> Pipe:
        """Return a new caller that has sent one request."""
        caller = self.callers.connect()
        caller.say(request(method, target, body, *lines))
        return caller

    async def called(self, method: str, target: str, body: bytes = b"", *lines: str) -> Pipe:
        """The same, once everything has happened that can happen without a server's answer."""
        caller = self.call(method, target, body, *lines)
        await self.settle()
        return caller

    async def settle(self, seconds: float = 0.0) -> None:
        await self.loop.settle(seconds)

    def servers(self, address: str = "127.0.0.1:9000") -> list[Pipe]:
        """Return the connections that were opened to *address*, as their server sees them."""
        return self.loop.pipes.get(address, [])

    def server(self, address: str = "127.0.0.1:9000") -> Pipe:
        """Return the last of them."""
        return self.servers(address)[-1]

    async def answer(self, data: bytes, address: str = "127.0.0.1:9000") -> None:
        """Let the server say *data* on its last connection."""
        self.server(address).say(data)
        await self.settle()

    def heard_by_servers(self) -> bytes:
        """All bytes that any server was sent."""
        return b"".join(pipe.written for pipes in self.loop.pipes.values() for pipe in pipes)

    def rests(self) -> bool:
        """Whether no call is under way anywhere, and none waits."""
        return all(
            not cluster.pending and not any(one.in_flight for one in cluster.endpoints.values())
            for cluster in self.world.clusters
        )
