"""What becomes of unsound parts and of what only HTTP has: ALLOW narrows, DENY widens."""

from __future__ import annotations

import pytest
from support.policies import allow, call, deny, message, policy, rule, tool_call, when

from sidecar.policy.attributes import Mesh
from sidecar.policy.authz import RuleSet
from sidecar.policy.rule import compile_rule
from sidecar.policy.spec import Action, OperationSpec, RuleSpec, SourceSpec

UNSOUND = [
    rule(ports=["http"]),
    rule(ports=["80", "http"]),
    rule(not_ports=["http"]),
    rule(ip_blocks=["a.b.c.d"]),
    rule(not_ip_blocks=["10.0.0.0/99"]),
    rule(paths=["/{*}x"]),
    rule(paths=[""]),
    rule(tools=[""]),
    rule(service_accounts=["a/b/c"]),
    rule(when("source.ip", ["a"])),
    rule(when("destination.port", ["x"])),
    rule(when("request.headers[]", ["x"])),
    rule(when("request.auth.claims[a][", ["x"])),
    rule(when("mcp.arguments", ["x"])),
    rule(when("no.such.key", ["x"])),
]


@pytest.mark.parametrize("spec", UNSOUND)
def test_an_allow_rule_with_an_unsound_part_is_left_out_and_named(spec: RuleSpec) -> None:
    rules = RuleSet([allow(spec)], default=Action.ALLOW)
    assert not rules.judge(call(port=80)).allowed
    assert len(rules.problems) == 1
    assert rules.problems[0].startswith("`tools/allow` rule 0: ")


@pytest.mark.parametrize("spec", UNSOUND)
def test_a_deny_rule_is_read_without_its_unsound_part(spec: RuleSpec) -> None:
    rules = RuleSet([deny(spec)], default=Action.ALLOW)
    assert not rules.judge(call(port=80)).allowed
    assert rules.problems == ()


def test_sound_values_beside_unsound_ones_stay_in_a_deny() -> None:
    rules = RuleSet([deny(rule(ports=["80", "http"]))], default=Action.ALLOW)
    assert rules.judge(call(port=81)).allowed


def test_an_unsound_rule_does_not_take_its_neighbours_along() -> None:
    rules = RuleSet([allow(rule(ports=["http"]), rule(paths=["/a"]))])
    assert rules.judge(call(path="/a")).allowed


HTTP_ONLY = [
    rule(methods=["GET"], ports=["80"]),
    rule(paths=["/"], ports=["80"]),
    rule(not_hosts=["x"], ports=["80"]),
    rule(tools=["x"], ports=["80"]),
    rule(request_principals=["*"], ports=["80"]),
    rule(when("request.headers[x]", ["1"]), ports=["80"]),
    rule(when("request.auth.claims[a]", ["1"]), ports=["80"]),
    rule(when("mcp.tool", ["1"]), ports=["80"]),
]


@pytest.mark.parametrize("spec", HTTP_ONLY)
def test_what_only_http_has_closes_an_allow_and_opens_a_deny_to_other_bytes(
    spec: RuleSpec,
) -> None:
    bytes_to_80, bytes_to_81 = call("", port=80, is_tcp=True), call("", port=81, is_tcp=True)
    assert not RuleSet([allow(spec)], default=Action.ALLOW).judge(bytes_to_80).allowed
    refusing = RuleSet([deny(spec)], default=Action.ALLOW)
    assert not refusing.judge(bytes_to_80).allowed
    assert refusing.judge(bytes_to_81).allowed


def test_one_part_that_only_http_has_closes_the_whole_allow_rule() -> None:
    spec = RuleSpec(operations=(OperationSpec(ports=("80",)), OperationSpec(methods=("GET",))))
    assert not RuleSet([allow(spec)]).judge(call("", port=80, is_tcp=True)).allowed


@pytest.mark.parametrize(
    "spec",
    [
        rule(),
        rule(ports=["80"]),
        rule(namespaces=["agent"]),
        rule(ip_blocks=["10.0.0.0/8"]),
        rule(remote_ip_blocks=["10.0.0.0/8"]),
        rule(when("connection.sni", ["a.test"])),
        rule(when("destination.ip", ["10.9.9.9"])),
        rule(when("experimental.envoy.filters.a.b[c]", [], ["x"])),
    ],
)
def test_what_a_connection_has_is_asked_of_other_bytes_too(spec: RuleSpec) -> None:
    asked = call("", port=80, sni="a.test", destination_ip="10.9.9.9", is_tcp=True)
    assert RuleSet([allow(spec)]).judge(asked).allowed


