"""Rules that name MCP: what they match, what a session needs, what cannot be determined."""

from __future__ import annotations

from typing import Any

import pytest
from support.policies import allow, audit, call, deny, message, rule, tool_call, when

from sidecar.policy.authz import RuleSet
from sidecar.policy.call import Call
from sidecar.policy.spec import Action, RuleSpec

RESPONSE = b'{"jsonrpc":"2.0","id":7,"result":{"roots":[]}}'
NOT_A_MESSAGE = call("POST", "/mcp", body=b"hello")
NO_BODY = call("POST", "/mcp")
INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}}


def allowed(spec: RuleSpec, asked: Call) -> bool:
    return RuleSet([allow(spec)]).judge(asked).allowed


def denied(spec: RuleSpec, asked: Call) -> bool:
    return not RuleSet([deny(spec)], default=Action.ALLOW).judge(asked).allowed


def subscription(*uris: str) -> Call:
    wanted = {"resourceSubscriptions": list(uris)} if uris else {}
    return message("subscriptions/listen", {"notifications": wanted})


SESSION = [
    message("initialize", INITIALIZE),
    message("ping"),
    message("notifications/initialized"),
    message("notifications/cancelled", {"requestId": 1}),
    message("server/discover"),
    message("tools/list"),
    message("prompts/list"),
    message("resources/list"),
    message("resources/templates/list"),
    subscription(),
    call("POST", "/mcp", body=RESPONSE),
    call("GET", "/mcp"),
    call("DELETE", "/mcp"),
]
SESSION_NAMES = [
    one.message.method or "a response" if one.message else one.method for one in SESSION
]
each_session_call = pytest.mark.parametrize("asked", SESSION, ids=SESSION_NAMES)


@pytest.mark.parametrize(
    ("spec", "asked", "wanted"),
    [
        (rule(tools=["read_*", "search"]), tool_call("read_file"), True),
        (rule(tools=["read_*", "search"]), tool_call("search"), True),
        (rule(tools=["read_*", "search"]), tool_call("search2"), False),
        (rule(tools=["*"]), tool_call("anything"), True),
        (rule(tools=["*"], not_tools=["delete_*"]), tool_call("delete_all"), False),
        (rule(not_tools=["delete_*"]), tool_call("read"), True),
        (rule(tools=["read"]), message("prompts/get", {"name": "read"}), False),
        (rule(prompts=["greet"]), message("prompts/get", {"name": "greet"}), True),
        (
            rule(resources=["file:///srv/*"]),
            message("resources/read", {"uri": "file:///srv/a"}),
            True,
        ),
        (
            rule(resources=["file:///srv/*"]),
            message("resources/read", {"uri": "file:///etc/a"}),
            False,
        ),
        (rule(mcp_methods=["tools/*"]), tool_call("anything"), True),
        (rule(mcp_methods=["tools/*"]), message("prompts/get", {"name": "greet"}), False),
        (rule(not_mcp_methods=["logging/setLevel"]), message("logging/setLevel"), False),
        (rule(when("mcp.tool", ["read"])), tool_call("read"), True),
        (rule(when("mcp.tool", [], ["read"])), tool_call("read"), False),
        (rule(when("mcp.method", ["tools/call"])), tool_call("read"), True),
        (rule(when("mcp.prompt", ["greet"])), message("prompts/get", {"name": "greet"}), True),
        (rule(when("mcp.resource", ["a:*"])), message("resources/read", {"uri": "a:b"}), True),
    ],
)
def test_a_field_of_mcp_is_matched_as_every_other(
    spec: RuleSpec, asked: Call, wanted: bool
) -> None:
    assert allowed(spec, asked) is wanted
    assert denied(spec, asked) is wanted


@pytest.mark.parametrize(
    ("reference", "wanted"),
    [
        ({"type": "ref/prompt", "name": "greet"}, True),
        ({"type": "ref/prompt", "name": "other"}, False),
        ({"type": "ref/resource", "uri": "file:///srv/a"}, True),
        ({"type": "ref/resource", "uri": "file:///etc/a"}, False),
    ],
)
def test_a_completion_is_a_use_of_what_it_completes(reference: Any, wanted: bool) -> None:
    rules = RuleSet([allow(rule(prompts=["greet"]), rule(resources=["file:///srv/*"]))])
    asked = message("completion/complete", {"ref": reference, "argument": {}})
    assert rules.judge(asked).allowed is wanted


@pytest.mark.parametrize(
    ("uris", "wanted"),
    [(["a:1"], True), (["a:1", "b:1"], True), (["a:1", "c:1"], False), (["c:1", "a:1"], False)],
)
def test_a_subscription_is_allowed_if_each_resource_is(uris: list[str], wanted: bool) -> None:
    rules = RuleSet([allow(rule(resources=["a:*"]), rule(resources=["b:*"]))])
    assert rules.judge(subscription(*uris)).allowed is wanted


