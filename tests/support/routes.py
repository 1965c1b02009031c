"""Documents for tests of routes: three servers in two versions, a fourth for copies."""

from __future__ import annotations

import json
from typing import Any

from .flow import ALLOW_ALL, Flow
from .memory import Pipe

V1A, V1B, V2, SHADOW = "127.0.0.1:80", "127.0.0.2:80", "127.0.0.3:80", "127.0.0.9:80"
HOST = "files.local"

SERVICES = """\
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: files, namespace: mcp-prod}
spec:
  hosts: [files.local]
  ports: [{number: 80, name: http}]
  resolution: STATIC
  endpoints:
  - {address: 127.0.0.1, labels: {version: v1}}
  - {address: 127.0.0.2, labels: {version: v1}}
  - {address: 127.0.0.3, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shadow, namespace: mcp-prod}
spec:
  hosts: [shadow.local]
  ports: [{number: 80, name: http}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.9}]
"""


def rule(**policy: Any) -> str:
    """The DestinationRule with the subsets `v1` and `v2`."""
    spec = {
        "host": HOST,
        "trafficPolicy": {"loadBalancer": {"simple": "ROUND_ROBIN"}, **policy},
        "subsets": [{"name": one, "labels": {"version": one}} for one in ("v1", "v2")],
    }
    return document("DestinationRule", spec)


def routes(*http: dict[str, Any]) -> str:
    """The VirtualService with these routes."""
    return document("VirtualService", {"hosts": [HOST], "http": list(http)})


def to(subset: str = "", weight: int = 0, host: str = HOST, **more: Any) -> dict[str, Any]:
    """One destination of a route."""
    goal = {"host": host, **({"subset": subset} if subset else {})}
    return {"destination": goal, "weight": weight, **more}


def document(kind: str, spec: Any) -> str:
    """A document of Istio's; JSON is YAML."""
    written = {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": "files", "namespace": "mcp-prod"},
        "spec": spec,
    }
    return f"---\n{json.dumps(written)}\n"


JSON = "content-type: application/json"


def flow_of(*http: dict[str, Any], limits: str = "", **policy: Any) -> Flow:
    """The whole flow in memory, with these routes if there are any."""
    documents = ALLOW_ALL + SERVICES + rule(**policy) + (routes(*http) if http else "")
    return Flow(documents, to="http://files.local", limits=limits)


def status(caller: Pipe) -> int:
    """The status that *caller* has been answered with."""
    return int(caller.heard().split(b" ", 2)[1])


def message(method: str, **params: Any) -> bytes:
    """A JSON-RPC request."""
    asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return json.dumps(asked).encode()


def call_of(tool: str) -> bytes:
    """A call of *tool*."""
    return message("tools/call", name=tool, arguments={})
