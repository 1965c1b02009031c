"""Rules read a second time: by the expressions that Istio would hand to its proxy.

The other reading is slow and plain on purpose. It knows no index, no standing and none of
our matchers: each value is a regular expression, each rule is asked from its beginning.
Rules and calls are drawn from few words, so that they often meet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import fields
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.policies import call

from sidecar.policy.attributes import Mesh
from sidecar.policy.authz import RuleSet
from sidecar.policy.call import Call
from sidecar.policy.spec import (
    Action,
    ConditionSpec,
    OperationSpec,
    PolicySpec,
    RuleSpec,
    SourceSpec,
)

DOMAINS = ("td", "old-td")
NAMESPACE = "foo"
Values = tuple[str, ...]


class OnlyHttp(Exception):
    """What an ALLOW asks of bytes that are not HTTP, and only HTTP has."""


# -- the other reading: values as expressions


def text(value: str, prefix: str = "") -> str:
    """Return the expression of one value, the suffix looked at first."""
    if value == "*":
        return ".+"
    if value.startswith("*"):
        return re.escape(prefix) + ".*" + re.escape(value[1:])
    if value.endswith("*"):
        return re.escape(prefix + value[:-1]) + ".*"
    return re.escape(prefix + value)


def path(value: str) -> str:
    if "{" not in value:
        return text(value)
    one, many = r"[\w.~%!$&'()+,;:@=*-]+", r"[\w.~%!$&'()+,;:@=*/-]*"
    return re.escape(value).replace(r"\{\*\*\}", many).replace(r"\{\*\}", one)


def principal(value: str) -> str:
    parts = value.split("/")
    if len(parts) == 5 and parts[0] in ("cluster.local", *DOMAINS):
        return "|".join(text("/".join((one, *parts[1:])), "spiffe://") for one in DOMAINS)
    return text(value, "spiffe://")


def namespace(value: str) -> str:
    return ".*/ns/" + re.escape(value).replace(r"\*", ".*") + "/.*"


def account(value: str) -> str:
    ns, _, sa = value.rpartition("/")
    return f"spiffe://.+/ns/{re.escape(ns or NAMESPACE)}/(.+/|)sa/{re.escape(sa)}(/.+)?"


def domain(value: str) -> str:
    names = DOMAINS if value in DOMAINS else (value,)
    found = (text(one).replace(".+", "[^/]+").replace(".*", "[^/]*") for one in names)
    return f"spiffe://({'|'.join(found)})/.*"


def hit(expression: Callable[[str], str], values: Values, found: Iterable[str]) -> bool:
    wanted = [re.compile(expression(value), re.DOTALL) for value in values]
    return any(one.fullmatch(word) for one in wanted for word in found)


def inside(values: Values, ip: str) -> bool:
    blocks = (ip_network(value, strict=False) for value in values)
    return any(ip_address(ip) in block for block in blocks)


def token(values: Values, asked: Call) -> bool:
    issuer, subject = (str((asked.claims or {}).get(name, "")) for name in ("iss", "sub"))
    if not issuer or not subject:
        return False
    for value in values:
        iss, slash, sub = value.rpartition("/")
        if value.startswith("*") and not slash:
            iss, sub = "*", value
        elif value.endswith("*") and not slash:
            iss, sub = value, "*"
        # A `*` is one only at the side of the value that has it.
        left = text(iss) if value.startswith("*") or not slash else re.escape(iss)
        right = text(sub) if value.endswith("*") or not slash else re.escape(sub)
        if "" not in (iss, sub) and re.fullmatch(left, issuer) and re.fullmatch(right, subject):
            return True
    return False


def asks(field: str, values: Values, asked: Call) -> bool:
    """Say whether one of *values* holds for *field*."""
    uri = [str(asked.peer.identity)] if asked.peer.identity else []
    match field:
        case "principals" | "source.principal":
            return hit(principal, values, uri)
        case "namespaces" | "source.namespace":
            return hit(namespace, values, uri)
        case "service_accounts" | "source.serviceAccount":
            return hit(account, values, uri)
        case "trust_domains" | "source.trustDomain":
            return hit(domain, values, uri)
        case "ip_blocks" | "source.ip":
            return inside(values, asked.peer.ip)
        case "remote_ip_blocks" | "remote.ip":
            return inside(values, asked.remote_ip)
        case "ports" | "destination.port":
            return str(asked.port) in values
        case "connection.sni":
            return hit(text, values, [asked.peer.sni.lower()])
    if asked.is_tcp:
        raise OnlyHttp
    match field:
        case "hosts":
            return hit(lambda value: text(value.lower()), values, [asked.host.lower()])
        case "methods":
            return hit(text, values, [asked.method])
        case "paths":
            return hit(path, values, [asked.path])
        case "request_principals" | "request.auth.principal":
            return token(values, asked)
        case "request.headers[x-h]":
            return hit(text, values, [value.decode() for name, value in asked.headers])
    claim = (asked.claims or {}).get("g", ())
    return hit(text, values, [claim] if isinstance(claim, str) else claim)


def holds(field: str, values: Values, negated: bool, asked: Call, allow: bool) -> bool:
    try:
        return not values or asks(field, values, asked) is not negated
    except OnlyHttp:
        if allow:
            raise
        return True


def whole(spec: SourceSpec | OperationSpec, asked: Call, allow: bool) -> bool:
    found = [
        holds(one.name.removeprefix("not_"), values, one.name.startswith("not_"), asked, allow)
        for one in fields(spec)
        if (values := getattr(spec, one.name))
    ]
    return all(found)


def matches(rule: RuleSpec, asked: Call, allow: bool) -> bool:
    try:
        conditions = [
            holds(one.key, values, negated, asked, allow)
            for one in rule.conditions
            for values, negated in ((one.values, False), (one.not_values, True))
        ]
        sources = [whole(one, asked, allow) for one in rule.sources] or [True]
        operations = [whole(one, asked, allow) for one in rule.operations] or [True]
    except OnlyHttp:
        return False
    return all(conditions) and any(sources) and any(operations)


def allowed(policies: list[PolicySpec], asked: Call) -> bool:
    """Return what Istio's proxy would do."""
    enforced = [one for one in policies if not one.dry_run]

    def any_of(action: Action) -> bool:
        chosen = (one for one in enforced if one.action is action)
        return any(
            matches(rule, asked, action is Action.ALLOW) for one in chosen for rule in one.rules
        )

    closed = any(one.action is Action.ALLOW for one in enforced)
    return not any_of(Action.DENY) and (not closed or any_of(Action.ALLOW))


