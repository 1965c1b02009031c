"""What an attack is, and the two ways to run one: by the pure functions, and by the whole flow.

    attack("a tool that no rule names", READ, tool("drop"), 403, -32004)

An attack is the raw bytes of one request under one policy. Its control is the honest
spelling of the same under the same policy, which is allowed: without it a test that
refuses everything would pass.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from support.callers import ALICE
from support.flow import LISTEN, Flow, compiled

from sidecar.config.snapshot import Snapshot
from sidecar.errors import PathError
from sidecar.exchange import understand
from sidecar.http.h1 import Bounds, RequestReader
from sidecar.http.lines import LineTable
from sidecar.policy.call import Peer
from sidecar.policy.decide import decide
from sidecar.policy.verdict import Permit, Refusal
from sidecar.spiffe.id import SpiffeId

INVALID, DENIED = 400, 403
NOT_JSON, NOT_A_MESSAGE, BAD_PARAMS = -32700, -32600, -32602
BY_RULE, MISMATCH, TOO_LARGE = -32004, -32020, -32006

NOW = 1_700_000_000.0
JSON = "content-type: application/json"


@dataclass(frozen=True)
class Attack:
    """*said* must be refused with *status* and *code* where *honest* is allowed."""

    name: str
    policy: str
    said: bytes
    status: int
    code: int
    honest: bytes


def request(
    body: bytes | str = b"", *lines: str, target: str = "/mcp", method: str = "POST"
) -> bytes:
    """The bytes of a request whose body is JSON unless a line says else."""
    data = body if isinstance(body, bytes) else body.encode()
    head = [f"{method} {target} HTTP/1.1", "host: files.local", *lines]
    if not any(line.lower().startswith("content-type") for line in lines):
        head.append(JSON)
    head.append(f"content-length: {len(data)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + data


def said(method: str, params: Any = None, **more: Any) -> str:
    """The JSON of one request of MCP, id 1."""
    value: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": method}
    if params is not None:
        value["params"] = params
    return json.dumps({**value, **more})


def use(name: str, arguments: Any = None, **more: Any) -> str:
    """The JSON of a call of the tool *name*."""
    params = {"name": name, **more}
    if arguments is not None:
        params["arguments"] = arguments
    return said("tools/call", params)


def policy(*rules: str, deny: tuple[str, ...] = (), allow: bool = True) -> str:
    """Documents with *rules* that allow and rules that deny, each the YAML of one rule."""
    written = []
    for action, found in (("ALLOW", rules), ("DENY", deny)):
        if found or (action == "ALLOW" and allow):
            written.append(
                "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
                f"metadata: {{name: {action.lower()}, namespace: mcp-prod}}\n"
                f"spec: {{action: {action}, rules: [{', '.join(found)}]}}\n"
            )
    return "".join(written)


def to(operation: str, when: str = "") -> str:
    """One rule: one operation, and a condition if there is one."""
    return f"{{to: [{{operation: {{{operation}}}}}]{f', when: [{{{when}}}]' if when else ''}}}"


ANYTHING = "{}"
_SNAPSHOTS: dict[str, Snapshot] = {}


def snapshot(documents: str) -> Snapshot:
    """Compile *documents* once."""
    if documents not in _SNAPSHOTS:
        _SNAPSHOTS[documents] = compiled(documents, "http://127.0.0.1:9000", "")
    return _SNAPSHOTS[documents]


def judged(documents: str, data: bytes) -> tuple[int, int] | Permit:
    """Read, understand and decide on *data*: a permit, or the status and code of a refusal."""
    reader = RequestReader(LineTable(32_768), Bounds(16_384, 100, 65_536))
    asked = reader.take(data)
    assert asked is not None, "the request is not whole"
    if asked.fault is not None:
        return asked.fault.status, TOO_LARGE if asked.fault.status == 413 else NOT_A_MESSAGE
    service = snapshot(documents).services[LISTEN]
    try:
        call = understand(asked, Peer(SpiffeId.parse(ALICE), "10.0.0.9"), "10.0.0.1", service)
    except PathError:
        return 400, NOT_A_MESSAGE
    verdict = decide(call, service.policy, NOW)
    if isinstance(verdict, Permit):
        return verdict
    assert isinstance(verdict, Refusal)
    return verdict.status, verdict.code


@dataclass(frozen=True)
class Outcome:
    """What the flow made of a request: the reply's status and error, and what servers heard."""

    status: int
    error: Mapping[str, Any]
    heard: bytes
    dialled: int
    faults: int


async def passed_through(documents: str, data: bytes) -> Outcome:
    """Send *data* through the whole flow to a server that only listens."""
    flow = Flow(documents)
    caller = flow.callers.connect()
    caller.say(data)
    await flow.settle()
    reply = caller.heard()
    head, _, body = reply.partition(b"\r\n\r\n")
    return Outcome(
        int(head.split(b" ")[1]) if head else 0,
        json.loads(body)["error"] if body else {},
        flow.heard_by_servers(),
        flow.loop.dialled("127.0.0.1:9000"),
        len(flow.faults),
    )
