from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.snapshots import bootstrap, codes, compiled, policy
from support.snapshots import document as text_of

from sidecar.config.documents import RateLimit, Selector
from sidecar.config.loaded import Loaded
from sidecar.config.nodes import ScalarNode
from sidecar.config.problem import Notes
from sidecar.config.rate_limits import MOST_LIMITS, RateForm
from sidecar.config.schema import Unread
from sidecar.errors import Where
from sidecar.policy.bucket import Rate
from sidecar.policy.limit import LimitSpec, Per
from sidecar.policy.spec import OperationSpec, SourceSpec

Document = Callable[..., Loaded]


def limits(loaded: Loaded) -> tuple[LimitSpec, ...]:
    (found,) = loaded.documents
    assert isinstance(found, RateLimit), loaded.problems
    return found.spec.limits


def found_codes(loaded: Loaded) -> list[str]:
    return [problem.code for problem in loaded.problems]


def test_a_limit_comes_out_with_its_defaults(document: Document) -> None:
    loaded = document("RateLimit", {"limits": [{"rate": "10/s"}]})
    assert limits(loaded) == (LimitSpec(Rate(10, 1)),)
    (found,) = loaded.documents
    assert isinstance(found, RateLimit)
    assert found.spec.selector == Selector()
    assert limits(loaded)[0].at is not None


def test_every_field_of_a_limit_comes_out(document: Document) -> None:
    loaded = document(
        "RateLimit",
        {
            "selector": {"matchLabels": {"app": "x"}},
            "limits": [
                {
                    "match": {
                        "principals": ["cluster.local/ns/agent/sa/alice"],
                        "notNamespaces": ["batch"],
                        "trustDomains": ["other.org"],
                        "ipBlocks": ["10.0.0.0/8"],
                        "hosts": ["a.test"],
                        "ports": ["8443"],
                        "methods": ["POST"],
                        "paths": ["/mcp"],
                        "mcpMethods": ["tools/call"],
                        "tools": ["read_*"],
                        "notTools": ["read_secret"],
                        "resources": ["file:///*"],
                        "prompts": ["p"],
                    },
                    "per": ["principal", "tool"],
                    "rate": "100/minute",
                    "burst": 20,
                },
                {"match": {"serviceAccounts": ["agent/bob"]}, "rate": "1000/h"},
            ],
        },
    )
    assert loaded.problems == ()
    assert limits(loaded) == (
        LimitSpec(
            Rate(100, 60),
            20,
            SourceSpec(
                principals=("cluster.local/ns/agent/sa/alice",),
                not_namespaces=("batch",),
                trust_domains=("other.org",),
                ip_blocks=("10.0.0.0/8",),
            ),
            OperationSpec(
                hosts=("a.test",),
                ports=("8443",),
                methods=("POST",),
                paths=("/mcp",),
                mcp_methods=("tools/call",),
                tools=("read_*",),
                not_tools=("read_secret",),
                resources=("file:///*",),
                prompts=("p",),
            ),
            (Per.PRINCIPAL, Per.TOOL),
        ),
        LimitSpec(Rate(1000, 3600), source=SourceSpec(service_accounts=("agent/bob",))),
    )


# -- rates


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1/s", Rate(1, 1)),
        ("10/second", Rate(10, 1)),
        ("100/m", Rate(100, 60)),
        ("100/minute", Rate(100, 60)),
        ("7/h", Rate(7, 3600)),
        ("1000000/hour", Rate(1_000_000, 3600)),
    ],
)
def test_a_rate_is_a_number_of_calls_in_a_unit_of_time(
    text: str, rate: Rate, document: Document
) -> None:
    assert limits(document("RateLimit", {"limits": [{"rate": text}]}))[0].rate == rate


