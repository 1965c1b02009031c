"""The sidecar as a peer, with everything on.

Strict mutual TLS, a rule by caller, path, tool and argument, every body parsed
as MCP, a hundred patterns looked for in requests and replies, outlier detection,
connection limits, metrics, and an access line a request written to a file.
`sidecar-no-scan` is the same without the patterns.
"""

from __future__ import annotations

import json
import subprocess

from race import payload
from race.peers import Absent, Peer
from race.site import Site, free_port

_BOOTSTRAP = """\
apiVersion: sidecar/v1
kind: Sidecar
metadata: {{name: files, namespace: mcp-prod, labels: {{app: mcp-server}}}}
spec:
  trustDomain: cluster.local
  identity: {{certs: {certs}}}
  inbound:
  - listen: 127.0.0.1:{port}
    to: http://127.0.0.1:{upstream}
  admin: {{listen: 127.0.0.1:{admin}}}
  documents: [{documents}]
  log: {{access: {access}}}
"""

_DOCUMENTS = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: strict, namespace: mcp-prod}}
spec:
  mtls: {{mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: agents, namespace: mcp-prod}}
spec:
  selector: {{matchLabels: {{app: mcp-server}}}}
  action: ALLOW
  rules:
  - from:
    - source: {{principals: ["{agent}"]}}
    to:
    - operation:
        methods: ["POST"]
        paths: ["{path}", "{poisoned_path}"]
        tools: ["{tool}"]
    when:
    - key: "mcp.argumentPaths[path]"
      values: ["/srv/*"]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: server, namespace: mcp-prod}}
spec:
  host: 127.0.0.1
  trafficPolicy:
    outlierDetection:
      consecutive5xxErrors: 5
      interval: 10s
      baseEjectionTime: 30s
      maxEjectionPercent: 50
    connectionPool:
      tcp: {{maxConnections: 1024}}
      http: {{http1MaxPendingRequests: 1024}}
"""

_INSPECTION = """\
---
apiVersion: sidecar/v1
kind: Inspection
metadata: {{name: injection, namespace: mcp-prod}}
spec:
  patterns: {patterns}
  maxBodyBytes: 65536
  action: DENY
"""

# A profile-guided build shows in its flags, or, where a distribution hides them, in its speed.
_ABOUT = """\
import platform, ssl, sysconfig, timeit
from importlib import metadata
def version(name):
    try: return metadata.version(name)
    except metadata.PackageNotFoundError: return "none"
flags = sysconfig.get_config_var("CONFIG_ARGS") or ""
speed = min(timeit.repeat("f(1)", "def f(a): return a + 1", number=200000, repeat=5)) * 5000
import sidecar
print(platform.python_implementation(), platform.python_version(),
    "(--enable-optimizations)," if "--enable-optimizations" in flags else "(flags not known),",
    f"{speed:.0f} ns a call, uvloop {version('uvloop')}, hyperscan {version('hyperscan')},",
    ssl.OPENSSL_VERSION)
"""


def everything(site: Site) -> Peer:
    """Return the sidecar with everything on."""
    return _peer(site, "sidecar", _INSPECTION.format(patterns=json.dumps(payload.PATTERNS)))


def no_scan(site: Site) -> Peer:
    """Return the sidecar with everything but the patterns."""
    return _peer(site, "sidecar-no-scan", "")


def _peer(site: Site, name: str, inspection: str) -> Peer:
    python = site.binaries.python
    port = free_port()
    documents = site.write(f"{name}/policies/documents.yaml", _documents() + inspection).parent
    bootstrap = _BOOTSTRAP.format(
        certs=site.identities.server.chain.parent,
        port=port,
        upstream=site.upstream_port,
        admin=free_port(),
        documents=documents,
        access=site.folder / f"{name}-access.log",
    )
    path = site.write(f"{name}/sidecar.yaml", bootstrap)
    return Peer(
        name=name,
        command=(python, "-m", "sidecar", "run", "-c", str(path)),
        port=port,
        version=about(python),
        knows_tools=True,
        scans_requests=bool(inspection),
        scans_replies=bool(inspection),
    )


def _documents() -> str:
    return _DOCUMENTS.format(
        agent=payload.AGENT.removeprefix("spiffe://"),
        path=payload.PATH,
        poisoned_path=payload.POISONED_PATH,
        tool=payload.TOOL,
    )


def about(python: str) -> str:
    """Return what the sidecar runs on; raise Absent where *python* cannot import it."""
    try:
        run = subprocess.run([python, "-c", _ABOUT], capture_output=True, text=True, timeout=30)
    except OSError as error:
        raise Absent(f"`{python}` cannot be run: {error.strerror}") from error
    if run.returncode:
        last = run.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise Absent(f"`{python}` cannot import sidecar: {last[0]}")
    return run.stdout.strip()
