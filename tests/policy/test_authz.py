"""Istio's order and Istio's meaning: its own published requests, and what they leave out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.policies import allow, audit, call, deny, rule, tool_call, when

from sidecar.errors import Where
from sidecar.policy.authz import Mesh, RuleSet
from sidecar.policy.call import Call, Peer
from sidecar.policy.path import Normalisation, normalise
from sidecar.policy.spec import (
    Action,
    ConditionSpec,
    OperationSpec,
    PolicySpec,
    RuleSpec,
    SourceSpec,
)
from sidecar.policy.verdict import RuleRef
from sidecar.spiffe.id import SpiffeId

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors" / "authz_policy_requests.json"


def suites() -> list[Any]:
    if not VECTORS.exists():
        return []
    return json.loads(VECTORS.read_text())["cases"]


def snake(key: str) -> str:
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in key)


def fields(document: dict[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {snake(key): tuple(values) for key, values in document.items()}


def rule_of(document: dict[str, Any]) -> RuleSpec:
    return RuleSpec(
        tuple(SourceSpec(**fields(one["source"])) for one in document.get("from", ())),
        tuple(OperationSpec(**fields(one["operation"])) for one in document.get("to", ())),
        tuple(
            ConditionSpec(
                key=one["key"],
                values=tuple(one.get("values", ())),
                not_values=tuple(one.get("notValues", ())),
            )
            for one in document.get("when", ())
        ),
    )


def policy_of(document: dict[str, Any]) -> PolicySpec:
    metadata, spec = document["metadata"], document["spec"]
    return PolicySpec(
        metadata["name"],
        metadata["namespace"],
        Action(spec.get("action", "ALLOW")),
        tuple(map(rule_of, spec.get("rules", ()))),
        dry_run=metadata.get("annotations", {}).get("istio.io/dry-run") == "true",
    )


def applies(document: dict[str, Any], suite: dict[str, Any]) -> bool:
    namespace = document["metadata"]["namespace"]
    if namespace not in (suite["workload"]["namespace"], suite["mesh"]["rootNamespace"]):
        return False
    labels = document["spec"].get("selector", {}).get("matchLabels", {})
    return labels.items() <= suite["workload"]["labels"].items()


def call_of(request: dict[str, Any]) -> Call:
    source, destination = request["source"], request["destination"]
    principal = source["principal"]
    target = normalise(request.get("path") or "/")
    path, _, query = target.partition("?")
    return Call(
        Peer(SpiffeId.parse(principal) if principal else None, source["ip"]),
        request.get("method") or "",
        path,
        query,
        request.get("host") or "",
        [(name.lower().encode(), value.encode()) for name, value in request.get("headers") or ()],
        b"",
        port=destination["port"],
        destination_ip=destination["ip"],
        remote_ip=source.get("remoteIp") or "",
        claims=request.get("jwtClaims"),
        is_tcp=request["protocol"] == "tcp",
    )


@pytest.mark.skipif(not VECTORS.exists(), reason="authz_policy_requests.json is not here")
@pytest.mark.parametrize("suite", suites(), ids=lambda suite: suite["id"])
def test_a_published_suite_is_judged_as_istio_judges_it(suite: dict[str, Any]) -> None:
    mesh = suite["mesh"]
    rules = RuleSet(
        [policy_of(one) for one in suite["policies"] if applies(one, suite)],
        Mesh(
            mesh["trustDomain"],
            tuple(mesh["trustDomainAliases"]),
            tuple(mesh.get("spaceDelimitedClaims", ())),
        ),
        default=Action.ALLOW,
    )
    for request in suite["requests"]:
        assert rules.judge(call_of(request)).allowed is (request["expect"] == "allow"), request


@pytest.mark.parametrize(
    ("policies", "default", "path", "allowed"),
    [
        ([], Action.ALLOW, "/a", True),
        ([], Action.DENY, "/a", False),
        ([deny(rule(paths=["/a"]))], Action.ALLOW, "/a", False),
        ([deny(rule(paths=["/a"]))], Action.ALLOW, "/b", True),
        ([deny(rule(paths=["/a"]))], Action.DENY, "/b", False),
        ([allow(rule(paths=["/a"]))], Action.ALLOW, "/a", True),
        ([allow(rule(paths=["/a"]))], Action.ALLOW, "/b", False),
        ([allow(rule(paths=["/*"])), deny(rule(paths=["/a"]))], Action.ALLOW, "/a", False),
        ([allow(rule(paths=["/a"])), allow(rule(paths=["/b"]))], Action.DENY, "/b", True),
        ([allow()], Action.ALLOW, "/a", False),
        ([allow(rule())], Action.DENY, "/a", True),
        ([audit(rule(paths=["/a"]))], Action.ALLOW, "/b", True),
        ([allow(rule(paths=["/a"]), dry_run=True)], Action.ALLOW, "/b", True),
        ([deny(rule(paths=["/a"]), dry_run=True)], Action.ALLOW, "/a", True),
    ],
)
def test_deny_goes_before_allow_and_allow_before_the_default(
    policies: list[PolicySpec], default: Action, path: str, allowed: bool
) -> None:
    assert RuleSet(policies, default=default).judge(call(path=path)).allowed is allowed


def test_a_decision_names_its_rule_and_where_that_stands() -> None:
    at, elsewhere = Where("a.yaml", 7, 3), Where("a.yaml", 1)
    rules = (RuleSpec(operations=(OperationSpec(paths=("/a",)),)), RuleSpec(at=at))
    decided = RuleSet([PolicySpec("p", "ns", Action.ALLOW, rules, at=elsewhere)])
    assert decided.judge(call(path="/b")).rule == RuleRef("ns/p", 1, at)
    assert decided.judge(call(path="/a")).rule == RuleRef("ns/p", 0, elsewhere)
    assert RuleSet([deny(rule())]).judge(call()).rule == RuleRef("tools/deny", 0)
    assert RuleSet([allow()]).judge(call()).rule is None


def test_a_dry_run_is_judged_and_not_enforced() -> None:
    enforced = allow(rule(paths=["/a", "/b"]))
    rules = RuleSet([enforced, deny(rule(paths=["/a"]), dry_run=True, name="trial")])
    assert rules.judge(call(path="/a")).allowed
    shadow = rules.shadow(call(path="/a"))
    assert shadow is not None
    assert (shadow.allowed, str(shadow.rule)) == (False, "tools/trial#0")
    shadow = rules.shadow(call(path="/b"))
    assert shadow is not None
    assert shadow.allowed
    assert RuleSet([enforced]).shadow(call(path="/a")) is None


def test_an_audit_names_every_rule_that_matches() -> None:
    rules = RuleSet(
        [
            audit(rule(tools=["read"]), rule(tools=["write"]), rule(paths=["/mcp"])),
            deny(rule(tools=["read"])),
        ]
    )
    assert [str(one) for one in rules.audit(tool_call("read"))] == [
        "tools/audit#0",
        "tools/audit#2",
    ]
    assert rules.audit(call()) == ()
    assert RuleSet([deny(rule())]).audit(call()) == ()


@pytest.mark.parametrize(
    ("values", "not_values", "sent", "holds"),
    [
        (["admin"], [], ["user", "admin"], True),
        (["admin"], [], ["user,admin"], False),
        (["adm*"], [], ["user", "admin"], True),
        ([], ["admin"], ["user", "admin"], False),
        ([], ["admin"], ["user", "guest"], True),
        ([], ["admin"], [], True),
        (["*"], [], [""], False),
        (["*"], [], ["", "a"], True),
        (["é*"], [], ["été"], True),
    ],
)
def test_each_value_of_a_repeated_header_is_matched_by_itself(
    values: list[str], not_values: list[str], sent: list[str], holds: bool
) -> None:
    rules = RuleSet([allow(rule(when("request.headers[X-Role]", values, not_values)))])
    asked = call(headers=[("x-role", value) for value in sent])
    assert rules.judge(asked).allowed is holds


# A path that is denied, and ways to write it that mean the same to some server.
def _spellings(text: str) -> st.SearchStrategy[str]:
    written = [
        st.sampled_from([letter, f"%{ord(letter):02x}", f"%{ord(letter):02X}"])
        if letter != "/"
        else st.sampled_from(["/", "/./", "/x/../", "\\", "/%2e/", "/y/.%2E/", "/a\\..\\"])
        for letter in text
    ]
    return st.tuples(*written).map("".join)


GUARDED = [
    RuleSet([deny(rule(paths=[pattern])), allow(rule())])
    for pattern in ("/admin/secret", "/admin*", "*/secret", "/{*}/secret", "/admin/{**}")
]


@given(_spellings("/admin/secret"), st.sampled_from(list(Normalisation)[1:]))
def test_no_spelling_of_a_path_turns_a_deny_into_an_allow(path: str, mode: Normalisation) -> None:
    asked = call(path=normalise(path, mode))
    assert not [rules for rules in GUARDED if rules.judge(asked).allowed], asked.path


@given(st.lists(st.sampled_from(["/", "//", "%2f", "%2F", "%5c", "\\"]), min_size=2, max_size=2))
def test_no_run_of_slashes_turns_a_deny_into_an_allow_where_they_are_merged(
    slashes: list[str],
) -> None:
    rules = RuleSet([deny(rule(paths=["/admin/secret"])), allow(rule())])
    path = f"{slashes[0]}admin{slashes[1]}secret"
    asked = call(path=normalise("/" + path, Normalisation.DECODE_AND_MERGE_SLASHES))
    assert not rules.judge(asked).allowed


@pytest.mark.parametrize("host", ["Internal.Test", "INTERNAL.TEST", "internal.test"])
def test_no_case_of_a_host_turns_a_deny_into_an_allow(host: str) -> None:
    rules = RuleSet([deny(rule(hosts=["internal.TEST"])), allow(rule())])
    assert not rules.judge(call(host=host)).allowed


def test_a_host_with_a_port_is_another_value() -> None:
    rules = RuleSet([allow(rule(hosts=["a.test", "b.test:*"]))])
    judged = {
        host: rules.judge(call(host=host)).allowed for host in ("a.test", "a.test:80", "b.test:80")
    }
    assert judged == {"a.test": True, "a.test:80": False, "b.test:80": True}