# -- what is drawn

WORDS: dict[str, list[str]] = {
    "principals": ["cluster.local/ns/foo/sa/a", "td/ns/foo/sa/a", "*", "*/sa/a", "td/*", "*a*"],
    "namespaces": ["foo", "f*", "*o", "*", "fo.", "f*o", "fo"],
    "service_accounts": ["foo/a", "a", "bar/b", "b"],
    "trust_domains": ["td", "old*", "*td", "*", "other"],
    "ip_blocks": ["10.0.0.0/8", "10.0.0.1", "2001:db8::/32", "::/0", "10.0.0.9/24"],
    "request_principals": ["*", "i/s", "*/s", "i/*", "i*", "*s", "a/b/s", "a/b/*", "i", "*b/s"],
    "hosts": ["a.test", "*.Test", "A.*", "*", "a.test:80"],
    "ports": ["80", "81"],
    "methods": ["GET", "P*", "*T", "*"],
    "paths": ["/a", "/a/*", "*/b", "*", "/a/{*}", "/a/{**}", "/{*}/b", "/a*b"],
    "connection.sni": ["a.test", "*.test", "a*", "*"],
    "request.headers[x-h]": ["1", "1*", "*2", "*", "1,2"],
    "request.auth.claims[g]": ["1", "1*", "*2", "*", "1 2"],
}
WORDS["remote_ip_blocks"] = WORDS["source.ip"] = WORDS["remote.ip"] = WORDS["ip_blocks"]
WORDS["source.principal"], WORDS["source.namespace"] = WORDS["principals"], WORDS["namespaces"]
WORDS["source.serviceAccount"] = WORDS["service_accounts"]
WORDS["source.trustDomain"] = WORDS["trust_domains"]
WORDS["request.auth.principal"], WORDS["destination.port"] = (
    WORDS["request_principals"],
    WORDS["ports"],
)


def some(field: str) -> st.SearchStrategy[Values]:
    words = WORDS[field.removeprefix("not_")]
    return st.lists(st.sampled_from(words), min_size=1, max_size=3, unique=True).map(tuple)


def specs(kind: type[SourceSpec] | type[OperationSpec], most: int = 2) -> st.SearchStrategy[object]:
    names = [one.name for one in fields(kind) if one.name.removeprefix("not_") in WORDS]
    chosen = st.lists(st.sampled_from(names), min_size=1, max_size=most, unique=True)
    return chosen.flatmap(lambda some_of: st.builds(kind, **{one: some(one) for one in some_of}))