@pytest.mark.parametrize(
    ("written", "fix"),
    [
        ("10", "write `10/s`"),
        (10, "write `10/s`"),
        ("10 / s", "write `10/s`"),
        ("10/sec", "write `10/s`"),
        ("10/S", "write `10/s`"),
        ("10 per minute", "write `10/m`"),
        ("10/min", "write `10/m`"),
        ("10rps", "write `10/s`"),
        ("10 rpm", "write `10/m`"),
        ("10/1s", "write `10/s`"),
        ("10ps", "write `10/s`"),
        ("2 hours", "write `2/h`"),
        ("0.5/s", "write `30/m`"),
        (0.5, "write `30/m`"),
        ("0.001/s", "write `3/h`, the next lower rate"),
        ("2.0/s", "write `2/s`"),
        ("240/day", "write `10/h`"),
        ("1000/d", "write `41/h`, the next lower rate"),
        ("0/s", "keep calls out with an AuthorizationPolicy of action DENY"),
        ("2000000/s", "write at most `1000000/s`, or remove the limit"),
        ("0.0000001/s", "write a whole number of calls"),
        ("many", "write a whole number of calls"),
        ("10/fortnight", "write a whole number of calls"),
        ("-1/s", "write a whole number of calls"),
        ("1e3/s", "write a whole number of calls"),
        ("", "write a whole number of calls"),
        ("١/s", "write a whole number of calls"),
    ],
)
def test_another_spelling_of_a_rate_is_told_the_right_one(
    written: object, fix: str, document: Document
) -> None:
    loaded = document("RateLimit", {"limits": [{"rate": written}]})
    (problem,) = loaded.problems
    assert problem.code == "SC0212"
    assert problem.help.startswith(fix)
    assert "spec.limits[0].rate" in problem.message
    assert loaded.documents == ()


@pytest.mark.parametrize("written", [True, [], {}, None])
def test_what_is_no_text_is_no_rate(written: object, document: Document) -> None:
    loaded = document("RateLimit", {"limits": [{"rate": written}]})
    assert found_codes(loaded) in (["SC0203"], ["SC0209"])
    assert loaded.documents == ()


@given(st.text(max_size=20) | st.from_regex(r"[0-9./ a-z]{0,12}", fullmatch=True))
def test_any_text_is_a_rate_or_an_error_whose_fix_is_a_rate(text: str) -> None:
    def read(written: str) -> tuple[Rate | None, Notes]:
        notes = Notes()
        try:
            return RateForm().read(
                ScalarNode(written, written, Where("f", 1, 1)), "r", notes
            ), notes
        except Unread:
            return None, notes

    rate, notes = read(text)
    assert (rate is None) == bool(notes.errors)
    if rate is None and notes.problems[0].help.startswith("write `"):
        assert read(notes.problems[0].help.split("`")[1])[0] is not None


# -- what may not be written


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({}, "SC0202"),
        ({"limits": []}, "SC0210"),
        ({"limits": [{}]}, "SC0202"),
        ({"limits": [{"rate": "1/s"}] * (MOST_LIMITS + 1)}, "SC0210"),
        ({"limits": [{"rate": "1/s", "burst": 0}]}, "SC0206"),
        ({"limits": [{"rate": "1/s", "burst": 1_000_001}]}, "SC0206"),
        ({"limits": [{"rate": "1/s", "burst": "5"}]}, "SC0203"),
        ({"limits": [{"rate": "1/s", "per": []}]}, "SC0210"),
        ({"limits": [{"rate": "1/s", "per": ["user"]}]}, "SC0205"),
        ({"limits": [{"rate": "1/s", "per": "tool"}]}, "SC0203"),
        ({"limits": [{"rate": "1/s", "match": {}}]}, "SC0402"),
        ({"limits": [{"rate": "1/s", "match": {"tool": ["a"]}}]}, "SC0204"),
        ({"limits": [{"rate": "1/s", "match": {"tools": []}}]}, "SC0210"),
        ({"limits": [{"rate": "1/s", "match": {"tools": [""]}}]}, "SC0401"),
        ({"limits": [{"rate": "1/s", "match": {"ipBlocks": ["a"]}}]}, "SC0406"),
        ({"limits": [{"rate": "1/s", "match": {"ports": ["http"]}}]}, "SC0407"),
        ({"limits": [{"rate": "1/s", "match": {"principals": ["spiffe://a/b"]}}]}, "SC0414"),
        ({"limits": [{"rate": "1/s", "match": {"methods": ["post"]}}]}, "SC0416"),
        ({"limits": [{"rate": "1/s", "match": {"tools": ["a*b"]}}]}, "SC0415"),
        (
            {
                "limits": [
                    {
                        "rate": "1/s",
                        "match": {"serviceAccounts": ["a/b"], "namespaces": ["a"]},
                    }
                ]
            },
            "SC0410",
        ),
        ({"limits": [{"rate": "1/s", "unit": "s"}]}, "SC0204"),
        ({"limits": [{"rate": "1/s"}], "targetRefs": []}, "SC0304"),
    ],
)
def test_what_a_rate_limit_may_not_say(spec: dict[str, Any], code: str, document: Document) -> None:
    loaded = document("RateLimit", spec)
    assert found_codes(loaded) == [code]
    warning = code in ("SC0415", "SC0416")
    assert len(loaded.documents) == int(warning)


