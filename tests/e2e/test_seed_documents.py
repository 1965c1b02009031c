"""Four documents written for Istio load as they are, and each of them takes effect."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.e2e import Daemon, Mesh
from support.wire import Caller, Heard, Recorder, eventually, reply, request, rpc

DOCUMENTS = {
    "mtls.yaml": """\
apiVersion: security.istio.io/v1beta1
kind: PeerAuthentication
metadata:
  name: mcp-server-mtls
  namespace: mcp-prod
spec:
  selector:
    matchLabels:
      app: mcp-server
  mtls:
    mode: STRICT
""",
    "access.yaml": """\
apiVersion: security.istio.io/v1beta1
kind: AuthorizationPolicy
metadata:
  name: mcp-server-access
  namespace: mcp-prod
spec:
  selector:
    matchLabels:
      app: mcp-server
  action: ALLOW
  rules:
  # Only the agent-gateway service can call tool endpoints
  - from:
    - source:
        principals:
        - "cluster.local/ns/agent-prod/sa/agent-gateway"
    to:
    - operation:
        methods: ["POST"]
        paths: ["/mcp/tools/*"]
  # Prometheus can scrape metrics
  - from:
    - source:
        namespaces: ["monitoring"]
    to:
    - operation:
        methods: ["GET"]
        paths: ["/metrics"]
""",
    "filter.yaml": """\
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata:
  name: mcp-prompt-injection-filter
  namespace: mcp-prod
spec:
  selector:
    matchLabels:
      app: mcp-server
  url: oci://registry.internal/wasm/mcp-inspection:v1.2
  phase: AUTHN
  pluginConfig:
    blocked_patterns:
    - "ignore previous instructions"
    - "system: you are now"
    - "JAILBREAK"
    max_body_size_kb: 64
    action_on_match: "DENY"
""",
    "traffic.yaml": """\
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata:
  name: mcp-server-circuit-breaker
  namespace: mcp-prod
spec:
  host: downstream-api.mcp-prod.svc.cluster.local
  trafficPolicy:
    outlierDetection:
      consecutiveGatewayErrors: 5
      interval: 30s
      baseEjectionTime: 30s
      maxEjectionPercent: 50
    connectionPool:
      tcp:
        maxConnections: 100
      http:
        http1MaxPendingRequests: 100
        maxRequestsPerConnection: 10
        h2UpgradePolicy: UPGRADE
