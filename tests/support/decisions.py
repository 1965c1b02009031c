"""Calls as they come off the wire, policies with scans, and verdicts in short.

    summary(decide(asked(tool("read")), policy(MCP), NOW)) == "permit"

Unlike `policies.call` the body is not parsed: that is `decide`'s to do.
"""

from __future__ import annotations

import json
from typing import Any

from sidecar.errors import Where
from sidecar.policy.authz import RuleSet
from sidecar.policy.call import Call, Peer
from sidecar.policy.decide import Policy, Scans
from sidecar.policy.scan.scanner import Pattern, Scanner
from sidecar.policy.spec import Action, PolicySpec
from sidecar.policy.verdict import Permit, Refusal, RuleRef, Verdict
from sidecar.spiffe.id import SpiffeId

from .policies import ALICE, allow, rule

NOW = 1_700_000_000.0
HARM = "ignore previous instructions"
SOURCE = RuleRef("tools/injections", at=Where("f.yaml", 7))
MCP = [allow(rule(tools=["read"]), rule(mcp_methods=["tools/list"]))]
PLAIN = [allow(rule())]


def scanner(text: str = HARM, name: str = "harm") -> Scanner:
    """A scanner of one pattern."""
    return Scanner([Pattern(name, text, SOURCE)])


REFUSE, NOTE = Scans(refuse=scanner()), Scans(note=scanner())


def policy(
    policies: list[PolicySpec], scans: Scans = REFUSE, *, default: Action = Action.DENY, **more: Any
) -> Policy:
    """A policy of rules; its scans are of requests unless more is said."""
    return Policy(RuleSet(policies, default=default), scans, **more)


def asked(
    body: bytes | str | dict[str, Any] = b"",
    content_type: str = "application/json",
    *,
    path: str = "/mcp",
    not_after: float = NOW + 1,
    encoding: str = "",
    headers: tuple[tuple[bytes, bytes], ...] = (),
    principal: str | None = ALICE,
) -> Call:
    """A POST of *body*, which is written as JSON if it is an object."""
    if isinstance(body, dict):
        body = json.dumps(body)
    data = body.encode() if isinstance(body, str) else body
    identity = SpiffeId.parse(principal) if principal else None
    return Call(
        Peer(identity, "10.0.0.1", not_after=not_after),
        "POST",
        path,
        "",
        "files.tools",
        headers,
        data,
        content_type,
        8443,
        encoding,
    )


def tool(name: str = "read", text: str = "a", **params: Any) -> dict[str, Any]:
    """A call of the tool *name*."""
    params = {"name": name, "arguments": {"text": text}, **params}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def refused(verdict: Verdict) -> Refusal:
    """The refusal that *verdict* is."""
    assert isinstance(verdict, Refusal), verdict
    return verdict


def summary(verdict: Verdict) -> str | tuple[str, int, int]:
    """`permit`, or why not, with status and code."""
    if isinstance(verdict, Permit):
        return "permit"
    return str(verdict.reason), verdict.status, verdict.code
