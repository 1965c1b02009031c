"""May this call happen: each check, and that they come in their order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.decisions import (
    HARM,
    MCP,
    NOTE,
    NOW,
    PLAIN,
    REFUSE,
    asked,
    policy,
    refused,
    scanner,
    summary,
    tool,
)
from support.policies import ALICE, allow, deny, rule, when

from sidecar.errors import Where
from sidecar.policy.authz import RuleSet
from sidecar.policy.decide import DENIED, Policy, Scans, decide
from sidecar.policy.spec import Action, PolicySpec
from sidecar.policy.verdict import Permit, Reason

# -- the order of the checks

BROKEN = b"{"
EVERYTHING_WRONG = {"encoding": "br", "content_type": "text/html", "not_after": NOW - 1}


def test_each_check_comes_before_the_next() -> None:
    """A call with every fault, mended one by one: the verdict names the first that is left."""
    policies = [allow(rule(tools=["read"])), deny(rule(tools=["drop"]))]
    compiled = policy(policies)
    bad = tool("drop", HARM)
    modern = ((b"mcp-method", b"tools/list"),)
    steps = [
        (asked(BROKEN, **EVERYTHING_WRONG), ("unauthenticated", 401, -32003)),  # type: ignore[arg-type]
        (asked(BROKEN, "text/html", encoding="br"), ("invalid", 415, -32600)),
        (asked(BROKEN, "text/html"), ("invalid", 415, -32600)),
        (asked(BROKEN, headers=modern), ("invalid", 400, -32700)),
        (asked(bad, headers=modern), ("invalid", 400, -32020)),
        (asked(bad), ("denied", 403, -32004)),
        (asked(tool("read", HARM)), ("injection", 403, -32005)),
        (asked(tool("read")), "permit"),
    ]
    assert [summary(decide(one, compiled, NOW)) for one, _ in steps] == [want for _, want in steps]
    messages = [decide(one, compiled, NOW) for one, _ in steps[1:3]]
    assert [refused(one).message.split("`")[1] for one in messages] == [
        "Content-Encoding: br",
        "Content-Type",
    ]


@pytest.mark.parametrize(
    ("not_after", "wanted"),
    [
        (NOW + 0.001, "permit"),
        (float("inf"), "permit"),
        (NOW, ("unauthenticated", 401, -32003)),
        (NOW - 1, ("unauthenticated", 401, -32003)),
        (0.0, ("unauthenticated", 401, -32003)),
    ],
)
def test_a_certificate_counts_until_it_ends(not_after: float, wanted: object) -> None:
    assert summary(decide(asked(not_after=not_after), policy(PLAIN), NOW)) == wanted


def test_an_expired_callers_body_is_not_even_read() -> None:
    call = asked(tool(), not_after=NOW)
    decide(call, policy(MCP), NOW)
    assert call.message is None


# -- what can be read

TYPES = {
    "application/json": True,
    "Application/JSON": True,
    " application/json ": True,
    "application/json; charset=utf-8": True,
    'application/json;charset="UTF-8"': True,
    "application/json ; charset = utf-8 ; x=y": True,
    "application/json; profile=x": True,
    "application/json; charset=utf-16": False,
    "application/json; charset=utf-80": False,
    "application/json; charset=utf-7": False,
    "application/json; charset=utf-8; charset=utf-7": False,
    "application/json; charset=utf-7; charset=utf-8": False,
    "application/json; charset=iso-8859-1; x=charset=utf-8": False,
    "application/json; charset\t=\tutf-7": False,
    "application/json; charset*=utf-7''x": False,
    "application/jsonp": False,
    "application/problem+json": False,
    "text/json": False,
    "text/plain": False,
    "multipart/form-data; boundary=application/json": False,
    "": False,
}


@pytest.mark.parametrize(("content_type", "is_json"), TYPES.items())
def test_where_a_rule_asks_about_mcp_a_body_is_json_in_utf_8(
    content_type: str, is_json: bool
) -> None:
    wanted = "permit" if is_json else ("invalid", 415, -32600)
    for scans in (Scans(), REFUSE, NOTE):
        assert summary(decide(asked(tool(), content_type), policy(MCP, scans), NOW)) == wanted


@pytest.mark.parametrize("content_type", TYPES)
def test_elsewhere_a_body_may_be_of_any_type(content_type: str) -> None:
    for scans in (Scans(), REFUSE, NOTE):
        verdict = decide(asked(tool(), content_type), policy(PLAIN, scans), NOW)
        assert summary(verdict) == "permit"


@pytest.mark.parametrize("encoding", ["gzip", "br", "Identity", "identity, gzip", "x" * 500])
@pytest.mark.parametrize(
    ("policies", "scans", "wanted"),
    [
        (MCP, Scans(), 415),
        (MCP, REFUSE, 415),
        (PLAIN, REFUSE, 415),
        (PLAIN, Scans(), 0),
        # What only notes has nothing to refuse with.
        (PLAIN, NOTE, 0),
    ],
)
def test_a_compressed_body_is_refused_where_it_would_have_to_be_read(
    encoding: str, policies: list[PolicySpec], scans: Scans, wanted: int
) -> None:
    verdict = decide(asked(tool(), encoding=encoding), policy(policies, scans), NOW)
    if not wanted:
        assert summary(verdict) == "permit"
        return
    refusal = refused(verdict)
    assert (refusal.reason, refusal.status, refusal.code) == (Reason.INVALID, wanted, -32600)
    assert encoding[:40] in refusal.message
    assert len(refusal.message) < 120


@pytest.mark.parametrize("encoding", ["", "identity"])
def test_a_body_that_is_not_compressed_is_read(encoding: str) -> None:
    assert summary(decide(asked(tool(), encoding=encoding), policy(MCP), NOW)) == "permit"


def test_without_a_body_there_is_nothing_to_read() -> None:
    call = asked(b"", "text/html", encoding="gzip")
    assert summary(decide(call, policy([*MCP, *PLAIN]), NOW)) == "permit"
    assert call.message is None
    assert summary(decide(call, policy(MCP), NOW)) == ("denied", 403, -32004)


BODIES: list[tuple[bytes | str | dict[str, Any], int]] = [
    (BROKEN, -32700),
    (b"not json", -32700),
    (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', -32700),
    (b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"ping"}', -32700),
    (json.dumps(tool()).encode("utf-16-le"), -32700),
    ('{"jsonrpc":"2.0","id":1,"method":"ping","params":' + "[" * 65 + "]" * 65 + "}", -32700),
    (tool(Name="drop"), -32700),
    (b"[]", -32600),
    (b'"text"', -32600),
    (b"{}", -32600),
    ({"jsonrpc": "1.0", "id": 1, "method": "ping"}, -32600),
    ({"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "read"}}, -32600),
    ({"jsonrpc": "2.0", "id": 1, "method": "Tools/Call", "params": {"name": "read"}}, -32600),
    (tool(""), -32602),
    (tool(arguments=[]), -32602),
    ({"jsonrpc": "2.0", "id": 1, "method": "tools/call"}, -32602),
]


@pytest.mark.parametrize(("body", "code"), BODIES)
def test_where_a_rule_asks_about_mcp_a_body_is_one_message(
    body: bytes | str | dict[str, Any], code: int
) -> None:
    for scans in (Scans(), REFUSE):
        call = asked(body)
        assert summary(decide(call, policy(MCP, scans), NOW)) == ("invalid", 400, code)
        assert call.message is None


@pytest.mark.parametrize(("body", "code"), BODIES)
def test_elsewhere_only_what_a_scan_cannot_read_is_refused(
    body: bytes | str | dict[str, Any], code: int
) -> None:
    scanned = ("invalid", 400, -32700) if code == -32700 else "permit"
    assert summary(decide(asked(body), policy(PLAIN, REFUSE), NOW)) == scanned
    for scans in (NOTE, Scans()):
        assert summary(decide(asked(body), policy(PLAIN, scans), NOW)) == "permit"


def test_how_deep_a_message_may_be_is_the_policys_to_say() -> None:
    body = tool(arguments={"a": [[1]]})
    for depth, wanted in ((5, "permit"), (4, ("invalid", 400, -32700))):
        assert summary(decide(asked(body), policy(MCP, max_depth=depth), NOW)) == wanted


# -- header and body


@pytest.mark.parametrize(
    ("headers", "fits"),
    [
        ({}, True),
        ({"mcp-method": "tools/call"}, True),
        ({"mcp-method": "tools/call", "mcp-name": "read"}, True),
        ({"mcp-method": "tools/list"}, False),
        ({"mcp-method": "Tools/Call"}, False),
        ({"mcp-name": "drop"}, False),
        ({"mcp-protocol-version": "2026-07-28"}, False),  # which needs the other two
        (
            {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "read"},
            True,
        ),
    ],
)
def test_headers_say_what_the_body_says(headers: dict[str, str], fits: bool) -> None:
    pairs = tuple((name.encode(), value.encode()) for name, value in headers.items())
    verdict = decide(asked(tool(), headers=pairs), policy(MCP), NOW)
    assert summary(verdict) == ("permit" if fits else ("invalid", 400, -32020))
    # Where no rule reads the message, nothing is decided by what the header says.
    assert summary(decide(asked(tool(), headers=pairs), policy(PLAIN), NOW)) == "permit"


# -- plain paths


@pytest.mark.parametrize(
    ("path", "body", "content_type", "wanted"),
    [
        ("/plain", b"a=b", "text/plain", "permit"),
        ("/plain", b"{", "text/plain", "permit"),
        ("/plain", b"{}", "application/json", "permit"),
        ("/plain", b"a=b", "", "permit"),
        ("/plain/more", b"a=b", "text/plain", ("invalid", 415, -32600)),
        ("/Plain", b"a=b", "text/plain", ("invalid", 415, -32600)),
        ("/mcp", b"a=b", "text/plain", ("invalid", 415, -32600)),
        ("/plain", HARM.encode(), "text/plain", ("injection", 403, -32005)),
        ("/plain", b'{"a":"\\u0069' + HARM[1:].encode() + b'"}', "", ("injection", 403, -32005)),
        ("/plain", b"{", "application/json", ("invalid", 400, -32700)),
    ],
)
def test_on_plain_paths_bodies_need_not_be_messages_but_are_scanned(
    path: str, body: bytes, content_type: str, wanted: object
) -> None:
    compiled = policy([*MCP, *PLAIN], plain_paths=frozenset({"/plain"}))
    assert summary(decide(asked(body, content_type, path=path), compiled, NOW)) == wanted


def test_a_plain_path_opens_no_tool() -> None:
    compiled = policy(MCP, plain_paths=frozenset({"/plain"}))
    for body, content_type in ((b"a=b", "text/plain"), (b"{}", "application/json")):
        verdict = decide(asked(body, content_type, path="/plain"), compiled, NOW)
        assert summary(verdict) == ("denied", 403, -32004)
    call = asked(tool("drop"), path="/plain")
    assert summary(decide(call, compiled, NOW)) == ("denied", 403, -32004)
    disguised = policy([*PLAIN, deny(rule(tools=["drop"]))], plain_paths=frozenset({"/plain"}))
    call = asked(tool("drop"), path="/plain")
    assert summary(decide(call, disguised, NOW)) == ("denied", 403, -32004)


# -- what the rules say


def test_a_denial_names_the_rule_to_the_log_and_nothing_to_the_caller() -> None:
    at = Where("rules.yaml", 12)
    deny_it = PolicySpec("no-drops", "tools", Action.DENY, (rule(), rule(tools=["drop"])), at)
    allow_it = PolicySpec("some", "tools", Action.ALLOW, (rule(tools=["*"]),))
    compiled = policy([allow_it, PolicySpec("x", "tools", Action.DENY, deny_it.rules[1:], at)])
    refusal = refused(decide(asked(tool("drop")), compiled, NOW))
    assert (refusal.reason, refusal.message) == (Reason.DENIED, "RBAC: access denied")
    assert (str(refusal.rule), refusal.rule and refusal.rule.at) == ("tools/x#0", at)
    first = refused(decide(asked(tool("read")), policy([allow_it, deny_it]), NOW))
    assert str(first.rule) == "tools/no-drops#0"


def test_where_nothing_allows_there_is_no_rule_to_name() -> None:
    for policies in ([], [allow(rule(tools=["other"]))]):
        refusal = refused(decide(asked(tool()), policy(policies), NOW))
        assert (refusal.message, refusal.rule, refusal.detail) == (DENIED, None, "")


def test_a_caller_without_an_identity_is_judged_like_any_other() -> None:
    named = [allow(rule(principals=[ALICE.removeprefix("spiffe://")]))]
    assert summary(decide(asked(principal=None), policy(named), NOW)) == ("denied", 403, -32004)
    assert summary(decide(asked(), policy(named), NOW)) == "permit"
    assert summary(decide(asked(principal=None), policy(PLAIN), NOW)) == "permit"


# -- permits


def test_there_is_one_permit_for_each_rule() -> None:
    compiled = policy([allow(rule(tools=["read"]), rule(tools=["write"]))])
    first = decide(asked(tool("read")), compiled, NOW)
    second = decide(asked(tool("write")), compiled, NOW)
    assert decide(asked(tool("read", "b"), path="/other"), compiled, NOW) is first
    assert isinstance(first, Permit)
    assert isinstance(second, Permit)
    assert (str(first.rule), str(second.rule)) == ("tools/allow#0", "tools/allow#1")
    assert first.duties is second.duties


def test_a_permit_by_default_names_no_rule() -> None:
    compiled = policy([], default=Action.ALLOW)
    permit = decide(asked(), compiled, NOW)
    assert permit is decide(asked(path="/other"), compiled, NOW)
    assert isinstance(permit, Permit)
    assert permit.rule is None


@pytest.mark.parametrize(
    ("policies", "replies", "hides"),
    [
        (PLAIN, Scans(), False),
        (MCP, Scans(), True),
        (PLAIN, REFUSE, False),
        (PLAIN, NOTE, False),
        (MCP, Scans(scanner(), scanner()), True),
        ([allow(rule(tools=["a"]), dry_run=True), *PLAIN], Scans(), False),
        ([allow(rule(when("mcp.tool", ["a"])))], Scans(), True),
    ],
)
def test_a_permit_carries_what_the_reply_must_go_through(
    policies: list[PolicySpec], replies: Scans, hides: bool
) -> None:
    compiled = Policy(RuleSet(policies), requests=REFUSE, replies=replies)
    duties = compiled.permit(None).duties
    assert (duties.inspect, duties.watch) == (replies.refuse, replies.note)
    assert (duties.hidden is not None) is hides
    assert duties.none is (replies == Scans() and not hides)


# -- whatever comes


@given(
    st.one_of(
        st.binary(max_size=60),
        st.sampled_from([json.dumps(tool(name)).encode() for name in ("read", "drop")]),
        st.sampled_from([f'{{"a":1,"a":"{HARM}"}}'.encode(), HARM.encode()]),
    ),
    st.sampled_from(sorted(TYPES)),
    st.sampled_from(["", "gzip"]),
    st.sampled_from(["/mcp", "/plain"]),
)
def test_no_body_raises_and_none_without_the_right_tool_is_allowed(
    body: bytes, content_type: str, encoding: str, path: str
) -> None:
    compiled = policy(MCP, plain_paths=frozenset({"/plain"}))
    call = asked(body, content_type, encoding=encoding, path=path)
    if isinstance(decide(call, compiled, NOW), Permit):
        assert call.message is not None
        assert call.message.tool == "read"
    decide(asked(body, content_type, encoding=encoding), policy(PLAIN, NOTE), NOW)
