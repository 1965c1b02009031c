"""Indexes and remembered standings change the cost of a decision, never the decision."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.long import times
from support.policies import allow, call, deny, message, policy, rule, tool_call, when

from sidecar.policy.attributes import Mesh
from sidecar.policy.authz import RuleSet
from sidecar.policy.call import Call, Peer
from sidecar.policy.facts import facts_of
from sidecar.policy.plan import Named, Standings
from sidecar.policy.rule import compile_rule
from sidecar.policy.spec import Action, OperationSpec, PolicySpec, RuleSpec, SourceSpec
from sidecar.policy.verdict import Decision
from sidecar.spiffe.id import SpiffeId

NAMES = ["read", "read_a", "write_a", "a"]
PATTERNS = [*NAMES, "read*", "*_a", "*", "r*"]
PATHS = ["/mcp", "/mcp/a", "/x"]
PATH_PATTERNS = [*PATHS, "/mcp*", "*a", "*", "/{*}", "/mcp/{**}"]
PEOPLE = ["alice", "bob"]


def some(values: Iterable[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(list(values)), max_size=2, unique=True).map(tuple)


SOURCES = st.builds(
    SourceSpec,
    principals=some(f"cluster.local/ns/agent/sa/{one}" for one in PEOPLE),
    not_principals=some(["*bob"]),
    ip_blocks=some(["10.0.0.1", "10.0.0.0/8", "11.0.0.0/8"]),
    remote_ip_blocks=some(["10.0.0.0/8", "12.0.0.0/8"]),
)
OPERATIONS = st.builds(
    OperationSpec,
    tools=some(PATTERNS),
    not_tools=some(PATTERNS),
    prompts=some(NAMES[:1]),
    mcp_methods=some(["tools/call", "tools/*", "ping"]),
    paths=some(PATH_PATTERNS),
    not_paths=some(PATH_PATTERNS),
    hosts=some(["files.tools", "*.TOOLS", "else"]),
    methods=some(["GET", "POST", "P*"]),
)
RULES = st.builds(
    RuleSpec,
    sources=st.lists(SOURCES, max_size=2).map(tuple),
    operations=st.lists(OPERATIONS, max_size=2).map(tuple),
    conditions=st.lists(
        st.sampled_from([when("request.headers[x]", ["1"]), when("mcp.arguments[a]", ["1"])]),
        max_size=1,
    ).map(tuple),
)
POLICIES = st.lists(
    st.builds(
        PolicySpec,
        name=st.just("p"),
        namespace=st.just("n"),
        action=st.sampled_from([Action.ALLOW, Action.DENY]),
        rules=st.lists(RULES, max_size=3).map(tuple),
    ),
    max_size=4,
)
MORE = st.fixed_dictionaries(
    {
        "principal": st.sampled_from(
            [None, *(f"spiffe://cluster.local/ns/agent/sa/{p}" for p in PEOPLE)]
        ),
        "ip": st.sampled_from(["10.0.0.1", "10.0.0.2", "11.1.1.1"]),
        "path": st.sampled_from(PATHS),
        "remote_ip": st.sampled_from(["", "12.0.0.1"]),
        "headers": st.sampled_from([[], [("x", "1")]]),
        "host": st.sampled_from(["files.tools", "FILES.tools", "else", "other"]),
    }
)
CALLS: st.SearchStrategy[Callable[..., Call]] = st.sampled_from(
    [
        *(lambda _name=name, **more: tool_call(_name, {"a": "1"}, **more) for name in NAMES),
        lambda **more: message("ping", **more),
        lambda **more: message("prompts/get", {"name": "read"}, **more),
        lambda **more: call("GET", **more),
        lambda **more: call("POST", body=b"no message", **more),
    ]
)


def _matches(pattern: str, text: str) -> bool:
    """What one value means, said another way than the product says it."""
    if "{" in pattern:
        pieces = re.escape(pattern).replace(r"\{\*\}", "[^/]+").replace(r"\{\*\*\}", ".*")
        return re.fullmatch(pieces, text) is not None
    if pattern.startswith("*"):
        return text != "" and text.endswith(pattern[1:])
    if pattern.endswith("*"):
        return text.startswith(pattern[:-1])
    return text == pattern


def _asked(values: Sequence[str], excluded: Sequence[str], text: str | None, wide: bool) -> bool:
    if text is None:
        return wide or not (values or excluded)
    wanted = not values or any(_matches(one, text) for one in values)
    return wanted and not any(_matches(one, text) for one in excluded)


def _source(spec: SourceSpec, asked: Call) -> bool:
    principals = _asked(spec.principals, spec.not_principals, asked.peer.principal, False)
    blocks = ((spec.ip_blocks, asked.peer.ip), (spec.remote_ip_blocks, asked.remote_ip))
    return principals and all(
        not blocks or any(ip_address(ip or asked.peer.ip) in ip_network(one) for one in blocks)
        for blocks, ip in blocks
    )


def _operation(spec: OperationSpec, asked: Call, wide: bool, session: bool) -> bool:
    found = asked.message
    unknown = found is None and asked.method == "POST"
    known = None if unknown else ""
    place = _asked(spec.paths, spec.not_paths, asked.path, wide) and _asked(
        [one.lower() for one in spec.hosts], (), asked.host.lower(), wide
    )
    if session:
        named = (spec.tools or spec.prompts) and not spec.mcp_methods
        return place and bool(named)
    return (
        place
        and _asked(spec.methods, (), asked.method, wide)
        and _asked(spec.tools, spec.not_tools, found.tool or "" if found else known, wide)
        and _asked(spec.prompts, (), found.prompt or "" if found else known, wide)
        and _asked(spec.mcp_methods, (), found.method if found else known, wide)
    )


def _rule(spec: RuleSpec, asked: Call, action: Action) -> bool:
    wide = action is Action.DENY
    found = asked.message
    opening = asked.method == "GET" if found is None else found.method == "ping"
    for session in (False, True):
        if session and (wide or not opening):
            continue
        arguments = (found.arguments or {}) if found else None
        held = {
            "request.headers[x]": (b"x", b"1") in asked.headers,
            "mcp.arguments[a]": session
            or (wide and found is None and asked.method == "POST")
            or (arguments or {}).get("a") == "1",
        }
        if (
            (not spec.sources or any(_source(one, asked) for one in spec.sources))
            and any(
                _operation(one, asked, wide, session)
                for one in spec.operations or (OperationSpec(),)
            )
            and all(held[one.key] for one in spec.conditions)
        ):
            return True
    return False


def _decided_plainly(policies: list[PolicySpec], asked: Call) -> bool:
    """Judge every rule by itself, from its spec: nothing compiled, indexed or remembered."""

    def matched(action: Action) -> bool:
        return any(
            _rule(spec, asked, action)
            for one in policies
            if one.action is action
            for spec in one.rules
        )

    return not matched(Action.DENY) and matched(Action.ALLOW)


@settings(max_examples=times(150, 5_000))
@given(POLICIES, CALLS, MORE)
def test_compiled_rules_decide_as_their_specs_say(
    policies: list[PolicySpec], make: Callable[..., Call], more: dict[str, object]
) -> None:
    asked = make(**more)
    assert RuleSet(policies).judge(asked).allowed is _decided_plainly(policies, asked)


@given(POLICIES, st.lists(st.tuples(CALLS, MORE), min_size=2, max_size=6))
def test_a_rule_set_decides_the_same_however_often_it_is_asked(
    policies: list[PolicySpec], asked: list[tuple[Callable[..., Call], dict[str, object]]]
) -> None:
    rules = RuleSet(policies)
    calls = [make(**more) for make, more in asked]
    fresh = [RuleSet(policies).judge(one) for one in calls]
    assert [rules.judge(one) for one in calls] == fresh
    assert [rules.judge(one) for one in reversed(calls)] == fresh[::-1]


def test_the_first_rule_that_matches_is_the_one_that_is_named() -> None:
    rules = RuleSet(
        [
            allow(rule(paths=["/else"]), rule(methods=["POST"]), name="a"),
            allow(rule(tools=["read*"]), rule(tools=["read"]), name="b"),
        ]
    )
    assert str(rules.judge(tool_call("read")).rule) == "tools/a#1"
    rules = RuleSet([allow(rule(tools=["*ad"]), rule(tools=["read"]), rule(tools=["r*"]))])
    assert str(rules.judge(tool_call("read")).rule) == "tools/allow#0"
    assert str(rules.judge(tool_call("rest")).rule) == "tools/allow#2"


def standings(*specs: RuleSpec) -> Standings:
    of = policy(Action.ALLOW, *specs)
    return Standings([compile_rule(one, of, index, Mesh()) for index, one in enumerate(specs)])


def peer(number: int, ip: str = "10.0.0.1") -> Peer:
    return Peer(SpiffeId("cluster.local", f"/ns/agent/sa/a{number}"), ip)


def test_peers_whom_the_rules_see_alike_share_one_standing() -> None:
    known = standings(rule(namespaces=["agent"], tools=["x"]), rule(tools=["y"]))
    assert known.of(peer(1)) is known.of(peer(2))
    assert known.of(peer(1)) is not known.of(Peer(None, "10.0.0.1"))


def test_an_address_matters_only_where_a_rule_asks_for_it() -> None:
    known = standings(rule(ip_blocks=["10.0.0.1"], tools=["x"]))
    assert known.of(peer(1)) is not known.of(peer(1, "10.0.0.2"))
    known = standings(rule(when("connection.sni", ["a"]), tools=["x"]))
    one, other = Peer(None, "10.0.0.1", sni="a"), Peer(None, "10.0.0.1", sni="b")
    assert len(known.of(one).clauses) == 1
    assert len(known.of(other).clauses) == 0


def test_what_is_remembered_of_peers_is_bounded() -> None:
    specs = [rule(principals=[f"cluster.local/ns/agent/sa/a{n}"], tools=["x"]) for n in range(300)]
    known = standings(*specs)
    first = known.of(peer(0))
    for number in range(300):
        assert len(known.of(peer(number)).clauses) == 1
    assert known.of(peer(0)) is first  # still remembered by its name
    for number in range(1000, 1000 + 4096):
        assert not known.of(peer(number)).clauses
    assert known.of(peer(0)) is not first
    assert len(known.of(peer(0)).clauses) == 1


NAMED = [
    rule(tools=["read"], paths=["/mcp*"], hosts=["a"], ports=["443"], not_mcp_methods=["ping"]),
    rule(principals=["cluster.local/ns/agent/*"], not_tools=["drop"], methods=["POST"]),
    rule(when("connection.sni", ["a"]), resources=["file:///a"]),
]
ASKING_MORE = [
    rule(when("request.headers[x]", ["1"])),
    rule(when("mcp.arguments[a]", ["1"]), tools=["read"]),
    rule(when("mcp.argumentPaths[a]", not_values=["/etc/*"])),
    rule(when("mcp.protocolVersion", ["2025-06-18"])),
    rule(when("request.auth.claims[a]", ["1"])),
    rule(when("destination.ip", ["10.0.0.1"])),
    rule(when("remote.ip", ["10.0.0.1"])),
    rule(request_principals=["*"]),
    rule(remote_ip_blocks=["10.0.0.0/8"]),
]


@pytest.mark.parametrize("specs", [NAMED, []])
def test_decisions_are_remembered_where_rules_ask_for_names_alone(specs: list[RuleSpec]) -> None:
    assert standings(*specs).of(peer(1)).decisions == {}


@pytest.mark.parametrize("spec", ASKING_MORE)
def test_no_decision_is_remembered_where_a_rule_asks_for_more(spec: RuleSpec) -> None:
    assert standings(*NAMED, spec).of(peer(1)).decisions is None


def test_a_remembered_decision_is_of_the_same_names_alone() -> None:
    rules = RuleSet([allow(rule(tools=["read"], paths=["/mcp"], hosts=["a"], ports=["443"]))])
    good = {"path": "/mcp", "host": "a", "port": 443}
    for _ in range(2):
        assert rules.judge(tool_call("read", **good)).allowed
        for other in ({"path": "/x"}, {"host": "b"}, {"port": 80}):
            assert not rules.judge(tool_call("read", **{**good, **other})).allowed
        # GET carries no message: what a server makes of one there is not known.
        assert not rules.judge(replace(tool_call("read", **good), method="GET")).allowed
        assert not rules.judge(tool_call("drop", **good)).allowed
    assert len(_remembered(rules)) == 5


def test_what_is_remembered_of_decisions_is_bounded() -> None:
    rules = RuleSet([allow(rule(tools=["read"]))])
    for number in range(400):
        assert rules.judge(tool_call("read", path=f"/{number}")).allowed
    assert len(_remembered(rules)) == 256
    assert rules.judge(tool_call("read", path="/" + "a" * 600)).allowed
    assert max(len(path) for path, *_ in _remembered(rules)) < 600


def _remembered(rules: RuleSet) -> dict[Named, Decision]:
    known = rules._http.standings.of(tool_call("read").peer).decisions
    assert known is not None
    return known


@pytest.mark.parametrize("count", [1, 1000])
def test_a_call_meets_only_rules_that_name_what_it_names(count: int) -> None:
    specs = [rule(tools=[f"tool_{n}", f"more_{n}_*"], paths=["/mcp"]) for n in range(count)]
    rules = RuleSet([allow(*specs), deny(*(rule(tools=[f"bad_{n}"]) for n in range(count)))])
    asked = tool_call("tool_0")
    assert rules.judge(asked).allowed
    plan = rules._http.standings.of(asked.peer).allow
    assert len(plan._met(facts_of(asked))) == 1
