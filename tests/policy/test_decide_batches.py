"""Batches: an array is what its messages are, each judged as if it had come alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.decisions import HARM, MCP, NOTE, NOW, PLAIN, REFUSE, asked, policy, summary, tool
from support.policies import allow, audit, deny, rule

from sidecar.policy.call import Call
from sidecar.policy.decide import Scans, decide
from sidecar.policy.spec import Action
from sidecar.policy.verdict import Permit

VERSION = b"mcp-protocol-version"
OLD = ((VERSION, b"2025-03-26"),)
NEWS = {"jsonrpc": "2.0", "method": "notifications/initialized"}
RULES = [allow(rule(tools=["read", "list"]))]
DENIED = ("denied", 403, -32004)
INVALID = ("invalid", 400, -32600)


def with_id(number: int, message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "id": number}


def batch(*messages: Any, headers: tuple[tuple[bytes, bytes], ...] = OLD) -> Call:
    return asked(json.dumps(messages), headers=headers)


def test_a_batch_of_allowed_messages_is_allowed_and_known() -> None:
    call = batch(with_id(1, tool("read")), NEWS, with_id(2, tool("list")))
    verdict = decide(call, policy(RULES), NOW)
    assert isinstance(verdict, Permit)
    assert str(verdict.rule) == "tools/allow#0"
    assert call.message is None
    assert [(one.method, one.tool) for one in call.batch] == [
        ("tools/call", "read"),
        ("notifications/initialized", None),
        ("tools/call", "list"),
    ]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_denied_message_refuses_all_wherever_it_stands(place: int) -> None:
    messages = [with_id(1, tool("read")), with_id(2, tool("list"))]
    messages.insert(place, with_id(3, tool("drop")))
    call = batch(*messages)
    assert summary(decide(call, policy(RULES), NOW)) == DENIED
    assert call.message is not None
    assert (call.message.id, call.message.tool) == (3, "drop")
    assert call.batch == ()


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ((), "permit"),
        (OLD, "permit"),
        (((VERSION, b"2024-11-05"),), INVALID),
        (((VERSION, b"2025-06-18"),), INVALID),
        (((VERSION, b"2025-11-25"),), INVALID),
        (((VERSION, b"2026-07-28"),), INVALID),
        (((VERSION, b"2025-03-26 "),), INVALID),
        (((VERSION, b""),), INVALID),
        ((*OLD, (VERSION, b"2025-06-18")), INVALID),
        ((*OLD, *OLD), ("invalid", 400, -32020)),
    ],
)
def test_only_one_version_has_batches(
    headers: tuple[tuple[bytes, bytes], ...], wanted: object
) -> None:
    call = batch(with_id(1, tool("read")), headers=headers)
    assert summary(decide(call, policy(RULES), NOW)) == wanted


@pytest.mark.parametrize(
    ("messages", "wanted"),
    [
        ([], INVALID),
        ([[tool("read")]], INVALID),
        ([tool("read"), tool("read")], INVALID),
        ([tool("read"), "read"], INVALID),
        ([tool("read"), {**tool("list"), "id": 2, "Method": "tools/call"}], None),
        ([tool("read"), {**tool("list"), "id": 2, "params": {"name": 5}}], None),
    ],
)
def test_what_is_no_message_is_none_in_a_batch(messages: list[Any], wanted: object) -> None:
    found = summary(decide(batch(*messages), policy(RULES), NOW))
    assert found == wanted or (wanted is None and found[0] == "invalid")


def test_headers_that_mirror_a_body_must_agree_with_each_message() -> None:
    mirrors = (*OLD, (b"mcp-method", b"tools/call"), (b"mcp-name", b"read"))
    same = batch(with_id(1, tool("read")), with_id(2, tool("read")), headers=mirrors)
    assert summary(decide(same, policy(RULES), NOW)) == "permit"
    other = batch(with_id(1, tool("read")), with_id(2, tool("list")), headers=mirrors)
    assert summary(decide(other, policy(RULES), NOW)) == ("invalid", 400, -32020)


def test_each_message_is_scanned() -> None:
    clean, bad = with_id(1, tool("read")), with_id(2, tool("list", HARM))
    injected = ("injection", 403, -32005)
    assert summary(decide(batch(clean, bad), policy(RULES, REFUSE), NOW)) == injected
    call = batch(clean, bad)
    assert summary(decide(call, policy(RULES, NOTE), NOW)) == "permit"
    assert call.flagged is not None
    assert call.flagged.pattern == "harm"


def test_audit_and_dry_run_see_every_message() -> None:
    would = deny(rule(tools=["list"]), dry_run=True, name="would")
    seen = audit(rule(tools=["read"]), rule(tools=["list"]))
    call = batch(with_id(1, tool("read")), with_id(2, tool("list")))
    assert summary(decide(call, policy([*RULES, would, seen]), NOW)) == "permit"
    assert [str(one) for one in call.audited] == ["tools/audit#0", "tools/audit#1"]
    assert call.shadowed is not None
    assert not call.shadowed.allowed
    assert str(call.shadowed.rule) == "tools/would#0"


def test_a_deny_holds_in_a_batch_too() -> None:
    compiled = policy([deny(rule(tools=["drop"]))], Scans(), default=Action.ALLOW)
    assert summary(decide(batch(tool("read")), compiled, NOW)) == "permit"
    call = batch(tool("read"), with_id(2, tool("drop")))
    assert summary(decide(call, compiled, NOW)) == DENIED


def test_where_no_rule_asks_about_mcp_an_array_is_a_body_as_any() -> None:
    modern = ((VERSION, b"2026-07-28"),)
    assert summary(decide(batch([], headers=modern), policy(PLAIN, Scans()), NOW)) == "permit"
    harm = batch(tool("read", HARM), headers=modern)
    assert summary(decide(harm, policy(PLAIN, REFUSE), NOW)) == ("injection", 403, -32005)


def test_a_single_message_is_no_batch() -> None:
    call = asked(tool("read"))
    assert summary(decide(call, policy(MCP), NOW)) == "permit"
    assert call.batch == ()
