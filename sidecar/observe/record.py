"""All that is known of one exchange, written down while it happens.

The flow fills it in; the access log and the numbers are made from it when the
exchange is over. Arguments and results are never part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..policy.call import Call, Peer
from ..policy.verdict import Finding, Permit, Refusal, Verdict

_LONGEST: Final = 512  # characters of a caller's text that a record keeps


@dataclass(slots=True)
class Record:
    """One exchange. Times are seconds on the loop's clock; `own` is time spent by us."""

    request_id: str
    peer: Peer
    inbound: str
    started: float
    call: Call | None = None
    verdict: Verdict | None = None
    status: int = 0
    upstream: str = ""
    finding: Finding | None = None
    sent: float = 0.0
    answered: float = 0.0
    broken: str = ""

    @property
    def outcome(self) -> str:
        """`allow`, or `deny` with its reason elsewhere; `error` where nothing was decided."""
        if type(self.verdict) is Permit:
            return "allow"
        return "deny" if type(self.verdict) is Refusal else "error"

    def overhead(self, ended: float) -> float:
        """Return the seconds that were spent here and not in waiting for the server."""
        if not self.sent:
            return ended - self.started
        waited = (self.answered or ended) - self.sent
        return max(0.0, ended - self.started - waited)

    def line(self, ts: str, ended: float) -> dict[str, object]:
        """Return the access line's fields, those that are empty left out but for the fixed ones."""
        call, verdict = self.call, self.verdict
        message = call.message if call is not None else None
        refusal = verdict if type(verdict) is Refusal else None
        rule = verdict.rule if verdict is not None else None
        line: dict[str, object] = {
            "ts": ts,
            "request_id": self.request_id,
            "peer": f"{self.peer.ip}:{self.peer.port}",
            "caller": str(self.peer.identity or ""),
            "http_method": call.method if call is not None else "",
            "path": call.path[:_LONGEST] if call is not None else "",
            "mcp_method": message.method[:_LONGEST] if message is not None else "",
            "tool": (message.tool or "") if message is not None else "",
            "verdict": self.outcome,
            "reason": refusal.reason.value if refusal is not None else "",
            "rule": str(rule) if rule is not None else "",
            "at": rule.at.short if rule is not None and rule.at is not None else "",
            "status": self.status,
            "upstream": self.upstream,
            "overhead_ms": round(self.overhead(ended) * 1e3, 3),
        }
        detail = refusal.detail if refusal is not None else ""
        if detail or self.broken:
            line["detail"] = (detail or self.broken)[:_LONGEST]
        if self.finding is not None:
            line["finding"] = self.finding.pattern[:_LONGEST]
        return line