CLAIMS = {"iss": "i", "sub": "s", "aud": ["a", "b"], "azp": "p", "scope": "x y", "n": {"k": "v"}}


@pytest.mark.parametrize(
    ("key", "held", "missed"),
    [
        ("request.headers[X-Env]", "test", "prod"),
        ("request.headers.x-env", "test", "prod"),
        ("request.headers[:authority]", "files.tools", "other"),
        ("request.headers[host]", "files.tools", "other"),
        ("request.headers[:method]", "GET", "POST"),
        ("request.headers[:path]", "/a", "/b"),
        ("source.ip", "10.0.0.0/8", "11.0.0.0/8"),
        ("remote.ip", "203.0.113.0/24", "10.0.0.0/8"),
        ("source.namespace", "agent", "other"),
        ("source.principal", "cluster.local/ns/agent/sa/alice", "spiffe://cluster.local/*"),
        ("source.serviceAccount", "agent/alice", "alice"),
        ("source.trustDomain", "cluster.local", "other"),
        ("source.originalPrincipal", "td/ns/a/sa/bob", "td/ns/a/sa/eve"),
        ("request.auth.principal", "i/s", "i/t"),
        ("request.auth.audiences", "b", "c"),
        ("request.auth.presenter", "p", "q"),
        ("request.auth.claims[scope]", "y", "x y"),
        ("request.auth.claims[n][k]", "v", "w"),
        ("destination.ip", "10.9.9.9", "10.9.9.8"),
        ("destination.port", "80", "81"),
        ("connection.sni", "*.test", "test"),
    ],
)
def test_every_key_of_a_condition_asks_its_attribute(key: str, held: str, missed: str) -> None:
    asked = call(
        path="/a",
        sni="a.test",
        headers=[("x-env", "test")],
        port=80,
        destination_ip="10.9.9.9",
        remote_ip="203.0.113.7",
        claims=CLAIMS,
        original_principal="td/ns/a/sa/bob",
    )
    for values, not_values, holds in (
        ([held], [], True),
        ([missed], [], False),
        ([missed, held], [], True),
        ([], [held], False),
        ([], [missed], True),
        ([held], [held], False),
    ):
        for action in (allow, deny):
            spec = action(rule(when(key, values, not_values)))
            matched = RuleSet([spec], default=Action.ALLOW).judge(asked).rule is not None
            assert matched is holds, (key, values, not_values, action)


@pytest.mark.parametrize(
    "key",
    [
        "request.headers[x-env]",
        "source.namespace",
        "source.principal",
        "source.serviceAccount",
        "source.trustDomain",
        "source.originalPrincipal",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.claims[n][k]",
        "connection.sni",
        "experimental.envoy.filters.a.b[c]",
        "mcp.tool",
        "mcp.arguments[a]",
    ],
)
def test_what_is_missing_fails_a_positive_match_and_passes_a_negative_one(key: str) -> None:
    for action in (allow, deny):
        positive = RuleSet([action(rule(when(key, ["*"])))], default=Action.ALLOW)
        negative = RuleSet([action(rule(when(key, [], ["*"])))], default=Action.ALLOW)
        asked = call(principal=None)
        assert positive.judge(asked).rule is None
        assert negative.judge(asked).rule is not None


@pytest.mark.parametrize("values", [["*"], ["*", "a"]])
def test_a_header_that_is_there_and_empty_goes_against_the_caller(values: list[str]) -> None:
    """Where `*` asks for it: some call it missing, some present."""
    for key_values in ((values, []), ([], values)):
        asked = rule(when("request.headers[x-env]", *key_values))
        for headers in ([("x-env", "")], [("x-env", ""), ("x-env", "")]):
            empty = call(headers=headers)
            assert not RuleSet([allow(asked)]).judge(empty).allowed
            assert not RuleSet([deny(asked)], default=Action.ALLOW).judge(empty).allowed
    present = RuleSet([allow(rule(when("request.headers[x-env]", values)))])
    assert present.judge(call(headers=[("x-env", ""), ("x-env", "b")])).allowed
    assert not present.judge(call()).allowed