""",
}
PATTERNS = ("ignore previous instructions", "system: you are now", "JAILBREAK")
SERVICE = "downstream-api.mcp-prod.svc.cluster.local"
CLUSTER = f"cluster.{SERVICE}"
GATEWAY = "agent-prod/agent-gateway"
TOOL = "/mcp/tools/x"
LIMIT = 65_536


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def daemon(server: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    mesh = Mesh(tmp_path_factory.mktemp("seed"))
    for name, text in DOCUMENTS.items():
        mesh.write(name, text)
    with mesh.run({"mcp": {"to": server.url, "service": SERVICE}}) as running:
        yield running


def test_they_load_and_only_the_plugins_module_is_left_out(daemon: Daemon) -> None:
    said = daemon.said()
    assert "error[" not in said
    assert "oci://registry.internal/wasm/mcp-inspection:v1.2` is not loaded" in said
    assert "filter.yaml:10:" in said
    assert daemon.stats()["server.config_last_reload_successful"] == 1


@pytest.mark.parametrize(
    ("who", "method", "path", "status"),
    [
        (GATEWAY, "POST", TOOL, 200),
        (GATEWAY, "POST", "/mcp/tools/deep/er", 200),
        (GATEWAY, "GET", TOOL, 403),
        (GATEWAY, "POST", "/mcp/other", 403),
        (GATEWAY, "POST", "/mcp/tools/../admin", 403),
        (GATEWAY, "POST", "/mcp/tools%2Fx", 403),
        (GATEWAY, "GET", "/metrics", 403),
        ("agent-prod/other", "POST", TOOL, 403),
        ("mcp-prod/agent-gateway", "POST", TOOL, 403),
        ("monitoring/prometheus", "GET", "/metrics", 200),
        ("monitoring/anything", "GET", "/metrics", 200),
        ("monitoring/prometheus", "POST", "/metrics", 403),
        ("monitoring/prometheus", "GET", "/metrics/x", 403),
        ("monitoring/prometheus", "POST", TOOL, 403),
        ("monitoring-2/prometheus", "GET", "/metrics", 403),
    ],
)
def test_whoever_is_named_may_do_what_is_named_and_nothing_else(
    daemon: Daemon, server: Recorder, who: str, method: str, path: str, status: int
) -> None:
    before = len(server)
    body = rpc("tools/call", {"name": "x"}) if method == "POST" else b""
    with daemon.caller(who) as caller:
        answer = caller.ask(method, path, body)
    assert answer.status == status
    assert len(server) - before == (status == 200)
    if status == 403:
        assert answer.json()["error"]["message"] == "RBAC: access denied"


def test_a_path_is_forwarded_in_the_spelling_that_was_judged(
    daemon: Daemon, server: Recorder
) -> None:
    with daemon.caller(GATEWAY) as caller:
        assert caller.ask("POST", "/mcp/./a/../%74ools/x?q=/../", rpc("ping")).status == 200
    assert server.heard[-1].path == "/mcp/tools/x?q=/../"


def test_an_identity_of_another_trust_domain_is_not_the_gateway(
    daemon: Daemon, server: Recorder
) -> None:
    stranger = daemon.mesh.mint.leaf(uri=["spiffe://other.test/ns/agent-prod/sa/agent-gateway"])
    before = len(server)
    with daemon.caller(stranger) as caller:
        caller.send(request("POST", TOOL, rpc("tools/call")))
        assert caller.ended()
    assert len(server) == before


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_a_pattern_in_a_call_is_refused_before_the_server_sees_it(
    daemon: Daemon, server: Recorder, pattern: str, content_type: str
) -> None:
    before = len(server)
    body = rpc("tools/call", {"name": "x", "arguments": {"note": f"please {pattern} now"}})
    with daemon.caller(GATEWAY) as caller:
        answer = caller.ask("POST", TOOL, body, [("content-type", content_type)])
    assert answer.status == 403
    assert answer.json()["error"]["data"]["reason"] == "injection"
    assert answer.json()["error"]["data"]["policy"] == "mcp-prod/mcp-prompt-injection-filter"
    assert len(server) == before


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_a_pattern_in_a_reply_never_reaches_the_caller(
    daemon: Daemon, server: Recorder, pattern: str, content_type: str
) -> None:
    text = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"text": f"so {pattern} then"}})
    headers = [("content-type", content_type)]
    server.answers["/mcp/tools/poisoned"] = lambda _: reply(text.encode(), headers=headers)
    with daemon.caller(GATEWAY) as caller:
        answer = caller.ask("POST", "/mcp/tools/poisoned", rpc("tools/call", {"name": "x"}))
    assert answer.status == 403
    assert answer.json()["error"]["data"]["reason"] == "injection"
    assert pattern.encode() not in answer.body


def padded(size: int) -> bytes:
    """A JSON-RPC request of exactly *size* bytes."""
    bare = len(rpc("tools/call", {"name": "x", "arguments": {"pad": ""}}))
    body = rpc("tools/call", {"name": "x", "arguments": {"pad": "a" * (size - bare)}})
    assert len(body) == size
    return body


def test_a_body_of_exactly_64_kib_passes(daemon: Daemon, server: Recorder) -> None:
    with daemon.caller(GATEWAY) as caller:
        assert caller.ask("POST", TOOL, padded(LIMIT)).status == 200
    assert server.heard[-1].body == padded(LIMIT)


@pytest.mark.parametrize("chunked", [False, True])
def test_one_byte_more_is_refused_whole(daemon: Daemon, server: Recorder, chunked: bool) -> None:
    before = len(server)
    body = padded(LIMIT + 1)
    data = request("POST", TOOL, body)
    if chunked:
        fields = [("transfer-encoding", "chunked"), ("content-type", "application/json")]
        data = request("POST", TOOL, headers=fields) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    with daemon.caller(GATEWAY) as caller:
        caller.send(data)
        answer = caller.reply()
        assert answer.status == 413
        assert answer.json()["error"]["code"] == -32006
        assert caller.ended()
    assert len(server) == before


def test_no_connection_to_the_server_carries_more_than_ten_requests(
    daemon: Daemon, server: Recorder
) -> None:
    before = len(server)
    with daemon.caller(GATEWAY) as caller:
        for _ in range(30):
            assert caller.ask("POST", TOOL, rpc("tools/call", {"name": "x"})).status == 200
    carried = [heard.connection for heard in server.heard]
    assert len(carried) - before == 30
    assert max(carried.count(one) for one in set(carried)) == 10


def test_beyond_100_connections_and_100_waiting_a_call_is_told_that_it_is_too_much(
    daemon: Daemon, server: Recorder
) -> None:
    release = threading.Event()

    def hold(_: Heard) -> bytes:
        release.wait(30)
        return reply()

    server.answers["/mcp/tools/held"] = hold
    before = len(server)
    callers = [daemon.caller(GATEWAY) for _ in range(201)]
    try:
        held = request("POST", "/mcp/tools/held", rpc("tools/call", {"name": "x"}))
        for caller in callers[:200]:
            caller.send(held)
        eventually(lambda: daemon.stats()[f"{CLUSTER}.upstream_rq_pending_active"] == 100)
        assert daemon.stats()[f"{CLUSTER}.upstream_cx_active"] == 100
        assert daemon.stats()[f"{CLUSTER}.upstream_rq_pending_overflow"] == 0
        eventually(lambda: len(server) - before == 100)
        expect_overflow(callers[200], held)
        assert daemon.stats()[f"{CLUSTER}.upstream_rq_pending_overflow"] == 1
        assert len(server) - before == 100
        release.set()
        assert [caller.reply().status for caller in callers[:200]] == [200] * 200
    finally:
        release.set()
        for caller in callers:
            caller.sock.close()
    assert len(server) - before == 200
    carried = [heard.connection for heard in server.heard]
    assert max(carried.count(one) for one in set(carried)) <= 10


def expect_overflow(caller: Caller, held: bytes) -> None:
    caller.send(held)
    answer = caller.reply()
    assert answer.status == 503
    assert answer.get("x-envoy-overloaded") == "true"
    assert answer.json()["error"]["code"] == -32008


# -- ejection, over two endpoints

ENTRY = f"""\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: downstream-api, namespace: mcp-prod}}
spec:
  hosts: [{SERVICE}]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints:
  - {{address: 127.0.0.1, ports: {{http: FIRST}}}}
  - {{address: 127.0.0.1, ports: {{http: SECOND}}}}
