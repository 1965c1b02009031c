"""What an operator asks a running sidecar, and that asking is all that can be done there."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.daemon import PYTHON, free_port, running
from support.e2e import Daemon, Mesh
from support.wire import Recorder, Wire, eventually, request, rpc, tool

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: agents, namespace: mcp-prod}
spec:
  rules:
  - from: [{source: {principals: ["cluster.local/ns/agent/sa/alice"]}}]
    to: [{operation: {paths: [/mcp], tools: ["read_*"]}}]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def daemon(server: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    mesh = Mesh(tmp_path_factory.mktemp("admin"))
    mesh.write("policy.yaml", POLICY)
    with mesh.run({"mcp": {"to": server.url}}, limits={"toolsInMetrics": 3}) as started:
        yield started


def samples(daemon: Daemon, family: str) -> dict[tuple[str, ...], float]:
    """The samples of one family: label values in the order of their names -> value."""
    status, text = daemon.page("/metrics")
    assert status == 200
    found: dict[tuple[str, ...], float] = {}
    for one in text_string_to_metric_families(text):
        for sample in one.samples:
            if sample.name == family:
                found[tuple(sample.labels[key] for key in sorted(sample.labels))] = sample.value
    return found


def requests(daemon: Daemon) -> dict[tuple[str, ...], float]:
    """(method, reason, tool, verdict) -> count."""
    return samples(daemon, "sidecar_requests_total")


# -- health


def test_it_says_that_it_lives_and_that_it_is_ready(daemon: Daemon) -> None:
    assert daemon.page("/healthz") == (200, "alive\n")
    assert daemon.page("/readyz") == (200, "ready\n")


def test_a_page_that_is_not_there_names_those_that_are(daemon: Daemon) -> None:
    status, text = daemon.page("/nowhere")
    assert status == 404
    assert {"/healthz", "/readyz", "/metrics", "/stats"} <= set(text.split())


# -- numbers


def test_metrics_are_valid_text_of_prometheus(daemon: Daemon) -> None:
    families = list(text_string_to_metric_families(daemon.page("/metrics")[1]))
    names = [one.name for one in families]
    assert len(names) == len(set(names))
    assert {
        "sidecar_build_info",
        "sidecar_requests",
        "sidecar_overhead_seconds",
        "sidecar_cert_expiry_timestamp_seconds",
        "sidecar_config_last_reload_successful",
        "sidecar_upstream_ejected",
    } <= set(names)
    assert all(one.documentation for one in families)
    assert not [name for name in names if name.endswith("_created")]


def test_every_verdict_moves_its_counter(daemon: Daemon) -> None:
    before = requests(daemon)
    asked = [
        ("read_file", 200, ("tools/call", "", "read_file", "allow")),
        ("read_file", 200, ("tools/call", "", "read_file", "allow")),
        ("drop_table", 403, ("tools/call", "denied", "_other", "deny")),
    ]
    with daemon.caller("agent/alice") as alice:
        for name, status, _ in asked:
            assert alice.ask("POST", "/mcp", tool(name)).status == status
    after = requests(daemon)
    for key in {key for *_, key in asked}:
        moved = after[key] - before.get(key, 0)
        assert moved == sum(key == other for *_, other in asked)


def test_no_caller_can_make_labels_up(daemon: Daemon) -> None:
    with daemon.caller("agent/mallory") as mallory, daemon.caller("agent/alice") as alice:
        for number in range(20):
            mallory.ask("POST", "/mcp", tool(f"made_up_{number}"))
            alice.ask("POST", "/mcp", tool(f"read_{number}"))
            alice.ask("POST", "/mcp", rpc(f"made/up/{number}"))
            alice.ask("POST", "/mcp", rpc(f"notifications/made/up/{number}"))
            alice.ask("BREW", "/mcp", headers=())
            alice.ask("GET", f"/made/up/{number}", headers=())
    labels = requests(daemon)
    assert not [key for key in labels if "made" in "".join(key) or "BREW" in key]
    tools = {tool for _, _, tool, _ in labels} - {"", "_other"}
    assert len(tools) <= 3, "the limit of tools that metrics tell apart"
    assert "_other" in {tool for _, _, tool, _ in labels}
    assert "_other" in {method for method, *_ in labels}


def test_time_spent_here_is_told_apart_from_the_servers(daemon: Daemon) -> None:
    before = samples(daemon, "sidecar_overhead_seconds_count")[()]
    with daemon.caller("agent/alice") as alice:
        alice.ask("POST", "/mcp", tool("read_file"))
    assert samples(daemon, "sidecar_overhead_seconds_count")[()] == before + 1
    buckets = samples(daemon, "mcp_server_operation_duration_seconds_bucket")
    assert any(key[1] == "tools/call" or key[0] == "tools/call" for key in buckets)


def test_the_end_of_the_certificate_can_be_watched(daemon: Daemon) -> None:
    expiry = samples(daemon, "sidecar_cert_expiry_timestamp_seconds")[()]
    assert expiry == daemon.mesh.own.leaf.not_valid_after_utc.timestamp()


def test_stats_count_handshakes_as_envoy_names_them(daemon: Daemon) -> None:
    before = daemon.stats()
    with daemon.caller("agent/alice") as alice:
        alice.ask("POST", "/mcp", tool("read_file"))
    with daemon.plain() as caller:
        caller.send(request("GET", "/mcp"))
        assert caller.ended()
    after = daemon.stats()
    grown = {name for name in after if after[name] > before.get(name, 0)}
    assert {
        "listener.ssl.handshake",
        "listener.ssl.connection_error",
        "http.inbound.downstream_rq_2xx",
        "http.inbound.rbac.allowed",
        "cluster.127.0.0.1.upstream_rq_2xx",
    } <= grown
    text = daemon.page("/stats")[1]
    assert re.search(r"^listener\.ssl\.handshake: [1-9]\d*$", text, re.MULTILINE)
    assert text.splitlines() == sorted(text.splitlines())


def test_clusters_say_what_became_of_each_endpoint(daemon: Daemon, server: Recorder) -> None:
    status, text = daemon.page("/clusters")
    assert status == 200
    assert f"127.0.0.1:{server.port} in, " in text


# -- who may ask, and what


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/nowhere"])
def test_nothing_can_be_changed(daemon: Daemon, method: str, path: str) -> None:
    assert daemon.page(path, method)[0] == 405


def test_head_has_a_head_alone(daemon: Daemon) -> None:
    assert daemon.page("/metrics", "HEAD") == (200, "")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:PORT", 200),
        ("localhost:PORT", 200),
        ("LOCALHOST:PORT", 200),
        ("evil.test:PORT", 403),
        ("127.0.0.1.evil.test:PORT", 403),
        ("127.0.0.1:1", 403),
        ("", 403),
    ],
)
def test_it_answers_to_its_own_name_alone(daemon: Daemon, host: str, status: int) -> None:
    named = host.replace("PORT", str(daemon.admin))
    assert daemon.page("/stats", headers={"Host": named})[0] == status


@pytest.mark.parametrize(
    "data", [b"hello\r\n\r\n", b"GET /stats HTTP/1.1\r\n\r\n", b"a" * 100_000, b"\x16\x03\x01"]
)
def test_bytes_that_are_no_request_do_not_disturb_it(daemon: Daemon, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", daemon.admin), timeout=10) as sock:
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        said = Wire(sock).rest()
    assert b" 200 " not in said.partition(b"\r\n")[0]
    assert daemon.page("/healthz")[0] == 200
    assert "Traceback" not in daemon.said()


def test_the_data_port_serves_no_admin_pages(daemon: Daemon, server: Recorder) -> None:
    before = len(server)
    with daemon.caller("agent/alice") as alice:
        assert alice.ask("GET", "/stats", headers=()).status == 403
    assert len(server) == before


# -- the socket


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def ready(path: Path) -> bool:
    connection = _Unix(path)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().read() == b"ready\n"
    except OSError:
        return False
    finally:
        connection.close()


@pytest.fixture
def mesh(server: Recorder, tmp_path: Path) -> Mesh:
    """A sidecar that names no admin listener, not yet started."""
    made = Mesh(tmp_path)
    made.write("policy.yaml", POLICY)
    one = {"listen": f"127.0.0.1:{free_port()}", "to": server.url}
    made.bootstrap({"mcp": one}, None)
    return made


ARGV = [PYTHON, "-m", "sidecar", "run", "-c", "sidecar.yaml"]


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        ("XDG_RUNTIME_DIR", "run/sidecar/files.sock"),
        ("RUNTIME_DIRECTORY", "run/files.sock"),
        ("TMPDIR", "run/sidecar-UID/files.sock"),
    ],
)
def test_by_default_it_is_a_socket_that_only_its_owner_may_open(
    mesh: Mesh, variable: str, place: str
) -> None:
    (mesh.folder / "run").mkdir()
    path = mesh.folder / place.replace("UID", str(mesh.folder.stat().st_uid))
    unset = dict.fromkeys(("XDG_RUNTIME_DIR", "RUNTIME_DIRECTORY"), "")
    env = {**unset, variable: str(mesh.folder / "run")}
    with running("sidecar", ARGV, mesh.folder, env) as process:
        eventually(lambda: ready(path), f"readiness on {path}: {process.said()}")
        mode = path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
        assert f"unix:{path}" in process.stderr.read_text()
        process.signal(signal.SIGTERM)
        assert process.wait(15) == 0
    assert not path.exists()


def test_a_socket_left_by_one_that_was_killed_is_replaced(mesh: Mesh) -> None:
    env = {"RUNTIME_DIRECTORY": str(mesh.folder / "run")}
    path = mesh.folder / "run" / "files.sock"
    with running("first", ARGV, mesh.folder, env) as first:
        eventually(lambda: ready(path), "readiness")
        first.signal(signal.SIGKILL)
        first.wait(15)
    assert path.exists()
    with running("second", ARGV, mesh.folder, env):
        eventually(lambda: ready(path), "readiness")


def test_a_socket_that_somebody_listens_on_is_not_taken_away(mesh: Mesh) -> None:
    path = mesh.folder / "run" / "files.sock"
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with running("sidecar", ARGV, mesh.folder, {"RUNTIME_DIRECTORY": str(path.parent)}) as late:
            assert late.wait(10) == 1
            assert str(path) in late.stderr.read_text()
    assert path.exists()


def test_a_file_in_the_sockets_place_is_left_alone(mesh: Mesh) -> None:
    path = mesh.folder / "run" / "files.sock"
    path.parent.mkdir(mode=0o700)
    path.write_text("kept")
    with running("sidecar", ARGV, mesh.folder, {"RUNTIME_DIRECTORY": str(path.parent)}) as process:
        assert process.wait(10) == 1
        assert "Traceback" not in process.said()
    assert path.read_text() == "kept"
