"""What may be listed is what some arguments could make it allowed to use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.policies import ALICE, allow, audit, call, deny, message, rule, tool_call, when

from sidecar.policy.authz import RuleSet
from sidecar.policy.spec import Action, PolicySpec

NAMES = ["read", "read_all", "write", "delete"]


def listed(policies: list[PolicySpec], default: Action = Action.DENY, **more: object) -> list[str]:
    view = RuleSet(policies, default=default).visible_tools(message("tools/list", **more))
    return [name for name in NAMES if view is None or view(name)]


@pytest.mark.parametrize(
    ("policies", "default", "wanted"),
    [
        ([allow(rule(tools=["read*"]))], Action.DENY, ["read", "read_all"]),
        ([allow(rule(tools=["*"], not_tools=["de*"]))], Action.DENY, NAMES[:3]),
        (
            [allow(rule(tools=["*"])), deny(rule(tools=["write"]))],
            Action.DENY,
            [*NAMES[:2], "delete"],
        ),
        ([deny(rule(tools=["write"]))], Action.ALLOW, [*NAMES[:2], "delete"]),
        ([deny(rule(tools=["write"]))], Action.DENY, []),
        ([allow(rule(when("mcp.tool", ["read"])))], Action.DENY, ["read"]),
        ([allow(rule(mcp_methods=["tools/list"]))], Action.DENY, []),
        ([allow(rule(mcp_methods=["tools/*"]))], Action.DENY, NAMES),
        ([allow(rule(prompts=["read"]))], Action.DENY, []),
        ([allow(rule(tools=["read"], paths=["/mcp"]))], Action.DENY, ["read"]),
        ([allow(rule(tools=["read"], paths=["/other"]))], Action.DENY, []),
        ([allow(rule(tools=["read"], methods=["POST"]))], Action.DENY, ["read"]),
        ([allow(rule(tools=["read"], methods=["GET"]))], Action.DENY, []),
        ([allow(rule(tools=["read"], namespaces=["agent"]))], Action.DENY, ["read"]),
        ([allow(rule(tools=["read"], namespaces=["other"]))], Action.DENY, []),
        ([allow(rule(tools=["read"]), dry_run=True)], Action.ALLOW, NAMES),
        ([audit(rule(tools=["read"])), allow(rule(tools=["write"]))], Action.DENY, ["write"]),
    ],
)
def test_a_tool_is_listed_if_it_could_be_called(
    policies: list[PolicySpec], default: Action, wanted: list[str]
) -> None:
    assert listed(policies, default) == wanted


ARGUMENT = when("mcp.arguments[path]", ["/srv/*"])
NOT_ARGUMENT = when("mcp.argumentPaths[path]", [], ["/srv/*"])


@pytest.mark.parametrize("condition", [ARGUMENT, NOT_ARGUMENT])
def test_arguments_could_be_what_an_allow_wants_and_what_a_deny_does_not(condition: object) -> None:
    assert listed([allow(rule(condition, tools=["read"]))]) == ["read"]
    assert listed([allow(rule(tools=["read"])), deny(rule(condition, tools=["read"]))]) == ["read"]


def test_what_a_rule_asks_of_each_call_is_asked_of_the_list() -> None:
    policies = [
        allow(rule(when("request.headers[x]", ["1"]), tools=["read"])),
        allow(rule(tools=["write"], request_principals=["i/s"])),
    ]
    assert listed(policies) == []
    assert listed(policies, headers=[("x", "1")]) == ["read"]
    assert listed(policies, claims={"iss": "i", "sub": "s"}) == ["write"]


@pytest.mark.parametrize(
    "policies",
    [
        [allow(rule(paths=["/mcp"]))],
        [allow(rule(mcp_methods=["*"]))],
        [allow(rule()), deny(rule(mcp_methods=["logging/setLevel"]))],
        [],
    ],
)
def test_where_nothing_would_be_hidden_there_is_nothing_to_ask(policies: list[PolicySpec]) -> None:
    assert RuleSet(policies).visible_tools(message("tools/list")) is None


def test_prompts_and_resources_are_listed_by_their_own_rules() -> None:
    rules = RuleSet([allow(rule(prompts=["read"]), rule(resources=["file:///srv/*"]))])
    prompts = rules.visible_prompts(message("prompts/list"))
    resources = rules.visible_resources(message("resources/list"))
    assert prompts is not None
    assert resources is not None
    assert [prompts(name) for name in ("read", "write")] == [True, False]
    uris = ("file:///srv/a", "file:///etc/a", "file:///srv/../etc/a")
    assert [resources(uri) for uri in uris] == [True, False, False]


def test_the_same_caller_at_the_same_place_gets_the_same_view() -> None:
    rules = RuleSet([allow(rule(tools=["read"], paths=["/mcp"]))])
    view = rules.visible_tools(message("tools/list"))
    assert view is rules.visible_tools(tool_call("read"))
    assert view is rules.visible_tools(call("GET", "/mcp"))
    assert view is not rules.visible_tools(message("tools/list", path="/else"))


def test_views_that_hide_the_same_are_the_same_even_where_headers_matter() -> None:
    rules = RuleSet([allow(rule(when("request.headers[x]", ["1"]), tools=["read"]))])
    seen = {
        id(rules.visible_tools(message("tools/list", headers=[("x", value)])))
        for value in ("1", "2", "3", "1")
    }
    assert len(seen) == 2


def test_what_is_remembered_of_views_is_bounded() -> None:
    rules = RuleSet([allow(rule(tools=["read"], not_paths=["/no"]))])
    for number in range(2000):
        view = rules.visible_tools(message("tools/list", path=f"/{number}"))
        assert view is not None
        assert view("read")
    for number in range(10_000):
        assert not view(f"tool_{number}")
    assert view("read")
    assert len(view._known) <= 4096


PATTERNS = st.lists(st.sampled_from([*NAMES, "read*", "*e", "*"]), max_size=2)


@given(PATTERNS, PATTERNS, PATTERNS, st.booleans())
def test_a_call_that_is_allowed_is_of_a_tool_that_is_listed(
    tools: list[str], excluded: list[str], denied: list[str], conditional: bool
) -> None:
    conditions = [ARGUMENT] if conditional else []
    policies = [allow(rule(*conditions, tools=tools, not_tools=excluded))]
    if denied:
        policies.append(deny(rule(*conditions, tools=denied)))
    rules = RuleSet(policies)
    names = listed(policies)
    for name in NAMES:
        calls = [tool_call(name, {"path": path}, principal=ALICE) for path in ("/srv/a", "/b")]
        if any(rules.judge(one).allowed for one in calls):
            assert name in names
        elif not conditional:
            assert name not in names