def test_a_subscription_is_denied_if_one_resource_is() -> None:
    rules = RuleSet([deny(rule(resources=["secret:*"]))], default=Action.ALLOW)
    assert rules.judge(subscription("a:1")).allowed
    assert not rules.judge(subscription("a:1", "secret:1")).allowed


@each_session_call
@pytest.mark.parametrize("field", ["tools", "prompts", "resources"])
def test_who_may_use_something_may_open_a_session(field: str, asked: Call) -> None:
    assert allowed(rule(methods=["POST"], paths=["/mcp"], **{field: ["x"]}), asked)


@each_session_call
def test_a_condition_on_arguments_does_not_close_the_session(asked: Call) -> None:
    spec = rule(
        when("mcp.argumentPaths[path]", ["/srv/*"]), when("mcp.tool", ["x"]), tools=["read_*"]
    )
    assert allowed(spec, asked)


@each_session_call
@pytest.mark.parametrize(
    "spec",
    [
        rule(tools=["x"], mcp_methods=["tools/call"]),
        rule(tools=["x"], paths=["/other"]),
        rule(tools=["x"], hosts=["other.tools"]),
        rule(tools=["x"], ports=["81"]),
        rule(tools=["x"], principals=["cluster.local/ns/agent/sa/bob"]),
        rule(when("request.headers[x-env]", ["test"]), tools=["x"]),
        rule(when("mcp.method", ["tools/call"]), tools=["x"]),
        rule(when("mcp.tool", ["x"])),
    ],
)
def test_a_session_is_only_open_to_whom_the_rule_is_for(spec: RuleSpec, asked: Call) -> None:
    assert not allowed(spec, asked)


@pytest.mark.parametrize(
    ("spec", "asked"),
    [
        (rule(tools=["x"], not_methods=["DELETE"]), call("DELETE", "/mcp")),
        (rule(tools=["x"], not_mcp_methods=["ping"]), message("ping")),
        (rule(tools=["x"], not_paths=["/mcp"]), message("ping")),
        (rule(tools=["x"]), call("PUT", "/mcp")),
        (rule(tools=["x"]), message("ping", http="PUT")),
        (rule(tools=["x"]), call("GET", "/mcp", body=b"bytes")),
        (rule(tools=["x"]), message("logging/setLevel", {"level": "debug"})),
        (rule(tools=["x"]), message("unknown/method")),
    ],
)
def test_what_is_no_session_traffic_or_is_excluded_stays_out(spec: RuleSpec, asked: Call) -> None:
    assert not allowed(spec, asked)


@each_session_call
@pytest.mark.parametrize("field", ["tools", "prompts", "resources"])
def test_a_deny_never_widens_to_the_session(field: str, asked: Call) -> None:
    assert not denied(rule(**{field: ["*"]}), asked)


def test_a_method_without_a_tool_has_a_missing_attribute() -> None:
    asked = message("logging/setLevel", {"level": "debug"})
    assert not allowed(rule(tools=["*"]), asked)
    assert allowed(rule(not_tools=["*"]), asked)
    assert denied(rule(not_tools=["x"]), asked)
    assert not denied(rule(tools=["*"]), asked)


@pytest.mark.parametrize("asked", [NOT_A_MESSAGE, NO_BODY], ids=["no message", "no body"])
@pytest.mark.parametrize(
    "spec",
    [
        rule(tools=["x"]),
        rule(not_tools=["x"]),
        rule(prompts=["*"]),
        rule(not_prompts=["x"]),
        rule(resources=["*"]),
        rule(not_resources=["x"]),
        rule(mcp_methods=["*"]),
        rule(not_mcp_methods=["x"]),
        rule(when("mcp.tool", [], ["x"])),
        rule(when("mcp.method", [], ["x"])),
        rule(when("mcp.protocolVersion", [], ["x"])),
        rule(when("mcp.arguments[a]", [], ["x"])),
        rule(when("mcp.argumentPaths[a]", [], ["x"])),
    ],
)
def test_what_cannot_be_determined_is_never_allowed_and_always_denied(
    spec: RuleSpec, asked: Call
) -> None:
    assert not allowed(spec, asked)
    assert denied(spec, asked)


def test_a_deny_of_something_else_leaves_what_cannot_be_determined_alone() -> None:
    assert not denied(rule(tools=["x"], paths=["/other"]), NOT_A_MESSAGE)


ARGUMENTS = [
    # arguments of the call, whether the positive and the negative condition on
    # mcp.arguments[path][to] and `/srv/*` hold, None where neither may help
    ({"path": {"to": "/srv/a"}}, True),
    ({"path": {"to": "/etc/a"}}, False),
    ({"path": {"to": ""}}, False),
    ({"path": {}}, False),
    ({}, False),
    (None, False),
    ({"path": {"to": 5}}, None),
    ({"path": {"to": True}}, None),
    ({"path": {"to": None}}, None),
    ({"path": {"to": ["/srv/a"]}}, None),
    ({"path": [{"to": "/srv/a"}]}, None),
    ({"path": "/srv/a"}, None),
    ({"path": None}, None),
    ({"Path": {"to": "/srv/a"}}, None),
    ({"path": {"To": "/srv/a"}}, None),
    ({"path": {"to": "/srv/a", "TO": "/etc/a"}}, None),
    ({"path": {"to": "/srv/a"}, "ſ": 1}, True),
]


