"""A refusal that no rule made names the rule that came nearest, and what it lacked."""

from __future__ import annotations

import pytest
from support.policies import allow, call, deny, message, rule, tool_call, when

from sidecar.policy.authz import RuleSet
from sidecar.policy.call import Call


def told(rules: RuleSet, asked: object) -> tuple[str, list[str]]:
    explanation = rules.explain(asked)  # type: ignore[arg-type]
    return str(explanation.nearest or ""), [str(one) for one in explanation.mismatches]


RULES = RuleSet(
    [
        allow(
            rule(namespaces=["other"], tools=["write"], paths=["/else"], hosts=["else"]), name="far"
        ),
        allow(rule(namespaces=["agent"], tools=["read_*", "search"], paths=["/mcp"]), name="near"),
    ]
)


def test_the_nearest_rule_and_what_it_lacked_are_named() -> None:
    assert told(RULES, tool_call("write")) == (
        "tools/near#0",
        ["`tools` must be `read_*` or `search`, here it is `write`"],
    )


def test_of_several_mismatches_each_is_named() -> None:
    _, mismatches = told(RULES, tool_call("delete", path="/x", principal=None))
    assert mismatches == [
        "`namespaces` must be `agent`",
        "`tools` must be `read_*` or `search`, here it is `delete`",
        "`paths` must be `/mcp`, here it is `/x`",
    ]


def test_session_traffic_is_explained_by_what_is_asked_of_it() -> None:
    assert told(RULES, message("ping", path="/x")) == (
        "tools/near#0",
        ["`paths` must be `/mcp`, here it is `/x`"],
    )


def test_a_negative_field_says_not() -> None:
    rules = RuleSet([allow(rule(not_tools=["delete"]))])
    assert told(rules, tool_call("delete"))[1] == [
        "`tools` must not be `delete`, here it is `delete`"
    ]


@pytest.mark.parametrize(
    ("condition", "field"),
    [
        (when("request.headers[x-key]", ["hidden"]), "request.headers[x-key]"),
        (when("request.auth.claims[role]", ["hidden"]), "request.auth.claims[role]"),
        (when("mcp.arguments[path]", ["hidden"]), "mcp.arguments[path]"),
    ],
)
def test_what_may_be_a_secret_is_not_told(condition: object, field: str) -> None:
    rules = RuleSet([allow(rule(condition))])  # type: ignore[arg-type]
    asked = tool_call(
        "read", {"path": "sesame"}, headers=[("x-key", "sesame")], claims={"role": "sesame"}
    )
    assert told(rules, asked)[1] == [f"`{field}` must be `hidden`"]


def test_of_several_sources_the_one_that_came_nearest_counts() -> None:
    rules = RuleSet([allow(rule(principals=["a"], ip_blocks=["1.1.1.1"]))])
    _, mismatches = told(rules, call(ip="1.1.1.1"))
    assert mismatches == ["`principals` must be `a`, here it is `cluster.local/ns/agent/sa/alice`"]


def test_a_subscription_is_explained_by_the_resource_that_failed() -> None:
    rules = RuleSet([allow(rule(resources=["a:*"]))])
    wanted = {"notifications": {"resourceSubscriptions": ["a:1", "b:1", "a:2"]}}
    assert told(rules, message("subscriptions/listen", wanted))[1] == [
        "`resources` must be `a:*`, here it is `b:1`"
    ]


def test_what_a_rule_decided_needs_no_nearest_rule() -> None:
    rules = RuleSet([deny(rule(tools=["x"])), allow(rule(tools=["y"]))])
    for name in ("x", "y"):
        explanation = rules.explain(tool_call(name))
        assert explanation.decision == rules.judge(tool_call(name))
        assert explanation.nearest is None


def test_without_an_allow_rule_there_is_no_nearest() -> None:
    assert told(RuleSet([]), call()) == ("", [])
    assert told(RuleSet([allow()]), call()) == ("", [])


@pytest.mark.parametrize(
    ("rules", "asked", "whole", "brief"),
    [
        (
            RULES,
            tool_call("write"),
            "no rule allows it; nearest tools/near#0: "
            "`tools` must be `read_*` or `search`, here it is `write`",
            "nearest tools/near#0: `tools` must be `read_*` or `search`",
        ),
        (
            RULES,
            tool_call("delete", path="/x", principal=None),
            "no rule allows it; nearest tools/near#0: `namespaces` must be `agent`, and 2 more",
            "nearest tools/near#0: `namespaces` must be `agent`, and 2 more",
        ),
        (RuleSet([]), call(), *["no ALLOW rule is for this workload"] * 2),
    ],
)
def test_it_is_told_in_one_line(rules: RuleSet, asked: Call, whole: str, brief: str) -> None:
    explanation = rules.explain(asked)
    assert (str(explanation), explanation.brief) == (whole, brief)


def test_of_rules_that_lack_as_much_the_callers_own_is_nearest() -> None:
    rules = RuleSet(
        [
            allow(rule(namespaces=["other"], tools=["write"]), name="others"),
            allow(rule(namespaces=["agent"], tools=["read"]), name="own"),
        ]
    )
    assert told(rules, tool_call("write"))[0] == "tools/own#0"


def test_of_many_values_some_are_told() -> None:
    rules = RuleSet([allow(rule(tools=[f"t{number}" for number in range(9)]))])
    (mismatch,) = rules.explain(tool_call("write")).mismatches
    assert str(mismatch) == (
        "`tools` must be `t0` or `t1` or `t2` or `t3` or 5 more, here it is `write`"
    )
