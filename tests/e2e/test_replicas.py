"""Several replicas behind one sidecar: who fails is left out for a time, and no call is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from support.daemon import BOOTSTRAP, Sidecar, free_port, sidecar
from support.raw_caller import Caller, Reply, stats
from support.raw_upstream import Connection, RawUpstream, reply

ALICE = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: alice, namespace: mcp-prod}
spec:
  rules:
  - from: [{source: {principals: ["cluster.local/ns/agent/sa/alice"]}}]
"""
ENTRY = """\
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: mcp-prod}}
spec:
  hosts: [{name}.local]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{endpoints}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: mcp-prod}}
spec:
  host: {name}.local
  trafficPolicy:
{policy}
"""
EJECT = """\
    loadBalancer: {{simple: ROUND_ROBIN}}
    outlierDetection:
      {run}: {times}
      interval: 500ms
      baseEjectionTime: {base}
      maxEjectionPercent: {percent}
"""
NARROW = """\
    connectionPool:
      tcp: {maxConnections: 1}
      http: {http1MaxPendingRequests: 2}
"""
SHORT = "  limits: {{callTimeout: 1s}}\n"


class Replica(RawUpstream):
    """A server that does what `act` does just now."""

    def __init__(self, name: str) -> None:
        super().__init__(otherwise=lambda connection: self.act(connection))
        self.name = name
        self.act = reply(name.encode())


@dataclass
class Service:
    """One inbound with its replicas; `dead` is an address that nobody listens on."""

    name: str
    policy: str
    replicas: int
    dead: int = 0
    port: int = field(default_factory=free_port)
    members: list[Replica] = field(default_factory=list)

    def documents(self) -> str:
        ports = [one.port for one in self.members] + ([self.dead] if self.dead else [])
        endpoints = ", ".join(f"{{address: 127.0.0.1, ports: {{http: {port}}}}}" for port in ports)
        return ENTRY.format(name=self.name, endpoints=endpoints, policy=self.policy)

    def inbound(self) -> str:
        return f"  - {{{{listen: 127.0.0.1:{self.port}, to: 'http://{self.name}.local'}}}}\n"


def ejecting(base: str, run: str = "consecutiveGatewayErrors", times: int = 3) -> str:
    return EJECT.format(run=run, base=base, percent=50, times=times)


SERVICES = {
    "gateway": (ejecting("1s"), 3, False),
    "any5xx": (ejecting("1s", run="consecutive5xxErrors"), 3, False),
    "most": (ejecting("30s"), 3, False),
    "refusing": (ejecting("30s"), 2, True),
    "cutting": (ejecting("30s"), 3, False),
    "silent": (ejecting("30s", times=1), 3, False),
    "narrow": (NARROW, 1, False),
}


@dataclass
class Mesh:
    """One sidecar before all services."""

    sidecar: Sidecar
    services: dict[str, Service]

    def caller(self, name: str) -> Caller:
        return Caller(self.services[name].port, self.sidecar.identity("agent/alice"))

    def ask(self, name: str, times: int) -> list[Reply]:
        with self.caller(name) as caller:
            return [caller.ask("GET", "/") for _ in range(times)]

    def stat(self, name: str, what: str) -> float:
        return stats(self.sidecar.admin)[f"cluster.{name}.local.{what}"]

    def events(self, name: str) -> list[str]:
        return [
            f"{line['event']} {line['endpoint'].rpartition(':')[2]}"
            for line in self.sidecar.records()
            if line.get("cluster") == f"{name}.local"
        ]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    services: dict[str, Service] = {}
    with ExitStack() as stack:
        for name, (policy, replicas, dead) in SERVICES.items():
            service = Service(name, policy, replicas, free_port() if dead else 0)
            for number in range(replicas):
                service.members.append(Replica(f"{name}-{number}"))
                stack.enter_context(service.members[-1])
            services[name] = service
        documents = ALICE + "".join(one.documents() for one in services.values())
        inbounds = "".join(one.inbound() for one in services.values())
        bootstrap = BOOTSTRAP.replace("  admin:", inbounds + "  admin:") + SHORT
        folder = tmp_path_factory.mktemp("replicas")
        spare = stack.enter_context(RawUpstream())
        running = stack.enter_context(sidecar(folder, spare.url, documents, bootstrap))
        yield Mesh(running, services)


def silent(connection: Connection) -> None:
    connection.is_left()


def until(mesh: Mesh, name: str, what: str, value: float) -> None:
    deadline = time.monotonic() + 20
    while mesh.stat(name, what) != value:
        assert time.monotonic() < deadline, f"{what} never was {value}"
        time.sleep(0.02)


