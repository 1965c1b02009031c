"""Records of exchanges, as the flow leaves them, and what a journal makes of them."""

from __future__ import annotations

import json

from sidecar.errors import Where
from sidecar.observe.journal import Journal
from sidecar.observe.metrics import Metrics
from sidecar.observe.record import Record
from sidecar.policy.call import Peer
from sidecar.policy.verdict import Permit, Reason, Refusal, RuleRef, Verdict
from sidecar.spiffe.id import SpiffeId

from .policies import ALICE, message

RULE = RuleRef("mcp-prod/readers", 0, Where("policies/p.yaml", 7, 5))
PEER = Peer(SpiffeId.parse(ALICE), "10.0.0.9", 4711)


def permitted() -> Permit:
    """Leave by the first rule of `readers`."""
    return Permit(RULE)


def refused(
    reason: Reason = Reason.DENIED, detail: str = "", rule: RuleRef | None = RULE
) -> Refusal:
    """A no."""
    return Refusal(reason, "RBAC: access denied", rule=rule, detail=detail)


def record(
    verdict: Verdict | None = None,
    method: str = "",
    tool: str | None = None,
    status: int = 200,
    **more: object,
) -> Record:
    """A record of a call that began at second 100; *method* is MCP's, empty for plain HTTP."""
    made = Record("id-1", PEER, "127.0.0.1:8443", 100.0, verdict=verdict, status=status)
    if method:
        made.call = message(method, {"name": tool} if tool is not None else None)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def call_of(tool: str, verdict: Verdict | None = None) -> Record:
    """A `tools/call` that went to a server, unless it was refused."""
    made = record(verdict or permitted(), "tools/call", tool)
    if type(made.verdict) is Permit:
        made.sent, made.answered = 100.001, 100.021
    return made


def line_of(made: Record, ended: float = 101.0) -> dict[str, object]:
    """Return the access line of an exchange that *ended* then."""
    journal = Journal(Metrics("1", 10), lambda: 1_700_000_000.25, writes=True)
    journal.write(made, ended)
    line: dict[str, object] = json.loads(journal.take())
    return line


def counted(
    *records: Record, metrics: Metrics | None = None, max_tools: int = 100, ended: float = 100.023
) -> Metrics:
    """Return the numbers once all *records* were written."""
    metrics = metrics or Metrics("1.2.3", max_tools)
    journal = Journal(metrics, lambda: 1_700_000_000.25, writes=False)
    for one in records:
        journal.write(one, ended)
    return metrics
