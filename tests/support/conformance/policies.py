"""The documents that are in force where the official conformance suite passes a sidecar.

They use fields of MCP, so that bodies and headers are checked and lists filtered,
and look for injections in both directions.
"""

from __future__ import annotations

_SCAN = """\
---
apiVersion: sidecar/v1
kind: Inspection
metadata: {name: injections, namespace: mcp-prod}
spec:
  selector: {matchLabels: {app: mcp-server}}
  patterns: [{id: ignore-previous, text: "ignore previous instructions"}]
  action: DENY
"""

# What the fixture server has, and the methods that name nothing and still use something.
FIXTURE = f"""\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: agents, namespace: mcp-prod}}
spec:
  selector: {{matchLabels: {{app: mcp-server}}}}
  action: ALLOW
  rules:
  - from: [{{source: {{namespaces: [agent]}}}}]
    to:
    - operation: {{paths: [/mcp], tools: ["test_*", json_schema_2020_12_tool]}}
    - operation: {{paths: [/mcp], prompts: ["test_*"]}}
    - operation: {{paths: [/mcp], resources: ["test://*"]}}
    - operation:
        paths: [/mcp]
        mcpMethods: [completion/complete, logging/setLevel, subscriptions/listen,
                     resources/subscribe, resources/unsubscribe, "unknown/*"]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: nothing-destructive, namespace: mcp-prod}}
spec:
  selector: {{matchLabels: {{app: mcp-server}}}}
  action: DENY
  rules:
  - to: [{{operation: {{tools: ["delete_*"]}}}}]
{_SCAN}"""

# Where some other server's login is on the same origin, its bodies are forms and the like.
PLAIN_PATHS = ["/register", "/token", "/authorize"]
ANY_SERVER = f"""\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: agents, namespace: mcp-prod}}
spec:
  selector: {{matchLabels: {{app: mcp-server}}}}
  action: ALLOW
  rules:
  - from: [{{source: {{namespaces: [agent]}}}}]
    to:
    - operation: {{tools: ["*"]}}
    - operation: {{resources: ["*"]}}
    - operation: {{prompts: ["*"]}}
    - operation: {{paths: {PLAIN_PATHS}}}
{_SCAN}"""