def test_a_header_that_is_there_and_empty_is_no_value() -> None:
    for values, not_values, holds in ((["a*"], [], False), ([], ["a*"], True)):
        asked = rule(when("request.headers[x-env]", values, not_values))
        assert RuleSet([allow(asked)]).judge(call(headers=[("x-env", "")])).allowed is holds


def test_the_scheme_is_that_of_the_connection() -> None:
    secure = RuleSet([allow(rule(when("request.headers[:scheme]", ["https"])))])
    assert secure.judge(call()).allowed
    assert not secure.judge(call(principal=None)).allowed


def test_the_name_of_a_handshake_is_matched_in_lower_case() -> None:
    """As Envoy keeps it: a name's case is the caller's to choose."""
    guard = RuleSet([deny(rule(when("connection.sni", ["*.test"])))], default=Action.ALLOW)
    assert not guard.judge(call(sni="A.Test")).allowed
    never = RuleSet([allow(rule(when("connection.sni", ["A.Test"])))])
    assert not never.judge(call(sni="A.Test")).allowed


def test_a_missing_address_is_missing_too() -> None:
    asked = call(ip="")
    assert not RuleSet([allow(rule(ip_blocks=["0.0.0.0/0", "::/0"]))]).judge(asked).allowed
    assert RuleSet([allow(rule(not_ip_blocks=["0.0.0.0/0"]))]).judge(asked).allowed


def test_sources_and_operations_are_alternatives_and_conditions_are_not() -> None:
    spec = RuleSpec(
        (
            SourceSpec(namespaces=("other",)),
            SourceSpec(namespaces=("agent",), request_principals=("i/s",)),
        ),
        (OperationSpec(paths=("/a",)), OperationSpec(methods=("POST",))),
        (when("request.headers[x]", ["1"]), when("destination.port", ["80"])),
    )
    rules = RuleSet([allow(spec)])
    good = {"headers": [("x", "1")], "port": 80, "claims": CLAIMS}
    assert rules.judge(call("GET", "/a", **good)).allowed
    assert rules.judge(call("POST", "/b", **good)).allowed
    assert not rules.judge(call("GET", "/b", **good)).allowed
    assert not rules.judge(call("GET", "/a", **{**good, "claims": None})).allowed
    assert not rules.judge(call("GET", "/a", **{**good, "port": 81})).allowed
    assert not rules.judge(call("GET", "/a", **{**good, "headers": []})).allowed


def test_principals_of_our_other_trust_domains_are_ours() -> None:
    mesh = Mesh("td1", aliases=("td2",))
    rules = RuleSet([allow(rule(principals=["cluster.local/ns/a/sa/b"]))], mesh)
    for domain, allowed in (("td1", True), ("td2", True), ("cluster.local", False), ("td3", False)):
        asked = call(principal=f"spiffe://{domain}/ns/a/sa/b")
        assert rules.judge(asked).allowed is allowed


@pytest.mark.parametrize(
    ("spec", "fact"),
    [
        (rule(tools=["a", "b*"], paths=["/mcp"], methods=["POST"]), "tool"),
        (rule(tools=["*"], paths=["/mcp"]), "path"),
        (rule(prompts=["a"]), "prompt"),
        (rule(resources=["a*"]), "resource"),
        (rule(mcp_methods=["a"]), "mcp_method"),
        (rule(hosts=["A"]), "host"),
        (rule(methods=["GET"]), "method"),
        (rule(not_tools=["a"]), None),
        (rule(methods=["*"]), None),
    ],
)
def test_an_operation_is_looked_up_by_the_narrowest_field_it_has(
    spec: RuleSpec, fact: str | None
) -> None:
    key = compile_rule(spec, policy(Action.ALLOW, spec), 0, Mesh()).operations[0].key
    assert (key and key[0]) == fact


def test_only_tools_prompts_and_resources_of_an_allow_open_a_session() -> None:
    asked = message("ping")
    assert not RuleSet([allow(rule(mcp_methods=["tools/call"]))]).judge(asked).allowed
    assert not RuleSet([allow(rule(paths=["/other"], tools=["x"]))]).judge(asked).allowed
    assert RuleSet([allow(rule(tools=["x"]))]).judge(asked).allowed
    assert not RuleSet([allow(rule(tools=["x"]))]).judge(tool_call("y")).allowed
