"""May this call happen, and may this reply pass: the order of the checks.

`decide` looks at a call once, `review` at each message of its reply. Both are
pure and raise only on bugs. What cannot be read cannot be judged, so it is
refused wherever a rule or a pattern would have to judge it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ..errors import MessageError
from ..mcp.edit import filter_tools
from ..mcp.message import MAX_DEPTH, NOT_JSON, parse, parse_value
from .authz import RuleSet
from .call import Call
from .scan.scanner import Scanner
from .verdict import Duties, Finding, Permit, Reason, Refusal, RuleRef, Verdict, Visible

DENIED: Final = "RBAC: access denied"  # Envoy's words, which clients know
_INJECTION: Final = "the content was refused by an inspection"
_MAX_PERMITS: Final = 4096


@dataclass(frozen=True, slots=True)
class Scans:
    """What to look for in one direction: `refuse` on a find, or only `note` it."""

    refuse: Scanner | None = None
    note: Scanner | None = None


@dataclass(slots=True)
class Policy:
    """All that decides about the calls to one server; compiled, and never changed.

    Where a rule asks about MCP, every body must be one message, but on `plain_paths`.
    """

    rules: RuleSet
    requests: Scans = Scans()
    replies: Scans = Scans()
    plain_paths: frozenset[str] = frozenset()
    max_depth: int = MAX_DEPTH
    _permits: dict[tuple[RuleRef | None, Visible | None], Permit] = field(default_factory=dict)

    def permit(self, rule: RuleRef | None, visible: Visible | None) -> Permit:
        """Return the permit by *rule* for a caller who may see the *visible* tools."""
        key = (rule, visible)
        permit = self._permits.get(key)
        if permit is None:
            if len(self._permits) >= _MAX_PERMITS:
                self._permits.clear()
            duties = Duties(self.replies.refuse, self.replies.note, visible)
            permit = self._permits[key] = Permit(rule, duties)
        return permit


def decide(call: Call, policy: Policy, now: float) -> Verdict:
    """Say whether *call* may happen; *now* is wall-clock time in seconds.

    On the way the call's body is read: `call.message` is what it says.
    """
    if call.peer.not_after <= now:
        return Refusal(Reason.UNAUTHENTICATED, "the certificate has expired")
    if call.body:
        refusal = _read(call, policy)
        if refusal is not None:
            return refusal
    decision = policy.rules.judge(call)
    if not decision.allowed:
        return Refusal(Reason.DENIED, DENIED, rule=decision.rule)
    if call.body:
        finding = _scan(call, policy.requests)
        if finding is not None:
            return _injection(finding)
    return policy.permit(decision.rule, policy.rules.visible_tools(call))


def review(body: bytes, permit: Permit, note: Callable[[Finding], None]) -> bytes | Refusal:
    """Return what may pass of one JSON *body* of a reply: all, less hidden tools, or nothing.

    *note* is told of a finding that refuses nothing.
    """
    duties = permit.duties
    try:
        value: object = parse(body).value
    except MessageError as error:
        if error.code == NOT_JSON:
            return _unreadable(str(error))
        value = parse_value(body)
    if duties.inspect is not None:
        finding = duties.inspect.message(body, value)
        if finding is not None:
            return _injection(finding)
    if duties.watch is not None:
        finding = duties.watch.message(body, value)
        if finding is not None:
            note(finding)
    if duties.visible_tool is not None:
        return filter_tools(body, duties.visible_tool)
    return body


def _read(call: Call, policy: Policy) -> Refusal | None:
    """Read the body of *call* as a message where it must be one, or where it says it is."""
    needed = policy.rules.uses_mcp and call.path not in policy.plain_paths
    scanned = policy.requests.refuse is not None
    if (needed or scanned) and call.content_encoding not in ("", "identity"):
        return _unsupported(f"`Content-Encoding: {call.content_encoding[:40]}` cannot be read here")
    json = _is_json(call.content_type)
    if not json:
        if needed:
            return _unsupported("`Content-Type` must be application/json in UTF-8")
        return None
    try:
        call.message = parse(call.body, policy.max_depth)
    except MessageError as error:
        if needed or (scanned and error.code == NOT_JSON):
            return Refusal(Reason.INVALID, str(error), code=error.code)
    return None


def _is_json(content_type: str) -> bool:
    """Whether *content_type* is JSON in UTF-8, the only charset that is read (RFC 8259 8.1)."""
    kind, _, parameters = content_type.partition(";")
    if kind.strip().lower() != "application/json":
        return False
    charset = parameters.lower().replace(" ", "").replace('"', "")
    return "charset=" not in charset or "charset=utf-8" in charset


def _scan(call: Call, scans: Scans) -> Finding | None:
    if scans.note is not None:
        call.flagged = _look(call, scans.note)
    return None if scans.refuse is None else _look(call, scans.refuse)


def _look(call: Call, scanner: Scanner) -> Finding | None:
    if call.message is not None:
        return scanner.message(call.body, call.message.value, call.message.text)
    try:
        # JSON under another name: its escapes must not hide anything from the scan.
        value = parse_value(call.body)
    except MessageError:
        return scanner.raw(call.body)
    return scanner.message(call.body, value)


def _injection(finding: Finding) -> Refusal:
    detail = f"pattern `{finding.pattern}`" + (f" at {finding.path}" if finding.path else "")
    return Refusal(Reason.INJECTION, _INJECTION, rule=finding.rule, detail=detail)


def _unsupported(message: str) -> Refusal:
    return Refusal(Reason.INVALID, message, status=415)


def _unreadable(why: str) -> Refusal:
    return Refusal(Reason.UPSTREAM, "the server's reply cannot be read", detail=why)
