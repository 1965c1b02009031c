"""An inbound whose server speaks TLS: as the message says that refuses `to: https://...`."""

from __future__ import annotations

from pathlib import Path

from support.e2e import Mesh
from support.mint import Mint
from support.tls_server import TlsServer
from support.wire import rpc

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: agents, namespace: mcp-prod}}
spec:
  rules:
  - from: [{{source: {{principals: ["cluster.local/ns/agent/sa/alice"]}}}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: api, namespace: mcp-prod}}
spec:
  hosts: [api.example]
  ports: [{{number: 443, name: web, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{web: {port}}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: api, namespace: mcp-prod}}
spec: {{host: api.example, trafficPolicy: {{tls: {{mode: SIMPLE, caCertificates: "{roots}"}}}}}}
"""


def test_a_call_goes_on_over_tls_to_who_proves_the_name(tmp_path: Path) -> None:
    files = Mint(tmp_path / "mint").leaf("mcp-prod/files", dns=["api.example"])
    mesh = Mesh(tmp_path / "mesh")
    with TlsServer(files) as server:
        mesh.write("policy.yaml", POLICY.format(port=server.port, roots=files.bundle))
        running = mesh.run({"mcp": {"to": "http://api.example:443"}})
        with running as daemon, daemon.caller("agent/alice") as alice:
            assert alice.ask("POST", "/mcp", rpc("ping")).status == 200
        assert server.asked == ["api.example"]
        assert len(server.heard) == 1