@pytest.mark.parametrize(("name", "status"), [("gateway", 502), ("any5xx", 500)])
def test_a_failing_replica_is_left_out_and_comes_back(mesh: Mesh, name: str, status: int) -> None:
    bad = mesh.services[name].members[1]
    bad.act = reply(b"bad", status)
    replies = mesh.ask(name, 24)
    assert len(bad.seen) == 3, "three failures in a row, and then none"
    assert [one.status for one in replies].count(status) == 3
    assert mesh.stat(name, "outlier_detection.ejections_active") == 1
    assert mesh.stat(name, "membership_healthy") == 2

    bad.act = reply(b"good again")
    until(mesh, name, "outlier_detection.ejections_active", 0)
    replies = mesh.ask(name, 24)
    assert [one.body for one in replies].count(b"good again") == 8
    assert {one.status for one in replies} == {200}
    both = [f"endpoint_ejected {bad.port}", f"endpoint_returned {bad.port}"]
    assert bad.until(lambda: mesh.events(name) == both), mesh.events(name)


def test_no_more_than_the_share_that_was_said_is_left_out(mesh: Mesh) -> None:
    good, *bad = mesh.services["most"].members
    for replica in bad:
        replica.act = reply(b"bad", 503)
    mesh.ask("most", 90)
    assert mesh.stat("most", "outlier_detection.ejections_active") == 1
    assert mesh.stat("most", "outlier_detection.ejections_overflow") > 0
    counts = sorted(len(replica.seen) for replica in bad)
    assert counts[0] == 3
    assert counts[1] > 20, "the second stays, for two of three are more than half"
    assert len(good.seen) > 20


def test_a_replica_that_refuses_connections_costs_no_call(mesh: Mesh) -> None:
    assert {one.status for one in mesh.ask("refusing", 60)} == {200}
    assert mesh.stat("refusing", "upstream_cx_connect_fail") == 3
    assert mesh.stat("refusing", "outlier_detection.ejections_active") == 1
    assert mesh.stat("refusing", "upstream_rq_retry") == 3


def test_a_replica_that_hangs_up_on_calls_is_left_out(mesh: Mesh) -> None:
    bad = mesh.services["cutting"].members[0]
    bad.act = Connection.close
    replies = mesh.ask("cutting", 60)
    assert [one.status for one in replies].count(502) == 3
    assert len(bad.seen) == 3
    assert mesh.stat("cutting", "outlier_detection.ejections_active") == 1
    assert mesh.stat("cutting", "upstream_rq_rx_reset") == 3


def test_a_replica_that_answers_too_late_is_left_out(mesh: Mesh) -> None:
    bad = mesh.services["silent"].members[0]
    bad.act = silent
    with ExitStack() as stack:
        callers = [stack.enter_context(mesh.caller("silent")) for _ in range(12)]
        for caller in callers:
            caller.send("GET", "/")
        statuses = [caller.reply().status for caller in callers]
    assert set(statuses) == {200, 504}
    assert mesh.stat("silent", "upstream_rq_timeout") == statuses.count(504)
    assert mesh.stat("silent", "outlier_detection.ejections_active") == 1
    assert {one.status for one in mesh.ask("silent", 12)} == {200}


def test_beyond_the_queue_a_call_is_refused_at_once(mesh: Mesh) -> None:
    server = mesh.services["narrow"].members[0]
    go = threading.Event()

    def wait(connection: Connection) -> None:
        go.wait(10)
        reply(b"served")(connection)

    server.act = wait
    with ExitStack() as stack:
        callers = []
        for place in range(3):  # one is served, two wait
            callers.append(stack.enter_context(mesh.caller("narrow")))
            callers[-1].send("GET", "/")
            until(mesh, "narrow", "upstream_rq_total", place + 1)
        assert mesh.stat("narrow", "upstream_rq_pending_active") == 2
        refused = mesh.ask("narrow", 1)[0]
        assert refused.status == 503
        assert refused.headers["x-envoy-overloaded"] == "true"
        assert b'"overloaded"' in refused.body
        assert mesh.stat("narrow", "upstream_rq_pending_overflow") == 1
        go.set()
        assert [caller.reply().body for caller in callers] == [b"served"] * 3
    assert server.connections == 1
    assert mesh.stat("narrow", "upstream_rq_pending_active") == 0
    assert mesh.stat("narrow", "upstream_cx_active") == 1


def test_a_caller_that_leaves_the_queue_frees_its_place(mesh: Mesh) -> None:
    server = mesh.services["narrow"].members[0]
    go = threading.Event()

    def wait(connection: Connection) -> None:
        go.wait(10)
        reply(b"served")(connection)

    server.act = wait
    before = len(server.seen)
    with mesh.caller("narrow") as first:
        first.send("GET", "/")
        assert server.until(lambda: len(server.seen) == before + 1)
        for _ in range(3):
            with mesh.caller("narrow") as waiting:
                waiting.send("GET", "/never")
                until(mesh, "narrow", "upstream_rq_pending_active", 1)
            until(mesh, "narrow", "upstream_rq_pending_active", 0)
        go.set()
        assert first.reply().body == b"served"
    assert "/never" not in server.targets()
    until(mesh, "narrow", "upstream_rq_active", 0)
