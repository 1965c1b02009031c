from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sidecar.config.conditions import (
    ATTRIBUTES,
    attribute_of,
    canonical,
    ip_block,
    port,
    principal,
    service_account,
    trust_domain,
)
from sidecar.config.values import Malformed

Vectors = Callable[[str], dict[str, Any]]


def code(function: Callable[[str], str], value: str) -> str:
    """Return the code of what is wrong with *value*, or an empty string."""
    try:
        function(value)
    except Malformed as bad:
        return bad.code
    return ""


def test_istios_conditions_are_judged_as_istio_judges_them(vectors: Vectors) -> None:
    seen = 0
    for case in vectors("authz_policy_validation.json")["when_conditions"]:
        found = code(canonical, case["key"])
        if not found:
            attribute = attribute_of(canonical(case["key"]))
            found = next(filter(None, (code(attribute.value, one) for one in case["values"])), "")
        assert (not found) is case["valid"], case
        seen += 1
    assert seen == 38


def test_istios_wildcards_and_trust_domains_are_judged_as_istio_judges_them(
    vectors: Vectors,
) -> None:
    data = vectors("authz_policy_validation.json")
    cases = data["wildcard_values"] + data["trust_domain_values"]
    for case in cases:
        assert all(not code(trust_domain, one) for one in case["values"]) == case["valid"], case
    assert len(cases) == 14


@pytest.mark.parametrize(
    ("key", "form"),
    [
        ("request.headers[x-env]", "request.headers[x-env]"),
        ("request.headers.x-env", "request.headers[x-env]"),
        ("request.headers.x.env", "request.headers[x.env]"),
        ("request.headers[:authority]", "request.headers[:authority]"),
        ("request.headers[X-Env]", "request.headers[X-Env]"),
        ("mcp.arguments[path]", "mcp.arguments[path]"),
        ("mcp.arguments[path][to]", "mcp.arguments[path][to]"),
        ("mcp.arguments[a.b]", "mcp.arguments[a.b]"),
        ("mcp.arguments.path.to", "mcp.arguments[path][to]"),
        ("mcp.argumentPaths.path", "mcp.argumentPaths[path]"),
        (
            "request.auth.claims[https://a.test/role][b]",
            "request.auth.claims[https://a.test/role][b]",
        ),
        ("request.auth.claims.a.b", "request.auth.claims[a][b]"),
        ("request.auth.audiences", "request.auth.audiences"),
        ("mcp.tool", "mcp.tool"),
        ("source.ip", "source.ip"),
        ("remote.ip", "remote.ip"),
        ("experimental.envoy.filters.a.b[c]", "experimental.envoy.filters.a.b[c]"),
        ("connection.sni", "connection.sni"),
    ],
)
def test_a_key_comes_out_in_bracket_form(key: str, form: str) -> None:
    assert canonical(key) == form
    assert form.startswith(attribute_of(form).name)


@pytest.mark.parametrize(
    ("key", "expected", "help_text"),
    [
        ("", "SC0404", "name an attribute"),
        ("mcp.tools", "SC0404", "did you mean `mcp.tool`?"),
        ("MCP.tool", "SC0404", "did you mean `mcp.tool`?"),
        ("source.user", "SC0404", "`source.principal`"),
        ("destination.labels[app]", "SC0404", "`selector`"),
        ("destination.namespace", "SC0404", "`metadata.namespace`"),
        ("request.headers", "SC0404", "`request.headers[name]`"),
        ("request.headers[]", "SC0404", ""),
        ("request.headers[a][b]", "SC0404", ""),
        ("request.headers[a b]", "SC0404", ""),
        ("request.headers.", "SC0404", ""),
        ("request.headersx[a]", "SC0404", ""),
        ("mcp.arguments", "SC0404", ""),
        ("mcp.arguments[a", "SC0404", ""),
        ("mcp.arguments[a]b", "SC0404", ""),
        ("mcp.arguments[a][]", "SC0404", ""),
        ("mcp.arguments.a..b", "SC0404", ""),
        ("mcp.arguments" + "[a]" * 17, "SC0404", ""),
        ("mcp.tool[a]", "SC0404", ""),
        ("source.originalPrincipal", "SC0304", ""),
        ("request.auth.claims", "SC0404", "`request.auth.claims[name]`"),
        ("request.auth.claims[a", "SC0404", ""),
        ("request.auth.principal[a]", "SC0404", ""),
        ("experimental.envoy.filters", "SC0404", ""),
        ("experimental.envoy.filters[c]", "SC0404", ""),
        ("experimental.envoy.filters.a.b", "SC0404", ""),
        ("experimental.envoy.filters.a.b[c][d]", "SC0404", ""),
        ("experimental.envoy.filtersx.a[c]", "SC0404", ""),
    ],
)
def test_a_key_that_asks_for_nothing_known_is_refused(
    key: str, expected: str, help_text: str
) -> None:
    with pytest.raises(Malformed) as caught:
        canonical(key)
    assert caught.value.code == expected
    assert help_text in caught.value.help
    assert caught.value.help


@pytest.mark.parametrize(
    ("function", "good", "bad", "expected"),
    [
        (principal, ["cluster.local/ns/a/sa/b", "*", "*/sa/b", "sa1"], [""], "SC0401"),
        (principal, [], ["spiffe://cluster.local/ns/a/sa/b"], "SC0414"),
        (
            ip_block,
            ["10.1.2.3", "10.1.2.3/8", "::1", "2001:db8::/32"],
            [
                *("a.b.c.d", "10.1.2", "10.0.0.0/33", "010.1.2.3", "10.1.2.3/", "10.0.0.0/8/8"),
                *("10.1.2.3/255.0.0.0", "10.1.2.3/0.0.0.255", "10.0.0.0/08", "fe80::1%eth0/64"),
            ],
            "SC0406",
        ),
        (port, ["0", "80", "65535"], ["", "65536", "-1", "x", "8 0", "٨٠", "123456"], "SC0407"),
        (
            service_account,
            ["sa", "ns/sa"],
            ["a/b/c", "/sa", "ns/", "ns/*", "a" * 321],
            "SC0408",
        ),
        (
            trust_domain,
            ["cluster.local", "*", "a*", "*a"],
            ["a*b", "*a*", "a/b", "spiffe://a", "**"],
            "SC0409",
        ),
    ],
)
def test_values_of_attributes_are_checked(
    function: Callable[[str], str], good: list[str], bad: list[str], expected: str
) -> None:
    assert [value for value in good if code(function, value)] == []
    assert [value for value in bad if code(function, value) != expected] == []


def test_every_attribute_says_what_it_is() -> None:
    for attribute in ATTRIBUTES:
        assert attribute.doc.endswith(".")
        assert not attribute.refused or attribute.refused.endswith(".")