def test_a_mistyped_word_of_per_is_told_which_was_meant(document: Document) -> None:
    (problem,) = document(
        "RateLimit", {"limits": [{"rate": "1/s", "per": ["mcp_method"]}]}
    ).problems
    assert problem.help.startswith("did you mean `mcpMethod`?")


# -- what documents mean together


def rate_limit(spec: str = '{limits: [{rate: "1/m"}]}', metadata: str = "") -> str:
    return text_of("RateLimit", spec, metadata)


def test_without_a_rate_limit_there_is_nothing_to_ask() -> None:
    assert compiled(policy()).rate_limits is None


def test_all_documents_for_the_workload_count_together() -> None:
    snapshot = compiled(
        policy(),
        text_of("RateLimit", '{limits: [{rate: "1/m"}, {rate: "2/m"}]}', name="first"),
        text_of("RateLimit", '{limits: [{rate: "3/m"}]}', "namespace: istio-system", "second"),
    )
    assert snapshot.rate_limits is not None
    names = {"prod/first#0", "prod/first#1", "istio-system/second#0"}
    assert snapshot.rate_limits.names == names


@pytest.mark.parametrize(
    "text",
    [
        rate_limit(metadata="namespace: other"),
        rate_limit('{selector: {matchLabels: {app: other}}, limits: [{rate: "1/m"}]}'),
    ],
)
def test_a_rate_limit_for_another_workload_has_no_effect_and_says_so(text: str) -> None:
    snapshot = compiled(policy(), text)
    assert snapshot.rate_limits is None
    assert codes(snapshot.warnings) == ["SC0901"]


@pytest.mark.parametrize(
    ("limit", "needed"),
    [
        ('{rate: "1/m", per: [principal]}', False),
        ('{rate: "1/m", per: [tool]}', True),
        ('{rate: "1/m", match: {mcpMethods: [tools/call]}}', True),
    ],
)
def test_where_a_limit_asks_about_mcp_bodies_must_be_messages(limit: str, needed: bool) -> None:
    snapshot = compiled(policy(), rate_limit(f"{{limits: [{limit}]}}"))
    (service,) = snapshot.services.values()
    assert service.policy.needs_messages is needed


def test_a_limit_that_asks_for_tokens_where_none_are_verified_draws_a_warning() -> None:
    limit = '{limits: [{match: {requestPrincipals: ["*"]}, rate: "1/m"}]}'
    assert codes(compiled(policy(), rate_limit(limit)).warnings) == ["SC0903"]


def test_a_limit_knows_its_line() -> None:
    snapshot = compiled(
        policy(),
        """\
---
apiVersion: sidecar/v1
kind: RateLimit
metadata: {name: calls}
spec:
  limits:
  - rate: 1/m
  - rate: 2/m
""",
    )
    assert snapshot.rate_limits is not None
    first, second = (one.ref.at for one in snapshot.rate_limits._counted)
    assert first is not None
    assert second is not None
    assert second.line == first.line + 1


def test_the_size_of_the_table_is_a_limit() -> None:
    assert compiled(bootstrap(), policy()).limits.rate_limit_buckets == 10_000
    small = bootstrap(spec="limits: {rateLimitBuckets: 7}")
    assert compiled(small, policy()).limits.rate_limit_buckets == 7
