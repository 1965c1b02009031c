"""Replies, and what `review` makes of them under a policy.

passed(answer({"tools": [{"name": "no"}]}), permit(RULES))
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sidecar.mcp.edit import CONCERNS
from sidecar.policy.authz import RuleSet
from sidecar.policy.decide import Policy, Scans, review
from sidecar.policy.scan.scanner import Pattern, Scanner
from sidecar.policy.spec import PolicySpec
from sidecar.policy.verdict import Duties, Finding, Permit, Refusal

from .decisions import HARM, SOURCE
from .policies import allow, message, rule

ASKED = message("tools/list")
RULES = [
    allow(
        rule(tools=["ok_*"]),
        rule(prompts=["ok_*"]),
        rule(resources=["file:///ok/*"]),
        rule(mcp_methods=["*/list", "*/*/list"]),
    )
]
OPEN = [allow(rule())]


class Doubtful(Scanner):
    """A scanner without the short cut: nothing is ever certainly clean."""

    __slots__ = ()

    def is_clean(self, body: bytes) -> bool:
        return False


def scanner(
    text: str = HARM, name: str = "harm", kind: Callable[..., Scanner] = Scanner
) -> Scanner:
    """A scanner of one pattern, as a snapshot makes it: it does not clear lists."""
    return kind([Pattern(name, text, SOURCE)], concerns=CONCERNS)


REFUSE, NOTE = Scans(refuse=scanner()), Scans(note=scanner())
BOTH = Scans(refuse=scanner(), note=scanner("odd words", "odd"))
EVERY_SCAN = {"nothing": Scans(), "refuse": REFUSE, "note": NOTE, "both": BOTH}


def permit(policies: list[PolicySpec], scans: Scans = REFUSE, **more: Any) -> Permit:
    """The permit of a policy whose replies are scanned."""
    return Policy(RuleSet(policies, **more), replies=scans).permit(None)


def reviewed(body: bytes, by: Permit) -> tuple[bytes | Refusal, list[Finding]]:
    """What passes of *body*, and what was noted."""
    noted: list[Finding] = []
    return review(body, by, ASKED, noted.append), noted


def passed(body: bytes, by: Permit) -> bytes:
    """What passes of *body*; it is not refused."""
    found, _ = reviewed(body, by)
    assert isinstance(found, bytes), found
    return found


def refused(body: bytes, by: Permit) -> Refusal:
    """Why *body* is refused."""
    found, _ = reviewed(body, by)
    assert isinstance(found, Refusal), found
    return found


def answer(result: object, **more: object) -> bytes:
    """A reply with *result*."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result, **more}).encode()


def text(content: str) -> bytes:
    """The reply of a tool that says *content*."""
    return answer({"content": [{"type": "text", "text": content}]})


def slow(by: Permit) -> Permit:
    """The same permit, but that its scans never clear a reply unparsed."""
    duties = by.duties
    return replace(
        by,
        duties=Duties(
            scanner(kind=Doubtful) if duties.inspect is not None else None,
            scanner("odd words", "odd", Doubtful) if duties.watch is not None else None,
            duties.hidden,
        ),
    )
