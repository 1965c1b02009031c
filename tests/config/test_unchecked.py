"""What validation refuses is taken as Istio's compiler takes it, and no further."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.policies import call

from sidecar.config.parse import parse
from sidecar.config.unchecked import unchecked
from sidecar.policy.authz import RuleSet
from sidecar.policy.spec import Action

BAD_PORT = {"ports": ["80", "notaport"]}


def policy(spec: Any, kind: str = "AuthorizationPolicy", **metadata: Any) -> Any:
    text = json.dumps({"kind": kind, "metadata": {"name": "p", **metadata}, "spec": spec})
    (node,) = parse(text.encode(), "f.yaml").documents
    return unchecked(node, "prod")


def allowed(spec: Any, port: int) -> bool:
    return RuleSet([policy(spec).policy], default=Action.ALLOW).judge(call(port=port)).allowed


def test_an_allow_rule_that_is_unsound_is_left_out_and_its_policy_stays() -> None:
    spec = {"rules": [{"to": [{"operation": BAD_PORT}]}]}
    assert not allowed(spec, 80)
    spec["rules"].append({"to": [{"operation": {"ports": ["81"]}}]})
    assert (allowed(spec, 80), allowed(spec, 81)) == (False, True)


def test_a_deny_rule_is_read_without_what_is_unsound_in_it() -> None:
    spec = {"action": "DENY", "rules": [{"to": [{"operation": BAD_PORT}]}]}
    assert (allowed(spec, 80), allowed(spec, 81)) == (False, True)
    spec["rules"] = [{"to": [{"operation": {"ports": ["notaport"]}}]}]
    assert (allowed(spec, 80), allowed(spec, 81)) == (False, False)


def test_everything_else_comes_out_as_it_is_written() -> None:
    found = policy(
        {
            "selector": {"matchLabels": {"app": "a"}},
            "rules": [
                {
                    "from": [{"source": {"notIpBlocks": ["x"]}}],
                    "when": [{"key": "a.b", "values": ["c"], "notValues": ["d"]}],
                }
            ],
        },
        namespace="own",
        annotations={"istio.io/dry-run": "true"},
    )
    assert (found.metadata.namespace, found.dry_run) == ("own", True)
    assert found.spec.selector.match_labels == {"app": "a"}
    (rule,) = found.spec.rules
    assert rule.sources[0].not_ip_blocks == ("x",)
    (condition,) = rule.conditions
    assert (condition.key, condition.values, condition.not_values) == ("a.b", ("c",), ("d",))
    assert policy({"action": "AUDIT"}).metadata.namespace == "prod"
    assert policy({"rules": [{}]}).spec.rules[0].sources == ()


@pytest.mark.parametrize(
    "spec",
    [
        [],
        {"action": "CUSTOM", "rules": [{}]},
        {"rules": []},
        {"rules": {}},
        {"rules": [{"from": []}]},
        {"rules": [{"from": [{}]}]},
        {"rules": [{"from": [{"source": {}}]}]},
        {"rules": [{"from": [{"source": {"principals": []}}]}]},
        {"rules": [{"from": [{"source": {"principals": [[]]}}]}]},
        {"rules": [{"from": [{"source": {"nobody": ["a"]}}]}]},
        {"rules": [{"when": [{"key": "source.ip"}]}]},
        {"selector": [], "rules": [{"to": [{"operation": BAD_PORT}]}]},
        {"selector": {"matchLabels": {"a": "*"}}, "rules": [{"to": [{"operation": BAD_PORT}]}]},
    ],
)
def test_what_would_ask_less_than_its_author_meant_is_not_taken(spec: Any) -> None:
    assert policy(spec) is None


def test_only_policies_are_taken() -> None:
    assert policy({"rules": [{"to": [{"operation": BAD_PORT}]}]}, kind="Inspection") is None
