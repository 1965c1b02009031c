"""What `sidecar authz check` answers: a verdict, the rule that made it, and why.

One answer is one line, for a person or as JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..policy.authz import Explanation
from ..policy.verdict import Permit, Reason, Refusal, RuleRef

ALLOW: Final = "allow"
DENY: Final = "deny"
REFUSE: Final = "refuse"

# Refusals that a policy made; the others say that there was nothing to judge.
_POLICY: Final = frozenset({Reason.DENIED, Reason.INJECTION})


@dataclass(frozen=True, slots=True)
class Answer:
    """One verdict. `status` is what the caller would see, 0 where that is no HTTP."""

    verdict: str
    status: int
    reason: str
    rule: RuleRef | None = None
    name: str | None = None
    brief: str = ""  # the reason for whoever sees the request beside it

    def as_dict(self) -> dict[str, object]:
        """Return the answer as it is written in JSON."""
        rule = self.rule
        return {
            "name": self.name,
            "verdict": self.verdict,
            "status": self.status,
            "policy": rule.policy if rule is not None else None,
            "rule": rule.index if rule is not None and rule.index >= 0 else None,
            "at": (rule.place or None) if rule is not None else None,
            "reason": self.reason,
        }

    def line(self, who: str, what: str) -> str:
        """Return the answer in one line: verdict, caller, request, and the rule or the reason."""
        why = self.brief or self.reason
        if self.rule is not None:
            plain = self.verdict != REFUSE and self.rule.index >= 0
            why = placed(self.rule) if plain else f"{placed(self.rule)}: {why}"
        return f"{self.verdict:<6} {who}  {what}  {why}"


def placed(rule: RuleRef) -> str:
    """Return the rule by name and place: `namespace/name#0 at file:line`."""
    return f"{rule} at {rule.place}" if rule.place else str(rule)


def refused(
    why: str, status: int = 0, name: str | None = None, rule: RuleRef | None = None
) -> Answer:
    """Return the answer to what could not be judged, or was refused before it was."""
    return Answer(REFUSE, status, why, rule, name)


def allowed(permit: Permit, name: str | None, *, http: bool) -> Answer:
    """Return the answer of a permit."""
    reason = "no ALLOW policy is for this workload, and its default is ALLOW"
    if permit.rule is not None:
        reason = "this rule allows it"
    return Answer(ALLOW, 200 if http else 0, reason, permit.rule, name)


def not_allowed(
    refusal: Refusal, explanation: Explanation | None, name: str | None, *, http: bool
) -> Answer:
    """Return the answer of a refusal; *explanation* where no rule decided."""
    status = refusal.status if http else 0
    if refusal.reason not in _POLICY:
        return refused(refusal.detail or refusal.message, status, name, refusal.rule)
    if explanation is not None:
        return Answer(DENY, status, str(explanation), None, name, explanation.brief)
    reason = refusal.detail or "this rule denies it"
    return Answer(DENY, status, reason, refusal.rule, name)