"""


def entry(first: Recorder, second: Recorder) -> str:
    return ENTRY.replace("FIRST", str(first.port)).replace("SECOND", str(second.port))


def failing(status: str) -> Recorder:
    return Recorder(lambda _: reply(b"{}", status))


def ask_until(daemon: Daemon, counter: str, most: int = 200) -> list[int]:
    """Ask until *counter* of the outlier detection moves; return the statuses."""
    name = f"{CLUSTER}.outlier_detection.{counter}"
    before = daemon.stats()[name]
    statuses = []
    with daemon.caller(GATEWAY) as caller:
        while daemon.stats()[name] == before:
            assert len(statuses) < most, f"`{counter}` never moved: {daemon.stats()}"
            statuses.append(caller.ask("POST", TOOL, rpc("tools/call", {"name": "x"})).status)
    return statuses


@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Unavailable", "504 Timeout"])
def test_five_gateway_errors_in_a_row_eject_an_endpoint_but_never_both(
    tmp_path: Path, status: str
) -> None:
    mesh = Mesh(tmp_path)
    with failing(status) as bad, Recorder() as good:
        for name, text in DOCUMENTS.items():
            mesh.write(name, text)
        mesh.write("entry.yaml", entry(bad, good))
        with mesh.run({"mcp": {"to": SERVICE}}) as daemon:
            statuses = ask_until(daemon, "ejections_active")
            assert statuses.count(int(status[:3])) == 5
            event = daemon.event(event="endpoint_ejected", endpoint=f"127.0.0.1:{bad.port}")
            assert event["kind"] == "consecutive_gateway_failure"
            expect_only(daemon, good, bad)
            good.answer = bad.answer
            ask_until(daemon, "ejections_overflow")
            stats = daemon.stats()
            assert stats[f"{CLUSTER}.outlier_detection.ejections_active"] == 1
            assert stats[f"{CLUSTER}.membership_healthy"] == 1


def expect_only(daemon: Daemon, good: Recorder, bad: Recorder) -> None:
    """All calls go to the endpoint that is left."""
    before = len(good), len(bad)
    with daemon.caller(GATEWAY) as caller:
        for _ in range(30):
            assert caller.ask("POST", TOOL, rpc("tools/call", {"name": "x"})).status == 200
    assert (len(good) - before[0], len(bad) - before[1]) == (30, 0)


def test_an_ejected_endpoint_comes_back_when_its_time_is_over(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    with failing("503 Unavailable") as bad, Recorder() as good:
        for name, text in DOCUMENTS.items():
            # The same, with a second for half a minute.
            mesh.write(name, text.replace("30s", "1s"))
        mesh.write("entry.yaml", entry(bad, good))
        with mesh.run({"mcp": {"to": SERVICE}}) as daemon:
            ask_until(daemon, "ejections_active")
            bad.answer = good.answer
            daemon.event(event="endpoint_returned", endpoint=f"127.0.0.1:{bad.port}")
            before = len(bad)
            with daemon.caller(GATEWAY) as caller:
                for _ in range(30):
                    assert caller.ask("POST", TOOL, rpc("tools/call")).status == 200
            assert len(bad) > before


def test_four_errors_between_successes_eject_nobody(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    answers = iter([*["502 Bad Gateway"] * 4, "200 OK"] * 6)
    with Recorder(lambda _: reply(b"{}", next(answers))) as server:
        for name, text in DOCUMENTS.items():
            mesh.write(name, text)
        with mesh.run({"mcp": {"to": server.url, "service": SERVICE}}) as daemon:
            with daemon.caller(GATEWAY) as caller:
                for _ in range(30):
                    caller.ask("POST", TOOL, rpc("tools/call", {"name": "x"}))
            stats = daemon.stats()
    assert stats[f"{CLUSTER}.upstream_rq_5xx"] == 24
    assert stats[f"{CLUSTER}.outlier_detection.ejections_total"] == 0
    assert stats[f"{CLUSTER}.outlier_detection.ejections_overflow"] == 0
