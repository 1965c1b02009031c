from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.config.documents import AuthorizationPolicy
from sidecar.config.loaded import Loaded, parse_documents
from sidecar.errors import Where
from sidecar.policy.spec import (
    Action,
    ConditionSpec,
    OperationSpec,
    PolicySpec,
    RuleSpec,
    SourceSpec,
)

Vectors = Callable[[str], dict[str, Any]]
Document = Callable[..., Loaded]

# Policies that Istio takes and that are refused here, with why.
NOT_HONOURED = {"custom-good": "CUSTOM asks an outside authorizer"}
# What Istio's rule compiler is tested with although its validation refuses it, as here.
INVALID = "trap-invalid-allow-rule-is-dropped-but-policy-stays"


def codes(loaded: Loaded) -> list[str]:
    return [problem.code for problem in loaded.problems]


def rule(**parts: Any) -> dict[str, Any]:
    return {"rules": [parts]}


def operation(**fields: Any) -> dict[str, Any]:
    return rule(to=[{"operation": fields}])


def source(**fields: Any) -> dict[str, Any]:
    return rule(**{"from": [{"source": fields}]})


def when(key: str, *values: str) -> dict[str, Any]:
    return rule(when=[{"key": key, "values": list(values)}])


def test_istios_policies_are_judged_as_istio_judges_them(
    vectors: Vectors, document: Document
) -> None:
    cases = vectors("authz_policy_validation.json")["policies"]
    for case in cases:
        extra = {"annotations": case["annotations"]} if "annotations" in case else {}
        loaded = document("AuthorizationPolicy", case["spec"], **extra)
        errors = [problem.code for problem in loaded.errors]
        if case["name"] in NOT_HONOURED:
            assert set(errors) == {"SC0304"}, case
        else:
            assert bool(errors) != case["valid"], (case, errors)
    assert len(cases) == 58


def test_every_policy_of_istios_own_tests_is_read(vectors: Vectors) -> None:
    read = 0
    for case in vectors("authz_policy_requests.json")["cases"]:
        for policy in case["policies"] if case["id"] != INVALID else ():
            loaded = parse_documents(json.dumps(policy).encode(), "f")
            assert loaded.errors == (), (policy, loaded.errors)
            read += 1
    assert read == 59


def test_istios_path_templates_are_judged_as_istio_judges_them(
    vectors: Vectors, document: Document
) -> None:
    cases = vectors("path_templates.json")["template_validity"]
    for case in cases:
        loaded = document("AuthorizationPolicy", operation(paths=[case["path"]]))
        assert codes(loaded) == ([] if case["valid"] else ["SC0413"]), case
    assert len(cases) == 22


