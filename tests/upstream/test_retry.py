"""Retries in tables: Istio's own for what a `retries` block means, Envoy's rules for the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.upstream.retry import (
    INBOUND,
    OUTBOUND,
    Failure,
    RetryBudget,
    RetryPolicy,
    unknown_conditions,
)
from sidecar.upstream.text import TextMatch

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors" / "retry_and_fault.json"


def cases(table: str) -> list[Any]:
    if not VECTORS.exists():
        return [pytest.param({}, marks=pytest.mark.skip(reason="no test data"))]
    found = json.loads(VECTORS.read_text())[table]
    return [pytest.param(one, id=one["name"]) for one in found]


def seconds(text: str | None) -> float:
    if text is None:
        return 0.0
    number = text.removesuffix("ms")
    return float(number) / 1000 if number != text else float(text.removesuffix("s"))


def arguments(case: dict[str, Any]) -> dict[str, Any]:
    written = case["retries"] or {}
    return {
        "attempts": written.get("attempts"),
        "retry_on": written.get("retryOn"),
        "backoff": seconds(written.get("backoff")),
    }


def shown(policy: RetryPolicy, expect: dict[str, Any]) -> dict[str, Any]:
    """Return *policy* in the words of *expect*.

    Envoy draws a host anew so many times to avoid those before; here they are left out of the
    draw, so that number has no counterpart and is taken as it stands.
    """
    found: dict[str, Any] = {
        "numRetries": policy.attempts,
        "retryOn": ",".join(policy.retry_on),
        "retriableStatusCodes": list(policy.statuses),
        "perTryTimeout": f"{policy.per_try_timeout:g}s" if policy.per_try_timeout else None,
        "avoidPreviousHosts": policy.avoid_previous,
    }
    if "backoffBase" in expect:
        found["backoffBase"] = expect["backoffBase"]
        assert policy.base == seconds(expect["backoffBase"])
    if "hostSelectionRetryMaxAttempts" in expect:
        found["hostSelectionRetryMaxAttempts"] = expect["hostSelectionRetryMaxAttempts"]
    return found


@pytest.mark.parametrize("case", cases("outbound"))
def test_a_route_gets_the_policy_that_istio_makes_of_its_retries(case: dict[str, Any]) -> None:
    written = case["retries"] or {}
    policy = RetryPolicy.of_istio(
        **arguments(case),
        per_try_timeout=seconds(written.get("perTryTimeout")),
        ignore_previous_hosts=written.get("retryIgnorePreviousHosts"),
        hashed=case.get("hashPolicy", False),
    )
    expect = case["expect"]
    if expect is None:
        assert policy.attempts == 0
    else:
        assert shown(policy, expect) == expect


@pytest.mark.parametrize("case", cases("inbound"))
def test_an_inbound_gets_the_policy_that_istio_makes_of_it(case: dict[str, Any]) -> None:
    policy = RetryPolicy.of_inbound(**arguments(case))
    expect = case["expect"]
    if expect is None:
        assert policy.attempts == 0
    else:
        assert shown(policy, expect) == expect


RESET = Failure()
UNSENT = Failure(sent=False)


@pytest.mark.parametrize(
    ("retry_on", "wanted", "others"),
    [
        (",".join(OUTBOUND), [UNSENT], [RESET, Failure(503), Failure(500), Failure(409)]),
        (",".join(INBOUND), [UNSENT], [RESET, Failure(503)]),
        ("5xx", [UNSENT, RESET, Failure(500), Failure(599)], [Failure(499), Failure(404)]),
        ("gateway-error", [RESET, Failure(502), Failure(503), Failure(504)], [Failure(500)]),
        ("reset", [UNSENT, RESET], [Failure(503)]),
        ("retriable-4xx", [UNSENT, Failure(409)], [RESET, Failure(404), Failure(429)]),
        ("404,503", [Failure(404), Failure(503)], [RESET, Failure(500)]),
        ("retriable-status-codes", [UNSENT], [Failure(503)]),
        ("unavailable", [Failure(200, grpc="14")], [Failure(200, grpc="13"), Failure(503)]),
        ("internal,cancelled", [Failure(200, grpc="13"), Failure(200, grpc="1")], [RESET]),
        ("envoy-ratelimited", [Failure(429, ratelimited=True)], [Failure(429)]),
        ("5xx,429,unavailable", [Failure(429)], [Failure(429, ratelimited=True)]),
        ("gateway-error", [UNSENT], [Failure(503, ratelimited=True)]),
        ("retriable-headers", [UNSENT], [RESET, Failure(503)]),
    ],
)
def test_a_failure_is_worth_another_try_if_its_name_stands_there(
    retry_on: str, wanted: list[Failure], others: list[Failure]
) -> None:
    policy = RetryPolicy.of_istio(retry_on=retry_on)
    assert [one for one in wanted if not policy.wants(one)] == []
    assert [one for one in others if policy.wants(one)] == []


@pytest.mark.parametrize(
    ("number", "longest"),
    [(1, 0.025), (2, 0.075), (3, 0.175), (4, 0.25), (5, 0.25), (1000, 0.25)],
)
def test_the_back_off_is_drawn_from_nothing_up_to_a_cap(number: int, longest: float) -> None:
    policy = RetryPolicy()
    assert policy.delay(number, 0.0) == 0.0
    assert policy.delay(number, 0.5) == pytest.approx(longest / 2)
    assert policy.delay(number, 0.999999) == pytest.approx(longest, rel=1e-5)


def test_a_base_of_ones_own_moves_the_cap_with_it() -> None:
    policy = RetryPolicy.of_istio(backoff=2.0)
    assert policy.delay(1, 1.0) == pytest.approx(2.0)
    assert policy.delay(9, 1.0) == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("written", "unknown"),
    [
        ("5xx,gateway-error", []),
        ("5xx,invalid policy", ["invalid policy"]),
        ("503,connect-failure", []),
        ("600,connect-failure", ["600"]),
        ("1000", ["1000"]),
        (" reset ,,", []),
        ("reset5,RESET", ["reset5", "RESET"]),
    ],
)
def test_what_names_no_condition_is_found(written: str, unknown: list[str]) -> None:
    assert unknown_conditions(written) == unknown


def test_only_tools_that_are_named_may_be_called_again() -> None:
    policy = RetryPolicy(idempotent_tools=(TextMatch.pattern("read_*"),))
    assert policy.repeats_tool("read_file")
    assert not policy.repeats_tool("write_file")
    assert not RetryPolicy().repeats_tool("read_file")


@pytest.mark.parametrize(
    ("budget", "retrying", "active", "allowed"),
    [
        (RetryBudget(2), 1, 0, True),
        (RetryBudget(2), 2, 1000, False),
        (RetryBudget(0), 0, 1000, False),
        (RetryBudget(percent=20), 2, 0, True),
        (RetryBudget(percent=20), 3, 0, False),
        (RetryBudget(percent=20), 19, 100, True),
        (RetryBudget(percent=20), 20, 100, False),
        (RetryBudget(percent=20), 3, 19, False),
        (RetryBudget(percent=20), 3, 20, True),
        (RetryBudget(percent=0, least=0), 0, 1000, False),
    ],
)
def test_a_budget_is_a_count_or_a_share(
    budget: RetryBudget, retrying: int, active: int, allowed: bool
) -> None:
    assert budget.allows(retrying, active) is allowed


@pytest.mark.parametrize("values", [{"most": -1}, {"least": -1}, {"percent": -1}, {"percent": 101}])
def test_a_budget_of_no_meaning_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|never less"):
        RetryBudget(**values)
