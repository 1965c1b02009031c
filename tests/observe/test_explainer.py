"""Denials are explained while there is time, and whoever causes many does not get more of it."""

from __future__ import annotations

from collections.abc import Callable

from support.policies import allow, rule, tool_call

from sidecar.observe.explainer import Explainer
from sidecar.policy.authz import RuleSet

RULES = RuleSet([allow(rule(tools=["read"]))])


def clock(*moments: float) -> Callable[[], float]:
    left = list(moments)
    return lambda: left.pop(0)


def test_the_first_denial_is_explained() -> None:
    said = Explainer().why(tool_call("write"), RULES, clock(0.0, 0.001))
    assert said == (
        "no rule allows it; nearest tools/allow#0: `tools` must be `read`, here it is `write`"
    )


def test_the_next_waits_for_fifty_times_what_the_last_one_took() -> None:
    explainer = Explainer()
    asked = tool_call("write")
    assert explainer.why(asked, RULES, clock(10.0, 10.5))
    assert not explainer.why(asked, RULES, clock(35.4))
    assert explainer.why(asked, RULES, clock(35.5, 35.5))
    assert explainer.why(asked, RULES, clock(35.5, 35.5))