def test_a_policy_comes_out_as_a_spec_with_every_field_in_its_place() -> None:
    fields = ["principals", "requestPrincipals", "namespaces", "ipBlocks", "trustDomains"]
    operations = ["hosts", "ports", "methods", "paths", "mcpMethods", "tools"]
    operations += ["resources", "prompts"]
    values = {"ports": "80", "ipBlocks": "10.0.0.1", "methods": "GET", "paths": "/a"}
    values["requestPrincipals"] = "a/b"

    def written(names: list[str]) -> dict[str, list[str]]:
        plain = {name: [values.get(name, f"{name}-1")] for name in names}
        twins = {
            f"not{name[0].upper()}{name[1:]}": [values.get(name, f"{name}-2")] for name in names
        }
        return plain | twins

    policy = {
        "apiVersion": "security.istio.io/v1beta1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "p", "annotations": {"istio.io/dry-run": "true"}},
        "spec": {
            "selector": {"matchLabels": {"app": "x"}},
            "action": "DENY",
            "rules": [
                {
                    "from": [
                        {"source": written(fields)},
                        {"source": {"serviceAccounts": ["a/b"], "notServiceAccounts": ["c"]}},
                    ],
                    "to": [{"operation": written(operations)}],
                    "when": [{"key": "mcp.arguments.a", "values": ["b"], "notValues": ["c"]}],
                }
            ],
        },
    }
    (found,) = parse_documents(json.dumps(policy).encode(), "f", namespace="prod").documents
    assert isinstance(found, AuthorizationPolicy)
    assert found.spec.selector.match_labels == {"app": "x"}
    spec = found.policy
    (read,) = spec.rules
    assert spec == PolicySpec("p", "prod", Action.DENY, (read,), Where("f", 1, 1), dry_run=True)
    assert read.at is not None
    assert read == RuleSpec(
        (
            SourceSpec(
                principals=("principals-1",),
                request_principals=("a/b",),
                namespaces=("namespaces-1",),
                ip_blocks=("10.0.0.1",),
                trust_domains=("trustDomains-1",),
                not_principals=("principals-2",),
                not_request_principals=("a/b",),
                not_namespaces=("namespaces-2",),
                not_ip_blocks=("10.0.0.1",),
                not_trust_domains=("trustDomains-2",),
            ),
            SourceSpec(service_accounts=("a/b",), not_service_accounts=("c",)),
        ),
        (
            OperationSpec(
                ("hosts-1",),
                ("80",),
                ("GET",),
                ("/a",),
                ("mcpMethods-1",),
                ("tools-1",),
                ("resources-1",),
                ("prompts-1",),
                ("hosts-2",),
                ("80",),
                ("GET",),
                ("/a",),
                ("mcpMethods-2",),
                ("tools-2",),
                ("resources-2",),
                ("prompts-2",),
            ),
        ),
        (ConditionSpec("mcp.arguments[a]", ("b",), ("c",)),),
        read.at,
    )


def test_rules_know_their_lines(load: Callable[[str], Loaded]) -> None:
    text = (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        "metadata: {name: p}\nspec:\n  rules:\n"
        "  - to: [{operation: {tools: [a]}}]\n\n  - {}\n"
    )
    (found,) = load(text).documents
    assert isinstance(found, AuthorizationPolicy)
    assert [rule.at for rule in found.spec.rules] == [Where("f.yaml", 6, 5), Where("f.yaml", 8, 5)]


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({}, []),
        ({"rules": []}, []),
        ({"rules": [{}]}, []),
        ({"action": "DENY", "rules": []}, ["SC0403"]),
        ({"action": "AUDIT", "rules": [{}]}, []),
        ({"action": "LOG"}, ["SC0205"]),
        ({"provider": {"name": "x"}}, ["SC0304"]),
        ({"targetRefs": []}, ["SC0304"]),
        ({"rules": [{}] * 513}, ["SC0210"]),
        ({"rules": [{"from": None}]}, ["SC0209"]),
        (rule(when=[]), ["SC0210"]),
        (source(principals=[]), ["SC0210"]),
        (source(principals="a"), ["SC0203"]),
        (source(principal=["a"]), ["SC0204"]),
        (source(principals=["spiffe://a/ns/b/sa/c"]), ["SC0414"]),
        (source(requestPrincipals=[""]), ["SC0401"]),
        (source(remoteIpBlocks=["10.0.0.0/8", "x"]), ["SC0406"]),
        (source(serviceAccounts=["a/b"], notNamespaces=["c"]), ["SC0410"]),
        (source(serviceAccounts=[f"a/b{n}" for n in range(17)]), ["SC0210"]),
        (operation(ports=[80]), ["SC0203"]),
        (operation(ports=["80x"]), ["SC0407"]),
        (operation(tool=["x"]), ["SC0204"]),
        (operation(paths=["/a/{b}"]), ["SC0413"]),
        (when("mcp.tools", "x"), ["SC0404"]),
        (when("mcp.tool"), ["SC0210"]),
        (rule(when=[{"key": "mcp.tool"}]), ["SC0405"]),
        (when("source.ip", "10.0.0.1", "x"), ["SC0406"]),
        (when("destination.port", "80", "x"), ["SC0407"]),
        (when("source.serviceAccount", "a/b/c"), ["SC0408"]),
        (when("source.principal", "spiffe://a/b"), ["SC0414"]),
        (when("request.auth.claims", "x"), ["SC0404"]),
        (when("request.headers[x]", "a", ""), ["SC0401"]),
    ],
)
def test_what_a_policy_may_not_say(
    spec: dict[str, Any], found: list[str], document: Document
) -> None:
    assert codes(document("AuthorizationPolicy", spec)) == found


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (source(principals=["*/sa/x", "a/*", "*"]), []),
        (source(principals=["cluster.local/ns/*/sa/x"]), ["SC0415"]),
        (source(namespaces=["a*b"]), []),
        (source(requestPrincipals=["*", "a/b", "a/*", "*/b", "a*"]), []),
        (source(requestPrincipals=["a"], notRequestPrincipals=["b"]), ["SC0416"] * 2),
        (when("request.auth.claims[a][b]", "x"), []),
        (when("request.auth.principal", "a/*"), []),
        (operation(paths=["/a/*/b"]), ["SC0415"]),
        (operation(notTools=["*x*"]), ["SC0415"]),
        (operation(paths=["/a/{*}/b", "/a/{**}", "/x*", "*y"]), []),
        (operation(methods=["get"]), ["SC0416"]),
        (when("connection.sni", "Files.example.com", "files.example.com"), ["SC0416"]),
        (operation(notPaths=["mcp"]), ["SC0416"]),
        (when("mcp.arguments[path]", "/srv/*"), ["SC0417"]),
        (when("mcp.arguments.path", "~/x*", "./x*", "C:\\x*"), ["SC0417"] * 3),
        (when("mcp.arguments[url]", "https://example.com/*", "/srv/a", "plain*", "*"), []),
        (when("mcp.argumentPaths[path]", "/srv/*", "*", "/a"), []),
        (when("mcp.argumentPaths[path]", "/srv*"), ["SC0418"]),
    ],
)
def test_what_is_allowed_and_hardly_meant_draws_a_warning(
    spec: dict[str, Any], found: list[str], document: Document
) -> None:
    loaded = document("AuthorizationPolicy", spec)
    assert codes(loaded) == found
    assert loaded.errors == ()
    assert len(loaded.documents) == 1


