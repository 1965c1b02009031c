"""A caller that leaves cancels its call in the stateless era, and does not in the other.

Each case is tried without a sidecar and with one, on the same server of the real SDK: what
it makes of a caller's leave is not to change. Where it keeps no sessions, or answers
with JSON, it makes of it what it will.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
from support.daemon import PATIENCE
from support.e2e import Daemon, Mesh
from support.sdk_story import POLICY, sdk_server
from support.wire import eventually

MODERN, LEGACY = "2026-07-28", "2025-11-25"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}
CLIENT = {"name": "leaver", "version": "1"}
# What a server keeps and how it answers; each has both eras.
SERVERS = {
    "with events": (),
    "with json": ("--json",),
    "without resume": ("--forgetful",),
    "without sessions": ("--stateless", "--forgetful"),
}

pytestmark = pytest.mark.timeout(120)


@dataclass
class Way:
    """How a server is reached: directly, or through a sidecar."""

    port: int
    tls: ssl.SSLContext | None = None
    daemon: Daemon | None = None

    def connection(self) -> http.client.HTTPConnection:
        if self.tls is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=PATIENCE, context=self.tls
        )

    def left(self) -> int:
        """Return how many calls the sidecar saw left, if there is one."""
        if self.daemon is None:
            return 0
        lines = [line for line in self.daemon.records() if line.get("tool") == "gate"]
        return [line["detail"] for line in lines].count(
            "the caller left before its reply was whole"
        )

    def wait_until_left(self, before: int) -> None:
        """Wait until the server must have noticed that one more caller is gone."""
        if self.daemon is not None:
            eventually(lambda: self.left() > before, "a line of the call that was left")
        time.sleep(0.3)  # what is not to happen has no sign; more time would only find more


class Caller:
    """Calls tools in one era, each call over a connection of its own."""

    def __init__(self, way: Way, version: str) -> None:
        self._way, self._version, self._last = way, version, 0
        self._headers = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": version,
        }

    def start(self) -> None:
        """Begin a session, if there are such in this era and on this server."""
        if self._version == MODERN:
            return
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": CLIENT}
        with closing(self._way.connection()) as connection:
            response = self._send(connection, "initialize", params)
            response.read()
            session = response.headers["mcp-session-id"]
        if session:
            self._headers["mcp-session-id"] = session
        with closing(self._way.connection()) as connection:
            body = {"jsonrpc": "2.0", "method": "notifications/initialized"}
            connection.request("POST", "/mcp", json.dumps(body), self._headers)
            assert connection.getresponse().status == 202

    def begin(self, tool: str, **arguments: object) -> http.client.HTTPConnection:
        """Send a call and do not wait for its reply."""
        connection = self._way.connection()
        self._request(connection, "tools/call", self._call(tool, arguments))
        return connection

    def text(self, tool: str, **arguments: object) -> str:
        """Call a tool to its end and return its text."""
        with closing(self._way.connection()) as connection:
            response = self._send(connection, "tools/call", self._call(tool, arguments))
            said = response.read().decode()
        *_, last = [line for line in said.splitlines() if line.startswith(("{", "data: {"))]
        return str(json.loads(last.removeprefix("data: "))["result"]["content"][0]["text"])

    def _call(self, tool: str, arguments: dict[str, object]) -> dict[str, Any]:
        return {"name": tool, "arguments": arguments, "_meta": {"progressToken": "p"}}

    def _send(
        self, connection: http.client.HTTPConnection, method: str, params: dict[str, Any]
    ) -> http.client.HTTPResponse:
        self._request(connection, method, params)
        return connection.getresponse()

    def _request(
        self, connection: http.client.HTTPConnection, method: str, params: dict[str, Any]
    ) -> None:
        self._last += 1
        headers = dict(self._headers)
        if self._version == MODERN:
            params = {**params, "_meta": {**params.get("_meta", {}), **META}}
            headers |= {"mcp-method": method, "mcp-name": params["name"]}
        body = {"jsonrpc": "2.0", "id": self._last, "method": method, "params": params}
        connection.request("POST", "/mcp", json.dumps(body), headers)


@dataclass
class Ways:
    """One server, reached in both ways."""

    name: str
    direct: Way
    sidecar: Way


@pytest.fixture(scope="module", params=SERVERS)
def ways(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ways]:
    folder, mesh = tmp_path_factory.mktemp("server"), Mesh(tmp_path_factory.mktemp("sidecar"))
    mesh.write("policy.yaml", POLICY)
    with sdk_server(folder, *SERVERS[request.param]) as url:
        origin = url.removesuffix("/mcp")
        with mesh.run({"mcp": {"to": origin}}) as daemon:
            through = Way(daemon.port, mesh.context("agent/alice"), daemon)
            yield Ways(request.param, Way(int(origin.rpartition(":")[2])), through)


def fate(way: Way, version: str, gate: str) -> str:
    """Leave a call at *gate*, then let it go on; return what became of it."""
    caller, before = Caller(way, version), way.left()
    caller.start()
    call = caller.begin("gate", name=gate)
    eventually(lambda: caller.text("ledger", name=gate) == "waiting", "the call at the gate")
    call.close()
    way.wait_until_left(before)
    caller.text("open_gate", name=gate)
    ends = ("cancelled", "passed")
    return eventually(
        lambda: next((end for end in ends if caller.text("ledger", name=gate) == end), ""),
        "an end of the call",
    )


@pytest.mark.parametrize("version", [MODERN, LEGACY])
def test_a_sidecar_changes_nothing_in_what_leaving_means(ways: Ways, version: str) -> None:
    direct = fate(ways.direct, version, f"direct {version}")
    behind = fate(ways.sidecar, version, f"behind {version}")
    assert behind == direct
    if ways.name in ("with events", "without resume"):
        assert behind == ("cancelled" if version == MODERN else "passed")
