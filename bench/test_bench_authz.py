"""What the rules cost a call: 1 000 of them, as 200 policies of 5, that match or do not.

`test_decide` is the whole of it, the body's parse and the headers' check included, for a
tool that is called again and again. `test_allow` and `test_refuse` are the rules alone, asked
as if for the first time: what they once said of a tool is remembered where they ask for names
alone (`test_ask_again`). The cost must grow with the rules that match a call
(`test_rules_that_match`) and not with those there are (`test_rules_there_are`).
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from sidecar.mcp.message import parse
from sidecar.policy.authz import RuleSet
from sidecar.policy.call import Call, Peer
from sidecar.policy.decide import Policy, decide
from sidecar.policy.path import Normalisation, normalise
from sidecar.policy.spec import (
    Action,
    ConditionSpec,
    OperationSpec,
    PolicySpec,
    RuleSpec,
    SourceSpec,
)
from sidecar.policy.verdict import Decision, Permit
from sidecar.spiffe.id import SpiffeId

POLICIES, RULES = 200, 5
Tools = Callable[[int, int], tuple[str, ...]]


def call(tool: str, arguments: dict[str, str] | None = None) -> Call:
    params = {"name": tool, "arguments": arguments or {}}
    body = json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    ).encode()
    peer = Peer(SpiffeId("cluster.local", "/ns/agent/sa/a150"), "10.0.0.1")
    headers = [(b"host", b"files.tools"), (b"content-type", b"application/json")]
    return Call(peer, "POST", "/mcp", "", "files.tools", headers, body, message=parse(body))


def policies(
    tools: Tools,
    principal: Callable[[int], str],
    action: Action = Action.ALLOW,
    conditions: tuple[ConditionSpec, ...] = (),
    count: int = POLICIES,
) -> list[PolicySpec]:
    return [
        PolicySpec(
            f"p{number}",
            "tools",
            action,
            tuple(
                RuleSpec(
                    (SourceSpec(principals=(principal(number),)),),
                    (
                        OperationSpec(
                            methods=("POST",), paths=("/mcp",), tools=tools(number, index)
                        ),
                    ),
                    conditions,
                )
                for index in range(RULES)
            ),
        )
        for number in range(count)
    ]


def own(number: int) -> str:
    return f"cluster.local/ns/agent/sa/a{number}"


def anyone(_: int) -> str:
    return "cluster.local/ns/agent/*"


def exact(number: int, index: int) -> tuple[str, ...]:
    return (f"tool_{number}_{index}",)


def prefix(number: int, index: int) -> tuple[str, ...]:
    return (f"tool_{number}_{index}*",)


def bad(number: int, index: int) -> tuple[str, ...]:
    return (f"bad_{number}_{index}",)


PATH = ConditionSpec("mcp.argumentPaths[path]", ("/srv/*",))
SETS = {
    "rules for others": policies(exact, own),
    "exact tools": policies(exact, anyone),
    "prefixes of tools": policies(prefix, anyone),
    "denies beside": [*policies(bad, anyone, Action.DENY), *policies(prefix, anyone)],
    "arguments": policies(exact, anyone, conditions=(PATH,)),
    "rules that all match": policies(lambda *_: ("tool_*",), anyone),
}


def judge_first(rules: RuleSet, asked: Call) -> Decision:
    """Have *asked* judged by rules that remember no decision."""
    known = rules._http.standings.of(asked.peer).decisions
    if known is not None:
        known.clear()
    return rules.judge(asked)


@pytest.mark.parametrize("name", SETS)
def test_allow(benchmark: BenchmarkFixture, name: str) -> None:
    rules = RuleSet(SETS[name])
    asked = call("tool_150_4", {"path": "/srv/a"})
    assert benchmark(judge_first, rules, asked).allowed


@pytest.mark.parametrize("name", SETS)
def test_ask_again(benchmark: BenchmarkFixture, name: str) -> None:
    rules = RuleSet(SETS[name])
    asked = call("tool_150_4", {"path": "/srv/a"})
    assert benchmark(rules.judge, asked).allowed


@pytest.mark.parametrize("name", ["exact tools", "prefixes of tools", "rules for others"])
def test_refuse(benchmark: BenchmarkFixture, name: str) -> None:
    rules = RuleSet(SETS[name])
    assert not benchmark(judge_first, rules, call("other_150_4")).allowed


_VERSION = (b"mcp-protocol-version", b"2025-11-25")


@pytest.mark.parametrize("name", [*SETS, "one rule"])
def test_decide(benchmark: BenchmarkFixture, name: str) -> None:
    rules = SETS.get(name) or [policies(exact, anyone)[150]]
    policy = Policy(RuleSet(rules))
    asked = call("tool_150_4", {"path": "/srv/a"})
    asked.content_type, asked.mirrors = "application/json", (_VERSION,)
    assert isinstance(benchmark(decide, asked, policy, 0.0), Permit)


@pytest.mark.parametrize("matching", [1, 10, 100, 1000])
def test_rules_that_match(benchmark: BenchmarkFixture, matching: int) -> None:
    """1 000 rules; so many of them name the tool, and only the last one's header is there."""
    one = ConditionSpec("request.headers[x-none]", ("a",))
    found = policies(exact, anyone, count=(1000 - matching) // RULES)
    found += policies(lambda *_: ("tool",), anyone, conditions=(one,), count=matching // RULES)
    found += policies(lambda *_: ("tool",), anyone, count=1)
    rules = RuleSet(found)
    assert benchmark(judge_first, rules, call("tool")).allowed


@pytest.mark.parametrize("count", [1, 10, 100, 1000])
def test_rules_there_are(benchmark: BenchmarkFixture, count: int) -> None:
    """So many policies of 5, of which one rule matches."""
    rules = RuleSet(policies(exact, anyone, count=count))
    assert benchmark(judge_first, rules, call("tool_0_4")).allowed


def test_one_rule(benchmark: BenchmarkFixture) -> None:
    rules = RuleSet(SETS["exact tools"][:1])
    assert benchmark(judge_first, rules, call("tool_0_0")).allowed


def test_meet_a_peer_for_the_first_time(benchmark: BenchmarkFixture) -> None:
    asked = call("tool_150_4")

    def fresh() -> tuple[tuple[RuleSet, Call], dict[str, object]]:
        return (RuleSet(SETS["rules for others"]), asked), {}

    benchmark.pedantic(lambda rules, one: rules.judge(one), setup=fresh, rounds=20)


def test_compile(benchmark: BenchmarkFixture) -> None:
    benchmark(RuleSet, SETS["exact tools"])


def test_view_of_the_tools(benchmark: BenchmarkFixture) -> None:
    rules = RuleSet(SETS["prefixes of tools"])
    assert benchmark(rules.visible_tools, call("tool_150_4")) is not None


def test_explain(benchmark: BenchmarkFixture) -> None:
    rules = RuleSet(SETS["exact tools"])
    assert benchmark(rules.explain, call("other")).nearest is not None


@pytest.mark.parametrize("path", ["/mcp", "/a/%2e%2e/b//c"])
def test_normalise(benchmark: BenchmarkFixture, path: str) -> None:
    benchmark(normalise, path, Normalisation.MERGE_SLASHES)