@pytest.mark.parametrize(("arguments", "holds"), ARGUMENTS)
@pytest.mark.parametrize("key", ["mcp.arguments[path][to]", "mcp.argumentPaths[path][to]"])
def test_an_argument_is_a_string_at_the_end_of_its_path(
    key: str, arguments: Any, holds: bool | None
) -> None:
    asked = tool_call("read", arguments)
    assert allowed(rule(when(key, ["/srv/*"])), asked) is (holds is True)
    assert allowed(rule(when(key, [], ["/srv/*"])), asked) is (holds is False)
    assert denied(rule(when(key, ["/srv/*"])), asked) is (holds is not False)
    assert denied(rule(when(key, [], ["/srv/*"])), asked) is (holds is not True)


@pytest.mark.parametrize(
    "path",
    [
        "/srv/../etc/passwd",
        "/srv/..",
        "../srv/a",
        "/srv/a\\..\\..\\b",
        "/srv\\a",
        "/srv/%2e%2e/etc",
        "/srv/..%2fetc",
        "/srv/%5cetc",
        "/srv/a%00.txt",
    ],
)
def test_a_file_that_could_be_elsewhere_cannot_be_determined(path: str) -> None:
    asked = tool_call("read", {"path": path})
    for spec in (
        rule(when("mcp.argumentPaths[path]", ["/srv/*"])),
        rule(when("mcp.argumentPaths[path]", [], ["/else/*"])),
    ):
        assert not allowed(spec, asked)
        assert denied(spec, asked)


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/etc//shadow", "/etc/shadow"),
        ("/etc/./shadow", "/etc/shadow"),
        ("//etc/shadow", "/etc/shadow"),
        ("/etc/shadow/", "/etc/shadow"),
        ("/etc/shadow/.", "/etc/shadow"),
        ("./notes", "notes"),
        ("/srv/", "/srv/*"),
        ("/srv/a..b", "/srv/*"),
        ("/srv/a.", "/srv/a."),
        ("file:///srv//a", "file:///srv/a"),
        ("/", "/"),
        (".", "."),
    ],
)
def test_a_file_has_one_spelling(path: str, pattern: str) -> None:
    asked = tool_call("read", {"path": path})
    assert allowed(rule(when("mcp.argumentPaths[path]", [pattern])), asked)
    assert denied(rule(when("mcp.argumentPaths[path]", [pattern])), asked)


@pytest.mark.parametrize("uri", ["file:///srv/../etc/a", "file:///srv/%2E%2e/a", "a:/b/..\\c"])
def test_a_resource_that_climbs_cannot_be_determined(uri: str) -> None:
    asked = message("resources/read", {"uri": uri})
    assert not allowed(rule(resources=["file:///srv/*", "a:*"]), asked)
    assert denied(rule(resources=["else:*"]), asked)


def test_a_resource_with_dots_in_a_name_is_what_it_is() -> None:
    asked = message("resources/read", {"uri": "note:///srv/a..b/%2fc"})
    assert allowed(rule(resources=["note:///srv/*"]), asked)


VERSION = "mcp-protocol-version"
META = {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}


@pytest.mark.parametrize(
    ("asked", "version"),
    [
        (message("ping", headers=[(VERSION, "2025-11-25")]), "2025-11-25"),
        (message("ping", META), "2026-07-28"),
        (message("ping", META, headers=[(VERSION, "2026-07-28")]), "2026-07-28"),
        (message("ping", META, headers=[(VERSION, "2025-11-25")]), None),
        (message("ping", headers=[(VERSION, "a"), (VERSION, "b")]), None),
        (message("initialize", INITIALIZE), "2025-11-25"),
        (message("ping"), ""),
    ],
)
def test_a_protocol_version_is_what_header_and_message_agree_on(
    asked: Call, version: str | None
) -> None:
    spec = rule(when("mcp.protocolVersion", ["*"], ["2025-11-25"]))
    assert allowed(spec, asked) is (version not in (None, "", "2025-11-25"))
    assert denied(rule(when("mcp.protocolVersion", [version or "x"])), asked) is (version != "")


def test_rules_that_name_mcp_say_so() -> None:
    assert RuleSet([allow(rule(tools=["x"]))]).uses_mcp
    assert RuleSet([deny(rule(not_resources=["x"]))]).uses_mcp
    assert RuleSet([allow(rule(when("mcp.arguments[a]", ["x"])))]).uses_mcp
    assert not RuleSet([allow(rule(paths=["/mcp"], methods=["POST"]))]).uses_mcp


@pytest.mark.parametrize("spec", [audit(rule(tools=["x"])), allow(rule(tools=["x"]), dry_run=True)])
def test_what_decides_nothing_does_not_make_bodies_messages(spec: Any) -> None:
    rules = RuleSet([spec])
    assert rules.reads_mcp
    assert not rules.uses_mcp