@pytest.mark.parametrize(
    ("action", "fields", "is_error"),
    [
        ("ALLOW", ["values"], False),
        ("ALLOW", ["notValues"], True),
        ("ALLOW", ["values", "notValues"], False),
        ("DENY", ["values"], True),
        ("DENY", ["notValues"], False),
        ("DENY", ["values", "notValues"], True),
        ("AUDIT", ["values"], False),
        ("AUDIT", ["notValues"], False),
    ],
)
def test_what_no_filter_says_may_narrow_a_policy_and_never_widen_it(
    action: str, fields: list[str], is_error: bool, document: Document
) -> None:
    condition = {"key": "experimental.envoy.filters.a.b[c]", **{one: ["d"] for one in fields}}
    loaded = document("AuthorizationPolicy", {"action": action, **rule(when=[condition])})
    assert codes(loaded) == ["SC0422"]
    assert bool(loaded.errors) is is_error


def test_the_warning_of_a_path_as_text_names_the_key_to_write(document: Document) -> None:
    (problem,) = document("AuthorizationPolicy", when("mcp.arguments.a", "/srv/*")).problems
    assert "mcp.argumentPaths[a]" in problem.help


@pytest.mark.parametrize(
    ("value", "action", "expected"),
    [
        ("true", "ALLOW", True),
        ("T", "DENY", True),
        ("false", "ALLOW", False),
        ("0", "ALLOW", False),
        ("yes", "ALLOW", None),
        ("", "ALLOW", None),
        ("true", "AUDIT", None),
    ],
)
def test_a_dry_run_is_read_as_istio_reads_it(
    value: str, action: str, expected: bool | None, document: Document
) -> None:
    loaded = document(
        "AuthorizationPolicy",
        {"action": action, "rules": [{}]},
        annotations={"istio.io/dry-run": value},
    )
    if expected is None:
        assert codes(loaded) == ["SC0412"]
    else:
        (found,) = loaded.documents
        assert isinstance(found, AuthorizationPolicy)
        assert found.policy.dry_run is expected
