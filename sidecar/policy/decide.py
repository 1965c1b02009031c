"""May this call happen, and may this reply pass: the order of the checks.

`decide` looks at a call once, `review` at each message of its reply. Both are
pure and raise only on bugs. What cannot be read cannot be judged, so it is
refused wherever a rule or a pattern would have to judge it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from ..errors import MessageError
from ..mcp import batch
from ..mcp.edit import LISTINGS, Listing, Visible, filter_list, make_private, may_concern
from ..mcp.message import MAX_DEPTH, NOT_JSON, parse, parse_value
from ..mcp.session import check_headers, takes_batches
from .authz import RuleSet
from .call import Call
from .origin import Origins
from .scan.scanner import Scanner
from .tokens.rules import TokenRules, authenticate
from .verdict import (
    Decision,
    Duties,
    Finding,
    Inspector,
    Permit,
    Reason,
    Refusal,
    RuleRef,
    Verdict,
)

DENIED: Final = "RBAC: access denied"  # Envoy's words, which clients know
_FOREIGN: Final = "pages of this origin may not call here"
_OWN_PAGES: Final = Origins()
_INJECTION: Final = "the content was refused by an inspection"
_PLAIN_JSON: Final = "application/json"
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_CONTROLS: Final = {"n": "\n", "r": "\r", "t": "\t", "b": "", "f": " "}


@dataclass(frozen=True, slots=True)
class Scans:
    """What to look for in one direction: `refuse` on a find, or only `note` it."""

    refuse: Scanner | None = None
    note: Scanner | None = None


@dataclass(slots=True)
class Policy:
    """All that decides about the calls to one server; compiled, and never changed.

    Where a rule asks about MCP, or messages are counted by what they ask (`counts_messages`),
    every body must be one message, but on `plain_paths`.
    """

    rules: RuleSet
    requests: Scans = Scans()
    replies: Scans = Scans()
    plain_paths: frozenset[str] = frozenset()
    origins: Origins = _OWN_PAGES
    max_depth: int = MAX_DEPTH
    counts_messages: bool = False
    needs_messages: bool = field(init=False)
    scans: bool = field(init=False)  # whether requests are looked through at all
    tokens: TokenRules | None = None
    _duties: Duties = field(init=False)
    _permits: dict[int, Permit] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.needs_messages = self.rules.uses_mcp or self.counts_messages
        self.scans = self.requests != Scans()
        hidden = self.hidden if self.rules.uses_mcp else None
        self._duties = Duties(self.replies.refuse, self.replies.note, hidden)

    def permit(self, rule: RuleRef | None) -> Permit:
        """Return the permit by *rule*: one for each, made once."""
        permit = self._permits.get(id(rule))
        if permit is None:
            permit = self._permits[id(rule)] = Permit(rule, self._duties)
        return permit

    def hidden(self, call: Call) -> Iterator[tuple[Listing, Visible]]:
        """Yield the kinds of lists that are shortened for the caller, and to what."""
        rules = self.rules
        for methods, view in (
            (("tools/list",), rules.visible_tools(call)),
            (("prompts/list",), rules.visible_prompts(call)),
            (("resources/list", "resources/templates/list"), rules.visible_resources(call)),
        ):
            if view is not None:
                for method in methods:
                    yield LISTINGS[method], view


def decide(call: Call, policy: Policy, now: float) -> Verdict:
    """Say whether *call* may happen; *now* is wall-clock time in seconds.

    On the way the call's body is read: `call.message` is what it says. A batch is decided as
    its messages would be, one by one, and refused whole with the first that is refused.
    """
    if call.peer.not_after <= now:
        why = call.peer.revoked or "the certificate has expired"
        return Refusal(Reason.UNAUTHENTICATED, why)
    if call.origin and not policy.origins.admit(call.origin):
        detail = f"`Origin: {call.origin[:200]}` is not allowed here"
        return Refusal(Reason.DENIED, _FOREIGN, detail=detail)
    if policy.tokens is not None:
        refusal = authenticate(call, policy.tokens, now)
        if refusal is not None:
            return refusal
    if call.body:
        verdict = _read(call, policy, now)
        if verdict is not None:
            return verdict
    decision = policy.rules.judge(call)
    if policy.rules.watches:
        call.audited = policy.rules.audit(call)
        call.shadowed = policy.rules.shadow(call)
    if not decision.allowed:
        return Refusal(Reason.DENIED, DENIED, rule=decision.rule)
    if policy.scans and call.body:
        finding = _scan(call, policy.requests)
        if finding is not None:
            return _injection(finding)
    return policy.permit(decision.rule)


def review(
    body: bytes, permit: Permit, call: Call, note: Callable[[Finding], None]
) -> bytes | Refusal:
    """Return what may pass of one JSON *body* of the reply to *call*: all of it, less what
    the caller may not see, or a refusal.

    *note* is told of a finding that refuses nothing.
    """
    duties = permit.duties
    if _passes_unparsed(body, duties):
        return body
    try:
        value = _parsed(body)
        finding = _found(duties.inspect, body, value)
        if finding is not None:
            return _injection(finding)
        seen = _found(duties.watch, body, value)
        if seen is not None:
            note(seen)
        return body if duties.hidden is None else _shortened(body, value, duties.hidden(call))
    except MessageError as error:
        return Refusal(Reason.UPSTREAM, "the server's reply cannot be read", detail=str(error))


def reads_as_json(body: bytes) -> bool:
    """Whether *body* is strict JSON, whatever it is called."""
    try:
        parse_value(body)
    except MessageError:
        return False
    return True


def _passes_unparsed(body: bytes, duties: Duties) -> bool:
    """Whether the bytes alone show that nothing in *body* concerns any duty."""
    inspect, watch = duties.inspect, duties.watch
    if inspect is None and watch is None:
        # NUL would be the mark of an encoding in which some reader sees other characters.
        return b"\0" not in body and not may_concern(body)
    return (inspect is None or inspect.is_clean(body)) and (watch is None or watch.is_clean(body))


def _parsed(body: bytes) -> object:
    try:
        return parse(body).value
    except MessageError as error:
        if error.code == NOT_JSON:
            raise
        return parse_value(body)


def _found(inspector: Inspector | None, body: bytes, value: object) -> Finding | None:
    return None if inspector is None else inspector.message(body, value)


def _shortened(body: bytes, value: object, hidden: Iterable[tuple[Listing, Visible]]) -> bytes:
    edited = False
    for listing, visible in hidden:
        shorter = filter_list(body, listing, visible, None if edited else value)
        edited = edited or shorter is not body
        body = shorter
    return make_private(body, None if edited else value)


def _read(call: Call, policy: Policy, now: float) -> Verdict | None:
    """Read the body of *call* as a message where it must be one, or where it says it is.

    None if the call is yet to be decided; a batch is decided here.
    """
    needed = policy.needs_messages and call.path not in policy.plain_paths
    scanned = policy.requests.refuse is not None
    if (needed or scanned) and call.content_encoding not in ("", "identity"):
        return _unsupported(f"`Content-Encoding: {call.content_encoding[:40]}` cannot be read here")
    if call.content_type != _PLAIN_JSON and not _is_json(call.content_type):
        if needed:
            return _unsupported("`Content-Type` must be application/json in UTF-8")
        return None
    try:
        call.message = parse(call.body, policy.max_depth)
        if needed:
            check_headers(call.message, call.headers if call.mirrors is None else call.mirrors)
    except MessageError as error:
        if needed and call.body.lstrip()[:1] == b"[" and takes_batches(call.headers):
            return _decide_each(call, policy, now)
        if needed or (scanned and error.code == NOT_JSON):
            return Refusal(Reason.INVALID, str(error), code=error.code)
    return None


def _decide_each(call: Call, policy: Policy, now: float) -> Verdict:
    """Decide a batch: every message in it as if it had come alone."""
    try:
        pieces = batch.split(call.body, policy.max_depth)
    except MessageError as error:
        return Refusal(Reason.INVALID, str(error), code=error.code)
    calls = [replace(call, body=piece, message=None) for piece in pieces]
    for one in calls:
        verdict = decide(one, policy, now)
        if type(verdict) is Refusal:
            call.message = one.message  # what the refusal answers, and the record names
            break
    else:
        call.batch = tuple(one.message for one in calls if one.message is not None)
    call.audited = tuple(dict.fromkeys(rule for one in calls for rule in one.audited))
    call.shadowed = _least([one.shadowed for one in calls])
    call.flagged = next((one.flagged for one in calls if one.flagged is not None), None)
    return verdict


def _least(shadowed: list[Decision | None]) -> Decision | None:
    """Return what would have become of a batch: what of the first message it would refuse."""
    refused = (one for one in shadowed if one is not None and not one.allowed)
    return next(refused, shadowed[0])


def _is_json(content_type: str) -> bool:
    """Whether *content_type* is JSON in UTF-8, the only charset that is read (RFC 8259 8.1)."""
    kind, *parameters = content_type.lower().split(";")
    # Each of them: of two, one reader takes the first and another one the last.
    charsets = ["".join(one.replace('"', "").split()) for one in parameters if "charset" in one]
    return kind.strip() == _PLAIN_JSON and all(one == "charset=utf-8" for one in charsets)


def _scan(call: Call, scans: Scans) -> Finding | None:
    if scans.note is not None:
        call.flagged = _look(call, scans.note)
    return None if scans.refuse is None else _look(call, scans.refuse)


def _look(call: Call, scanner: Scanner) -> Finding | None:
    if call.message is not None:
        return scanner.message(call.body, call.message.value)
    try:
        # JSON under another name: its escapes must not hide anything from the scan.
        value = parse_value(call.body)
    except MessageError:
        return scanner.raw(call.body) or scanner.raw(_unescaped(call.body))
    return scanner.message(call.body, value)


def _unescaped(body: bytes) -> bytes:
    """Return *body* as whoever takes it for JSON would read its strings, strict JSON or not."""
    # Without NUL, text in UTF-16 shows its ASCII characters too, as in a scan of raw bytes.
    text = _ESCAPE.sub(_escaped, body.replace(b"\0", b"").decode("utf-8", "ignore"))
    # Through UTF-16, where two escapes that are one character become it.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore").encode()


def _escaped(escape: re.Match[str]) -> str:
    if escape[1]:
        return chr(int(escape[1], 16))
    return _CONTROLS.get(escape[2], escape[2])


def _injection(finding: Finding) -> Refusal:
    detail = f"pattern `{finding.pattern}`" + (f" at {finding.path}" if finding.path else "")
    return Refusal(Reason.INJECTION, _INJECTION, rule=finding.rule, detail=detail)


def _unsupported(message: str) -> Refusal:
    return Refusal(Reason.INVALID, message, status=415)
