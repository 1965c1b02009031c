"""Rules on where a call came from believe the proxies that the bootstrap trusts, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.e2e import Mesh
from support.wire import JSON, Recorder, tool

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: office, namespace: mcp-prod}
spec:
  rules:
  - from: [{source: {remoteIpBlocks: [10.1.0.0/16]}}]
"""


@pytest.mark.parametrize(
    ("trusted", "reported", "status"),
    [
        (0, ["10.1.2.3"], 403),
        (1, [], 403),
        (1, ["10.1.2.3"], 200),
        (1, ["10.1.2.3, 192.0.2.1"], 403),
        (1, ["192.0.2.1", "10.1.2.3"], 200),
        (2, ["10.1.2.3"], 403),
        (2, ["10.1.2.3, 192.0.2.1"], 200),
    ],
)
def test_where_a_call_came_from_is_what_trusted_proxies_report(
    trusted: int, reported: list[str], status: int, tmp_path: Path
) -> None:
    mesh = Mesh(tmp_path)
    mesh.write("policy.yaml", POLICY)
    headers = [*JSON, *(("x-forwarded-for", value) for value in reported)]
    with (
        Recorder() as server,
        mesh.run({"mcp": {"to": server.url}}, numTrustedProxies=trusted) as daemon,
        daemon.caller("agent/alice") as alice,
    ):
        said = alice.ask("POST", "/mcp", tool("read_file"), headers)
        assert said.status == status
        assert len(server.heard) == (status == 200)
