"""Policies and calls in one line each, for tests of the rules.

    rules = RuleSet([allow(rule(tools=["read_*"])), deny(rule(tools=["read_secret"]))])
    rules.judge(tool_call("read_file", {"path": "/srv/a"})).allowed

It knows nothing of documents: `config` has tests of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sidecar.mcp.message import parse
from sidecar.policy.call import Call, Peer
from sidecar.policy.spec import (
    Action,
    ConditionSpec,
    OperationSpec,
    PolicySpec,
    RuleSpec,
    SourceSpec,
)
from sidecar.spiffe.id import SpiffeId

ALICE = "spiffe://cluster.local/ns/agent/sa/alice"
_SOURCE = frozenset(SourceSpec.__slots__)


def when(key: str, values: Iterable[str] = (), not_values: Iterable[str] = ()) -> ConditionSpec:
    """One condition."""
    return ConditionSpec(key, tuple(values), tuple(not_values))


def rule(*conditions: ConditionSpec, **fields: Iterable[str]) -> RuleSpec:
    """One rule; each field goes to its source or to its operation, by its name."""
    source = {name: tuple(values) for name, values in fields.items() if name in _SOURCE}
    operation = {name: tuple(values) for name, values in fields.items() if name not in _SOURCE}
    return RuleSpec(
        (SourceSpec(**source),) if source else (),
        (OperationSpec(**operation),) if operation else (),
        conditions,
    )


def policy(action: Action, *rules: RuleSpec, dry_run: bool = False, name: str = "") -> PolicySpec:
    """One policy of the namespace `tools`, named after what it does."""
    return PolicySpec(name or action.value.lower(), "tools", action, rules, dry_run=dry_run)


def allow(*rules: RuleSpec, dry_run: bool = False, name: str = "") -> PolicySpec:
    """One ALLOW policy."""
    return policy(Action.ALLOW, *rules, dry_run=dry_run, name=name)


def deny(*rules: RuleSpec, dry_run: bool = False, name: str = "") -> PolicySpec:
    """One DENY policy."""
    return policy(Action.DENY, *rules, dry_run=dry_run, name=name)


def audit(*rules: RuleSpec) -> PolicySpec:
    """One AUDIT policy."""
    return policy(Action.AUDIT, *rules)


def call(
    method: str = "GET",
    path: str = "/",
    *,
    principal: str | None = ALICE,
    ip: str = "10.0.0.1",
    sni: str = "",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    host: str = "files.tools",
    **more: Any,
) -> Call:
    """One call; a body that is JSON is parsed as a message."""
    return Call(
        Peer(SpiffeId.parse(principal) if principal else None, ip, sni=sni),
        method,
        path,
        "",
        host,
        [(name.encode(), value.encode()) for name, value in headers],
        body,
        message=parse(body) if body.startswith(b"{") else None,
        **more,
    )


def message(method: str, params: Mapping[str, object] | None = None, **more: Any) -> Call:
    """A POST of one request of MCP to `/mcp`, or of a notification."""
    value: dict[str, object] = {"jsonrpc": "2.0", "method": method}
    if not method.startswith("notifications/"):
        value["id"] = 1
    if params is not None:
        value["params"] = params
    body = json.dumps(value).encode()
    return call(more.pop("http", "POST"), more.pop("path", "/mcp"), body=body, **more)


def tool_call(name: str, arguments: Mapping[str, object] | None = None, **more: Any) -> Call:
    """A call of the tool *name*."""
    params: dict[str, object] = {"name": name}
    if arguments is not None:
        params["arguments"] = arguments
    return message("tools/call", params, **more)