KEYS = [name for name in WORDS if "." in name]
CONDITIONS = st.sampled_from(KEYS).flatmap(
    lambda key: st.builds(
        ConditionSpec, st.just(key), some(key) | st.just(()), some(key) | st.just(())
    )
)
# A rule that asks one thing tells most of it.
SIMPLE = st.one_of(
    st.builds(RuleSpec, sources=st.tuples(specs(SourceSpec, 1))),
    st.builds(RuleSpec, operations=st.tuples(specs(OperationSpec, 1))),
    st.builds(RuleSpec, conditions=st.tuples(CONDITIONS)),
)
RULES = SIMPLE | st.builds(
    RuleSpec,
    st.lists(specs(SourceSpec), max_size=2).map(tuple),
    st.lists(specs(OperationSpec), max_size=2).map(tuple),
    st.lists(CONDITIONS, max_size=2).map(tuple),
)
POLICIES = st.builds(
    PolicySpec,
    st.just("p"),
    st.just(NAMESPACE),
    st.sampled_from(Action),
    st.lists(RULES, max_size=2).map(tuple),
    dry_run=st.sampled_from([False, False, False, True]),
)
PRINCIPALS = [
    *("td/ns/foo/sa/a", "old-td/ns/foo/sa/a", "td/ns/bar/sa/b", "other/ns/foo/sa/a"),
    *("td/ns/foo/x/y/sa/a", "td/e/f/ns/foo/sa/a/z", "td/ns/fo/sa/a", "td/ns/foo/sa/ab", None),
]
VARIED: dict[str, list[Any]] = {
    "principal": [one and f"spiffe://{one}" for one in PRINCIPALS],
    "ip": ["10.0.0.1", "10.0.0.7", "192.0.2.1", "2001:db8::1"],
    "remote_ip": ["10.0.0.1", "10.0.0.7", "192.0.2.1", "2001:db8::1"],
    "port": [80, 81, 82],
    "sni": ["", "a.test", "A.TEST", "b"],
    "method": ["GET", "PUT", "POST"],
    "path": ["/", "/a", "/a/", "/a/b", "/a/x/b", "/x/b", "/a/x y"],
    "host": ["a.test", "A.Test", "a.test:80", "b"],
    "headers": [[("x-h", one) for one in ones] for ones in ("", "1", "2", ["1", "2"], ["1,2"])],
    "claims": [
        *[None, {"iss": "i"}, {"iss": "i", "sub": "s"}, {"iss": "ii", "sub": "ss"}],
        *[{"iss": "a/b", "sub": "s"}, {"iss": "a", "sub": "b/s"}, {"iss": "", "sub": "s"}],
        *[{"g": one} for one in ("1", "1 2", ["1", "2"], ["12"], [])],
    ],
    "is_tcp": [False, True],
}
BASE = {name: found[0] for name, found in VARIED.items()}
EACH = [call(**BASE | {name: one}) for name, found in VARIED.items() for one in found]
CALLS = st.fixed_dictionaries({name: st.sampled_from(found) for name, found in VARIED.items()})


def both(policies: list[PolicySpec], asked: Call) -> tuple[bool, bool]:
    rules = RuleSet(policies, Mesh("td", ("old-td",)), Action.ALLOW)
    return rules.judge(asked).allowed, allowed(policies, asked)


def rule_of(field: str, values: Values, negated: bool) -> RuleSpec:
    """Return a rule that asks one thing."""
    if field in KEYS:
        asked = ConditionSpec(field, () if negated else values, values if negated else ())
        return RuleSpec(conditions=(asked,))
    name = f"not_{field}" if negated else field
    if name in SourceSpec.__slots__:
        return RuleSpec(sources=(SourceSpec(**{name: values}),))
    return RuleSpec(operations=(OperationSpec(**{name: values}),))


@pytest.mark.parametrize("field", WORDS)
def test_both_readings_take_each_value_alike(field: str) -> None:
    for value in WORDS[field]:
        for negated in (False, True):
            for action in (Action.ALLOW, Action.DENY):
                rule = rule_of(field, (value,), negated)
                policy = PolicySpec("p", NAMESPACE, action, (rule,))
                for asked in EACH:
                    ours, theirs = both([policy], asked)
                    assert ours is theirs, (value, negated, action, asked)


@given(st.lists(POLICIES, max_size=3), st.lists(CALLS, min_size=4, max_size=8))
def test_both_readings_allow_the_same(
    policies: list[PolicySpec], calls: list[dict[str, Any]]
) -> None:
    for one in calls:
        ours, theirs = both(policies, call(**one))
        assert ours is theirs, one
