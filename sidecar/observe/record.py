"""All that is known of one exchange, written down while it happens.

The flow fills it in; the access log and the numbers are made from it when the
exchange is over. Arguments and results are never part of it.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, TypeAlias

from ..mcp.message import Message
from ..policy.call import Call, Peer
from ..policy.verdict import Finding, Permit, Refusal, Verdict

_LONGEST_ID: Final = 128  # bytes of a caller's own request id that are kept
_MOST_AUDITED: Final = 16  # AUDIT rules that one line names
_LONGEST: Final = 512  # characters of a caller's text that a record keeps

Kind: TypeAlias = tuple[Hashable, ...]


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
    why: str = ""  # why no rule allowed it
    cluster: str = ""  # that its route, or its session, led to
    retries: int = 0

    @property
    def outcome(self) -> str:
        """`allow`, or `deny` with its reason elsewhere; `error` where nothing was decided."""
        if type(self.verdict) is Permit:
            return "allow"
        return "deny" if type(self.verdict) is Refusal else "error"

    @property
    def reason(self) -> str:
        """The stable word of a refusal, empty for none."""
        verdict = self.verdict
        return verdict.reason.value if type(verdict) is Refusal else ""

    def note(self, finding: Finding) -> None:
        """Write down a finding that refuses nothing."""
        self.finding = finding

    def overhead(self, ended: float) -> float:
        """Return the seconds that were spent here and not in waiting for the server."""
        if not self.sent:
            return ended - self.started
        waited = (self.answered or ended) - self.sent
        return max(0.0, ended - self.started - waited)

    def kind(self) -> Kind | None:
        """What all records share whose lines differ in id and times alone.

        None for one that is not as nearly all are: one allowed message, passed on as it
        came, with nothing more to say of it.
        """
        call = self.call
        if call is None or type(self.verdict) is not Permit or call.message is None:
            return None
        if self.broken or self.why or self.cluster or self.retries or self.finding is not None:
            return None
        if call.own_id or call.audited or call.shadowed is not None or call.checked is not None:
            return None
        method = call.message.method
        if len(call.path) + len(method) > _LONGEST:
            return None
        told = (self.peer, call.method, call.path, method, call.message.tool)
        return (*told, self.verdict, self.status, self.upstream)

    def line(self, ts: str, overhead: float) -> dict[str, object]:
        """Return the access line: its fixed fields, and what else there is to say."""
        call, verdict, peer = self.call, self.verdict, self.peer
        message = call.message if call is not None else None
        rule = verdict.rule if verdict is not None else None
        line: dict[str, object] = {
            "ts": ts,
            "request_id": self.request_id,
            "peer": peer.address,
            "caller": peer.uri,
            "http_method": call.method if call is not None else "",
            "path": call.path[:_LONGEST] if call is not None else "",
            "mcp_method": message.method[:_LONGEST] if message is not None else "",
            "tool": (message.tool or "") if message is not None else "",
            "verdict": self.outcome,
            "reason": self.reason,
            "rule": str(rule) if rule is not None else "",
            "at": rule.place if rule is not None else "",
            "status": self.status,
            "upstream": self.upstream,
            "overhead_ms": round(overhead * 1e3, 3),
        }
        if message is None and call is not None and call.batch:
            line["batch"] = [_named(one) for one in call.batch]
        if call is not None and call.own_id:
            line["caller_request_id"] = call.own_id[:_LONGEST_ID].decode("latin-1")
        if call is not None and (call.audited or call.shadowed is not None):
            line.update(_watched(call))
        detail = verdict.detail if type(verdict) is Refusal else self.broken
        if detail or self.broken:
            line["detail"] = (detail or self.broken)[:_LONGEST]
        if self.cluster:
            line["destination"] = self.cluster
        if self.retries:
            line["retries"] = self.retries
        if self.why:
            line["why"] = self.why[:_LONGEST]
        if self.finding is not None:
            line["finding"] = self.finding.pattern[:_LONGEST]
        return line


def _named(message: Message) -> str:
    """Return the method of one message of a batch, and the tool it calls."""
    return f"{message.method[:_LONGEST]} {message.tool or ''}".rstrip()


def _watched(call: Call) -> dict[str, object]:
    """Return what policies say that decide nothing: AUDIT, and those of a dry run."""
    said: dict[str, object] = {}
    if call.audited:
        said["audit"] = [str(rule) for rule in call.audited[:_MOST_AUDITED]]
    if call.shadowed is not None:
        said["shadow"] = "allow" if call.shadowed.allowed else "deny"
        said["shadow_rule"] = str(call.shadowed.rule or "")
    return said
