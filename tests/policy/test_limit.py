"""Which limits a call counts for, whose bucket it draws from, and what a refusal says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from support.policies import ALICE, call, message, tool_call

from sidecar.errors import Where
from sidecar.policy.attributes import Mesh
from sidecar.policy.bucket import Rate
from sidecar.policy.call import Call
from sidecar.policy.limit import Limiter, LimitPolicy, LimitSpec, Per, RateLimits
from sidecar.policy.spec import OperationSpec, SourceSpec
from sidecar.policy.verdict import Permit, Reason, Refusal, RuleRef

BOB = "spiffe://cluster.local/ns/batch/sa/bob"
ELSEWHERE = "spiffe://other.org/ns/agent/sa/alice"
PERMIT = Permit(RuleRef("prod/everybody", 0))
_SOURCE = frozenset(SourceSpec.__slots__)


def limit(*per: str, rate: Rate = Rate(1, 60), burst: int = 0, **match: Iterable[str]) -> LimitSpec:  # noqa: B008 - frozen
    """One limit; each field of *match* goes to its source or its operation, by its name."""
    source = {name: tuple(values) for name, values in match.items() if name in _SOURCE}
    operation = {name: tuple(values) for name, values in match.items() if name not in _SOURCE}
    return LimitSpec(
        rate, burst, SourceSpec(**source), OperationSpec(**operation), tuple(map(Per, per))
    )


def compiled(*limits: LimitSpec, name: str = "calls") -> RateLimits:
    return RateLimits([LimitPolicy(name, "prod", limits, Where("f.yaml", 3))], Mesh())


def admitted(limits: RateLimits, *calls: Call, limiter: Limiter | None = None) -> list[bool]:
    """Which of *calls*, all at one time, are let through."""
    limiter = limiter or Limiter()
    return [limiter.admit(one, PERMIT, limits, 0.0) is PERMIT for one in calls]


# -- which calls count

READ, DROP = tool_call("read_file"), tool_call("drop_table")
PING, LIST = message("ping"), message("tools/list")
UNREADABLE = call("POST", "/mcp", body=b"not json")
STREAM = call("GET", "/mcp")


@pytest.mark.parametrize(
    ("match", "counts", "others"),
    [
        ({}, [READ, DROP, PING, UNREADABLE, STREAM, call(principal=None)], []),
        ({"tools": ["read_*"]}, [READ, UNREADABLE], [DROP, PING, STREAM]),
        ({"not_tools": ["read_*"]}, [DROP, PING, UNREADABLE, STREAM], [READ]),
        ({"mcp_methods": ["tools/call"]}, [READ, DROP, UNREADABLE], [PING, LIST, STREAM]),
        ({"tools": ["*"], "not_tools": ["drop_*"]}, [READ, UNREADABLE], [DROP, PING]),
        ({"prompts": ["a"]}, [message("prompts/get", {"name": "a"}), UNREADABLE], [READ]),
        (
            {"resources": ["file:///srv/*"]},
            [
                message("resources/read", {"uri": "file:///srv/a"}),
                message("resources/read", {"uri": "file:///srv/../etc"}),
                UNREADABLE,
            ],
            [message("resources/read", {"uri": "file:///etc/a"}), READ],
        ),
        ({"methods": ["POST"]}, [READ, UNREADABLE], [STREAM]),
        ({"paths": ["/mcp"]}, [READ, STREAM], [call("GET", "/other")]),
        ({"hosts": ["A.test"]}, [call(host="a.test")], [call(host="b.test")]),
        ({"ports": ["8443"]}, [call(port=8443)], [call(port=8444)]),
        (
            {"principals": ["cluster.local/ns/agent/sa/alice"]},
            [READ],
            [tool_call("read_file", principal=BOB), call(principal=None)],
        ),
        (
            {"not_principals": ["cluster.local/ns/agent/sa/alice"]},
            [tool_call("read_file", principal=BOB), call(principal=None)],
            [READ],
        ),
        ({"namespaces": ["agent"]}, [READ], [tool_call("read_file", principal=BOB)]),
        ({"service_accounts": ["agent/alice"]}, [READ], [tool_call("x", principal=BOB)]),
        ({"trust_domains": ["other.org"]}, [tool_call("x", principal=ELSEWHERE)], [READ]),
        ({"ip_blocks": ["10.0.0.0/8"]}, [READ], [call(ip="192.0.2.1"), call(ip="::1")]),
        (
            {"request_principals": ["https://issuer.test/u1"]},
            [call(claims={"iss": "https://issuer.test", "sub": "u1"})],
            [READ, call(claims={"iss": "https://issuer.test", "sub": "u2"})],
        ),
        ({"tools": ["read_*"], "namespaces": ["batch"]}, [], [READ, UNREADABLE]),
    ],
    ids=str,
)
def test_a_limit_counts_what_a_rule_with_the_same_fields_would_match(
    match: dict[str, Any], counts: list[Call], others: list[Call]
) -> None:
    limits = compiled(limit(**match))
    assert [len(limits.drawn(one)) for one in counts] == [1] * len(counts)
    assert [limits.drawn(one) for one in others] == [[]] * len(others)


def test_every_limit_that_matches_has_a_say() -> None:
    limits = compiled(limit(rate=Rate(5, 60)), limit(rate=Rate(3, 60), tools=["read_*"]))
    assert admitted(limits, READ, READ, READ, READ, DROP, DROP, DROP) == [
        *(True, True, True, False),  # the narrow one is empty, and the wide one was not drawn from
        *(True, True, False),
    ]


def test_a_call_that_names_several_resources_counts_once() -> None:
    wanted = {"resourceSubscriptions": ["file:///a", "file:///b", "file:///c"]}
    several = message("subscriptions/listen", {"notifications": wanted})
    limits = compiled(limit(rate=Rate(2, 60), resources=["file:///*"]))
    assert admitted(limits, several, several, several) == [True, True, False]


def test_of_several_resources_one_that_matches_is_enough() -> None:
    wanted = {"resourceSubscriptions": ["file:///a", "file:///secret"]}
    several = message("subscriptions/listen", {"notifications": wanted})
    assert admitted(compiled(limit(resources=["file:///secret"])), several, several)[1] is False


def batch(*calls: Call) -> Call:
    messages = tuple(one.message for one in calls if one.message is not None)
    return replace(call("POST", "/mcp", body=b"[...]"), batch=messages)


def test_the_messages_of_a_batch_count_one_by_one() -> None:
    limits = compiled(limit(rate=Rate(3, 60), tools=["read_*"]), limit(rate=Rate(9, 60)))
    limiter = Limiter()
    several = batch(READ, DROP, READ, LIST)
    assert admitted(limits, several, several, limiter=limiter) == [True, False]
    # Of the narrow limit two of three are gone, of the wide one four of nine.
    assert admitted(limits, READ, READ, *[DROP] * 5, limiter=limiter) == [
        *(True, False),
        *(True, True, True, True, False),
    ]


def test_a_batch_draws_from_the_bucket_of_each_message() -> None:
    limits, limiter = compiled(limit("tool")), Limiter()
    assert admitted(limits, batch(READ, DROP), READ, DROP, LIST, limiter=limiter) == [
        *(True, False, False),
        True,
    ]


def test_a_batch_larger_than_the_burst_is_told_so_and_not_to_come_again() -> None:
    limits = compiled(limit(rate=Rate(2, 60)))
    refusal = Limiter().admit(batch(READ, READ, READ), PERMIT, limits, 0.0)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.headers, refusal.retry_after) == (429, (), 0)
    assert refusal.message == "too many calls at once: at most 2 may come together"


@pytest.mark.parametrize(
    ("spec", "asks"),
    [
        (limit("principal", methods=["POST"], paths=["/mcp"]), False),
        (limit(tools=["a"]), True),
        (limit(not_mcp_methods=["ping"]), True),
        (limit("principal", "tool"), True),
        (limit("resource"), True),
    ],
)
def test_a_limit_says_whether_it_asks_about_mcp(spec: LimitSpec, asks: bool) -> None:
    assert compiled(limit(), spec).uses_mcp is asks


# -- whose bucket


def subscription(*uris: str) -> Call:
    return message("subscriptions/listen", {"notifications": {"resourceSubscriptions": list(uris)}})


@pytest.mark.parametrize(
    ("per", "one", "same", "other"),
    [
        ("principal", READ, DROP, tool_call("read_file", principal=BOB)),
        ("principal", READ, tool_call("x", ip="10.9.9.9"), tool_call("x", principal=ELSEWHERE)),
        ("principal", call(principal=None, ip="10.0.0.1"), call(principal=None, ip="::1"), READ),
        ("namespace", READ, tool_call("x", principal=ELSEWHERE), tool_call("x", principal=BOB)),
        ("namespace", call(principal=None), call(principal="spiffe://a.b/c"), READ),
        ("trustDomain", READ, tool_call("x", principal=BOB), tool_call("x", principal=ELSEWHERE)),
        ("trustDomain", call(principal=None), call(principal=None), READ),
        ("sourceIp", READ, tool_call("x", principal=BOB), call(ip="10.0.0.2")),
        ("remoteIp", READ, call(ip="10.0.0.9", remote_ip="10.0.0.1"), call(remote_ip="10.0.0.2")),
        ("host", call(host="A.test"), call(host="a.test"), call(host="b.test")),
        ("port", call(port=1), call(port=1, path="/x"), call(port=2)),
        ("method", STREAM, call("GET", "/x"), READ),
        ("path", READ, STREAM, call("GET", "/x")),
        ("mcpMethod", READ, DROP, LIST),
        ("mcpMethod", STREAM, call("DELETE", "/mcp"), UNREADABLE),
        ("tool", READ, tool_call("read_file", {"a": 1}), DROP),
        ("tool", PING, STREAM, UNREADABLE),
        ("tool", UNREADABLE, call("POST", "/x", body=b"other"), READ),
        ("prompt", message("prompts/get", {"name": "a"}), message("prompts/get", {"name": "a"}),
         message("prompts/get", {"name": "b"})),
        ("resource", subscription("file:///a"), message("resources/read", {"uri": "file:///a"}),
         subscription("file:///b")),
        ("resource", subscription("a:1", "a:2"), subscription("a:3", "a:4"), subscription("a:1")),
        (
            "requestPrincipal",
            call(claims={"iss": "i", "sub": "u1"}),
            call(claims={"iss": "i", "sub": "u1", "aud": "x"}, ip="::1"),
            call(claims={"iss": "i", "sub": "u2"}),
        ),
        ("requestPrincipal", call(), call(claims={"iss": "i", "sub": 1}), call(
            claims={"iss": "i", "sub": "u1"})),
    ],
)  # fmt: skip
def test_calls_are_told_apart_by_what_is_written(
    per: str, one: Call, same: Call, other: Call
) -> None:
    assert admitted(compiled(limit(per)), one, same, other) == [True, False, True]


def test_every_word_of_per_is_told_apart_by_something() -> None:
    assert all(compiled(limit(per)).drawn(READ) for per in Per)


def test_without_per_all_that_match_draw_from_one_bucket() -> None:
    limits = compiled(limit(tools=["*"]))
    assert admitted(limits, READ, tool_call("x", principal=BOB)) == [True, False]


def test_all_words_of_per_together_make_one_key() -> None:
    limits = compiled(limit("principal", "tool"))
    calls = (READ, DROP, tool_call("read_file", principal=BOB), READ, DROP)
    assert admitted(limits, *calls) == [True, True, True, False, False]


def test_two_limits_of_one_document_have_buckets_of_their_own() -> None:
    limits = compiled(limit("tool", tools=["read_file"]), limit("tool", tools=["drop_table"]))
    assert admitted(limits, READ, DROP, READ) == [True, True, False]


def test_a_long_value_makes_a_short_key() -> None:
    limits = compiled(limit("path"))
    long, longer = call(path="/" + "a" * 10_000), call(path="/" + "a" * 10_001)
    [(_, key)] = limits.drawn(long)
    assert len(key[1] or b"") <= 64
    assert admitted(limits, long, longer, long) == [True, True, False]


def test_a_value_that_looks_like_a_digest_is_none() -> None:
    limits = compiled(limit("tool"))
    [(_, key)] = limits.drawn(tool_call("t" * 256))
    assert type(key[1]) is bytes
    twin = tool_call(key[1].hex())
    assert admitted(limits, tool_call("t" * 256), twin) == [True, True]


# -- the refusal


def refused(limits: RateLimits, *, now: float = 0.0, limiter: Limiter | None = None) -> Refusal:
    limiter = limiter or Limiter()
    while type(verdict := limiter.admit(READ, PERMIT, limits, now)) is Permit:
        pass
    assert isinstance(verdict, Refusal)
    return verdict


def test_a_refusal_names_the_limit_its_place_and_when_to_come_again() -> None:
    spec = replace(limit(rate=Rate(1, 60)), at=Where("f.yaml", 9, 3))
    refusal = refused(compiled(limit(tools=["other"]), spec))
    assert (refusal.reason, refusal.status, refusal.code) == (Reason.RATE_LIMITED, 429, -32007)
    assert refusal.rule == RuleRef("prod/calls", 1, Where("f.yaml", 9, 3))
    assert (refusal.headers, refusal.retry_after) == ((b"retry-after: 60\r\n",), 60)
    assert refusal.message == "too many calls: try again in 60 s"
    assert refusal.detail == "1/m, burst 1, has room in 60.000 s"


@pytest.mark.parametrize(
    ("rate", "seconds"),
    [(Rate(10, 1), 1), (Rate(1, 1), 1), (Rate(40, 60), 2), (Rate(7, 3600), 515)],
)
def test_the_time_to_wait_is_in_whole_seconds_at_least_one_and_enough(
    rate: Rate, seconds: int
) -> None:
    limits, limiter = compiled(limit(rate=rate)), Limiter()
    assert refused(limits, limiter=limiter).retry_after == seconds
    assert limiter.admit(READ, PERMIT, limits, float(seconds)) is PERMIT


def test_the_burst_is_what_the_rate_counts_unless_it_is_written() -> None:
    assert admitted(compiled(limit(rate=Rate(3, 60))), *[READ] * 4).count(True) == 3
    assert admitted(compiled(limit(rate=Rate(3, 60), burst=1)), *[READ] * 4).count(True) == 1
    assert admitted(compiled(limit(rate=Rate(3, 60), burst=9)), *[READ] * 12).count(True) == 9


def test_what_each_limit_refuses_is_counted() -> None:
    limits, limiter = compiled(limit(), limit(tools=["other"])), Limiter()
    limiter.keep(limits, 10)
    assert limiter.refused == {"prod/calls#0": 0, "prod/calls#1": 0}
    admitted(limits, READ, READ, READ, limiter=limiter)
    assert limiter.refused == {"prod/calls#0": 2, "prod/calls#1": 0}
    assert (limiter.buckets, limiter.sharing) == (1, 0)


# -- reloads


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        (compiled(limit("principal"), limit(tools=["x"])), True),
        (compiled(replace(limit("principal"), at=Where("other.yaml", 99))), True),
        (compiled(limit("principal", burst=2)), False),
        (compiled(limit("principal", rate=Rate(2, 60))), False),
        (compiled(limit("principal", tools=["read_*"])), False),
        (compiled(limit("principal", "tool")), False),
        (compiled(limit(tools=["x"]), limit("principal")), False),
        (compiled(limit("principal"), name="other"), False),
    ],
)
def test_a_limit_keeps_its_buckets_as_long_as_it_says_the_same(
    after: RateLimits, kept: bool
) -> None:
    limiter, before = Limiter(), compiled(limit("principal"))
    limiter.keep(before, 10)
    assert admitted(before, READ, READ, limiter=limiter) == [True, False]
    limiter.keep(after, 10)
    assert limiter.buckets == int(kept)
    assert admitted(after, READ, limiter=limiter) == [not kept]


def test_counts_stay_for_names_that_stay() -> None:
    limiter, before = Limiter(), compiled(limit(), limit(tools=["x"]))
    limiter.keep(before, 10)
    admitted(before, READ, READ, limiter=limiter)
    limiter.keep(compiled(limit(burst=7)), 10)
    assert limiter.refused == {"prod/calls#0": 1}
    limiter.keep(None, 10)
    assert (limiter.refused, limiter.buckets) == ({}, 0)


def test_a_table_that_is_full_makes_new_callers_share() -> None:
    limits, limiter = compiled(limit("principal", rate=Rate(3, 60))), Limiter()
    limiter.keep(limits, 1)
    others = [tool_call("x", principal=f"{ALICE}{number}") for number in range(4)]
    assert admitted(limits, READ, *others, limiter=limiter) == [True, True, True, True, False]
    assert (limiter.buckets, limiter.sharing) == (1, 3)
