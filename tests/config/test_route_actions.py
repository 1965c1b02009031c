"""Retries, faults, rewriting and header fields: Istio's rules of validity, and ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sidecar.config.documents import VirtualService
from sidecar.config.loaded import Loaded
from sidecar.config.traffic_specs import HttpRoute, Retries
from sidecar.upstream.edit import Edit
from sidecar.upstream.route import Fault, Rewrite
from sidecar.upstream.text import How, TextMatch

Document = Callable[..., Loaded]
Vectors = Callable[[str], dict[str, Any]]


def service(**fields: Any) -> dict[str, Any]:
    written = {name: value for name, value in fields.items() if value is not None}
    return {"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}], **written}]}


def retrying(on: str) -> dict[str, Any]:
    return service(retries={"attempts": 2, "retryOn": on})


def codes(loaded: Loaded) -> list[str]:
    return [problem.code for problem in loaded.problems]


def only(loaded: Loaded) -> HttpRoute:
    assert loaded.problems == ()
    (found,) = loaded.documents
    assert isinstance(found, VirtualService)
    return found.spec.http[0]


def as_fault(name: str, block: Any) -> Any:
    return None if block is None else {name: block}


@pytest.mark.parametrize(
    ("table", "block", "number"),
    [("retry_validation", "retries", 12), ("abort_validation", "abort", 13),
     ("delay_validation", "delay", 7)],
)  # fmt: skip
def test_istios_blocks_are_judged_as_istio_judges_them(
    table: str, block: str, number: int, vectors: Vectors, document: Document
) -> None:
    cases = vectors("retry_and_fault.json")[table]
    for case in cases:
        fields = {"fault": as_fault(block, case[block])} if block != "retries" else case
        spec = service(**{name: fields[name] for name in ("fault", "retries") if name in fields})
        loaded = document("VirtualService", spec)
        assert bool(loaded.errors) != case["valid"], (case, loaded.problems)
        if "warning" in case and case["valid"]:
            assert bool(loaded.problems) == case["warning"], case
    assert len(cases) == number


def test_every_field_of_retries_comes_out(document: Document) -> None:
    written = {
        "attempts": 3,
        "retryOn": "5xx,reset,409",
        "perTryTimeout": "2s",
        "backoff": "50ms",
        "retryIgnorePreviousHosts": False,
        "idempotentTools": ["read_*", "search"],
    }
    tools = (TextMatch(How.PREFIX, "read_"), TextMatch(How.EXACT, "search"))
    found = only(document("VirtualService", service(retries=written)))
    assert found.retries == Retries(3, "5xx,reset,409", 2.0, 0.05, False, tools)
    assert only(document("VirtualService", service())).retries == Retries()
    # Written and empty they are switched off, as `attempts` is 0 then (Istio).
    assert only(document("VirtualService", service(retries={}))).retries == Retries(0)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"delay": {"fixedDelay": "3s", "percentage": {"value": 0.5}}}, Fault(3.0, 0.5)),
        ({"delay": {"fixedDelay": "3s"}}, Fault(3.0, 0.0)),
        ({"delay": {"fixedDelay": "3s", "percent": 10}}, Fault(3.0, 10.0)),
        (
            {"abort": {"httpStatus": 418, "percentage": {"value": 100}}},
            Fault(0.0, 0.0, 418, 100.0),
        ),
        (
            {"abort": {"grpcStatus": "UNAVAILABLE", "percentage": {"value": 1}}},
            Fault(0.0, 0.0, 503, 1.0),
        ),
    ],
)
def test_a_fault_comes_out(written: dict[str, Any], meant: Fault, document: Document) -> None:
    assert only(document("VirtualService", service(fault=written))).fault == meant


def test_a_rewriting_comes_out(document: Document) -> None:
    found = only(document("VirtualService", service(rewrite={"uri": "/b", "authority": "b:80"})))
    assert found.rewrite == Rewrite("/b", b"b:80")


def test_header_fields_come_out(document: Document) -> None:
    request = {"set": {"X-A": "1"}, "add": {"x-b": " 2 "}, "remove": ["X-C"]}
    found = only(document("VirtualService", service(headers={"request": request})))
    assert found.request == Edit(((b"x-a", b"1"),), ((b"x-b", b"2"),), frozenset({b"x-c"}))
    assert found.reply is None


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"fault": {}}, "SC0609"),
        ({"fault": {"abort": {}}}, "SC0609"),
        ({"fault": {"abort": {"httpStatus": 500, "grpcStatus": "INTERNAL"}}}, "SC0609"),
        ({"fault": {"delay": {"percentage": {"value": 1}}}}, "SC0202"),
        ({"fault": {"delay": {"fixedDelay": "1s", "exponentialDelay": "1s"}}}, "SC0304"),
        ({"rewrite": {"uri": "b"}}, "SC0211"),
        ({"rewrite": {"uri": "/a/../b"}}, "SC0211"),
        ({"rewrite": {"uri": "/a?b"}}, "SC0211"),
        ({"rewrite": {"authority": "b:0"}}, "SC0211"),
        ({"rewrite": {"authority": "b/c"}}, "SC0211"),
        ({"rewrite": {"uriRegexRewrite": {"match": "a"}}}, "SC0304"),
        ({"headers": {"request": {"set": {"x a": "1"}}}}, "SC0211"),
        ({"headers": {"request": {"set": {"x-a": "1\r\nx-b: 2"}}}}, "SC0211"),
        ({"headers": {"request": {"set": {"x-a": "%REQ(x)%"}}}}, "SC0304"),
        ({"headers": {"request": {"remove": ["Mcp-Session-Id"]}}}, "SC0608"),
        ({"headers": {"request": {"set": {"mcp-method": "ping"}}}}, "SC0608"),
        ({"headers": {"request": {"set": {"Host": "b"}}}}, "SC0608"),
        ({"headers": {"request": {"add": {"x-forwarded-client-cert": "b"}}}}, "SC0608"),
        ({"headers": {"response": {"set": {"content-length": "0"}}}}, "SC0608"),
        ({"headers": {"response": {"remove": ["transfer-encoding"]}}}, "SC0608"),
        ({"retries": {"attempts": 1, "idempotentTools": []}}, "SC0210"),
        ({"retries": {"retryOn": "5xx"}}, "SC0605"),
        ({"retries": {"perTryTimeout": "2s"}}, "SC0605"),
        ({"rewrite": {}}, "SC0210"),
        ({"fault": {"abort": {"httpStatus": 500, "percentage": {"value": 0.00001}}}}, "SC0206"),
        ({"fault": {"delay": {"fixedDelay": "1s", "percentage": {"value": 0.00001}}}}, "SC0206"),
    ],
)
def test_what_an_action_may_not_say(fields: dict[str, Any], code: str, document: Document) -> None:
    loaded = document("VirtualService", service(**fields))
    assert {problem.code for problem in loaded.errors} == {code}
    assert loaded.documents == ()


def test_a_condition_that_never_holds_draws_a_warning(document: Document) -> None:
    loaded = document("VirtualService", retrying("5xx,retriable-headers"))
    assert codes(loaded) == ["SC0303"]
    assert len(loaded.documents) == 1
