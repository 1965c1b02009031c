"""Programs that others wrote to find faults: slowhttptest (slow callers), testssl.sh (TLS).

Each skips by name where it is not here. Debian has both.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import free_port
from support.e2e import Daemon, Mesh
from support.wire import Recorder, eventually, rpc

EVERYBODY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: everybody, namespace: mcp-prod}
spec: {rules: [{}]}
"""
PLAIN = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: plain, namespace: mcp-prod}
spec:
  selector: {matchLabels: {app: mcp-server}}
  mtls: {mode: STRICT}
  portLevelMtls:
"""
CONNECTIONS = 200
# WARN is what testssl.sh itself could not do.
FAULTS = {"LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL"}

pytestmark = pytest.mark.timeout(180)


def program(*names: str) -> str:
    """Return the path of a program under one of its *names*, or skip."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"{names[0]} is not here")
    return found


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One listener with TLS and one without, and callers have two seconds for anything."""
    mesh = Mesh(tmp_path_factory.mktemp("tools"))
    port = free_port()
    mesh.write("policy.yaml", EVERYBODY)
    mesh.write("plain.yaml", f"{PLAIN}    {port}: {{mode: DISABLE}}\n")
    with Recorder() as server:
        inbound = {
            "tls": {"to": server.url, "service": "tls.test"},
            "plain": {
                "to": server.url,
                "listen": f"127.0.0.1:{port}",
                "service": "plain.test",
                "plainPaths": ["/slow"],
            },
        }
        limits = {one: "2s" for one in ("requestHeadTimeout", "requestBodyTimeout", "idleTimeout")}
        with mesh.run(inbound, limits=limits) as running:
            yield running


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("-H", id="heads-that-never-end"),
        pytest.param("-B", id="bodies-that-never-end"),
        pytest.param("-X -w 1 -y 2 -n 1 -z 32 -k 3", id="replies-read-byte-by-byte"),
        pytest.param("-R", id="ranges-by-the-thousand"),
    ],
)
def test_slow_callers_keep_nobody_else_out(how: str, daemon: Daemon) -> None:
    url = f"http://127.0.0.1:{daemon.ports['plain']}/slow"
    argv = [program("slowhttptest"), "-c", str(CONNECTIONS), *how.split(), "-r", "200", "-i", "1"]
    done = subprocess.run(
        [*argv, "-x", "10", "-l", "8", "-p", "3", "-u", url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    available = re.findall(r"service available:\s+(\w+)", said)
    assert available, said + done.stderr
    assert set(available) == {"YES"}
    with daemon.caller("agent/alice", "tls") as caller:
        assert caller.ask("POST", "/mcp", rpc("ping")).status == 200
    # None of them is left, however slow they were.
    eventually(lambda: daemon.stats()["server.total_connections"] == 0, "all are gone")


def test_tls_has_no_fault_that_is_known(daemon: Daemon, tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    argv = [program("testssl", "testssl.sh"), "--quiet", "--color", "0", "--warnings", "off"]
    argv += ["--ip", "127.0.0.1", "--jsonfile", str(told), "-p", "-U"]
    argv += [f"127.0.0.1:{daemon.ports['tls']}"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=150, check=False)
    if not told.exists():
        pytest.skip(f"testssl.sh does not run here: {(done.stdout + done.stderr).strip()[-200:]}")
    found = {one["id"]: one for one in json.loads(told.read_text())}
    assert [one for one in found.values() if one["severity"] in FAULTS] == []
    offered = {name: found[name]["finding"] for name in ("TLS1", "TLS1_1", "TLS1_2")}
    assert set(offered.values()) == {"not offered"}
    assert found["TLS1_3"]["finding"].startswith("offered")
    assert found["heartbleed"]["severity"] == "OK"
