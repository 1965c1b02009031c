"""What is known of one exchange, and the line that is written of it."""

from __future__ import annotations

import pytest
from support.policies import ALICE, call
from support.records import PEER, RULE, call_of, line_of, permitted, record, refused

from sidecar.errors import Where
from sidecar.observe.record import Record
from sidecar.policy.call import Peer
from sidecar.policy.verdict import Finding, Reason, RuleRef, Verdict

FIXED = {
    "ts",
    "request_id",
    "peer",
    "caller",
    "http_method",
    "path",
    "mcp_method",
    "tool",
    "verdict",
    "reason",
    "rule",
    "at",
    "status",
    "upstream",
    "overhead_ms",
}


@pytest.mark.parametrize(
    ("verdict", "outcome", "reason"),
    [
        (permitted(), "allow", ""),
        (refused(), "deny", "denied"),
        (refused(Reason.TIMEOUT), "deny", "timeout"),
        (None, "error", ""),
    ],
)
def test_the_outcome_is_one_of_three_words(
    verdict: Verdict | None, outcome: str, reason: str
) -> None:
    made = record(verdict)
    assert (made.outcome, made.reason) == (outcome, reason)


@pytest.mark.parametrize(
    ("sent", "answered", "ended", "own"),
    [
        (0.0, 0.0, 100.004, 0.004),  # never sent: all of it is ours
        (100.001, 100.021, 100.023, 0.003),
        (100.001, 0.0, 130.0, 0.001),  # never answered: the rest is the server's
        (100.001, 200.0, 100.5, 0.0),  # never negative
    ],
)
def test_overhead_is_the_time_that_was_not_spent_waiting_for_the_server(
    sent: float, answered: float, ended: float, own: float
) -> None:
    made = record(permitted(), sent=sent, answered=answered)
    assert made.overhead(ended) == pytest.approx(own)


def test_a_line_names_who_asked_what_and_the_rule_that_decided() -> None:
    made = call_of("read_file")
    made.upstream = "127.0.0.1:9000"
    assert line_of(made, 100.023) == {
        "ts": "2023-11-14T22:13:20.250Z",
        "request_id": "id-1",
        "peer": "10.0.0.9:4711",
        "caller": ALICE,
        "http_method": "POST",
        "path": "/mcp",
        "mcp_method": "tools/call",
        "tool": "read_file",
        "verdict": "allow",
        "reason": "",
        "rule": "mcp-prod/readers#0",
        "at": "policies/p.yaml:7",
        "status": 200,
        "upstream": "127.0.0.1:9000",
        "overhead_ms": 3.0,
    }


@pytest.mark.parametrize(
    "made",
    [
        record(),
        record(refused(rule=None)),
        record(refused(rule=RuleRef("mcp-prod/none"))),
        record(refused(rule=RuleRef("mcp-prod/none", 1, Where("p.yaml")))),
        record(permitted(), "ping"),
        Record("id", Peer(None, "10.0.0.1"), "", 0.0),
    ],
)
def test_the_fixed_fields_are_always_there(made: Record) -> None:
    assert set(line_of(made)) == FIXED


def test_a_caller_that_proved_nothing_has_no_name() -> None:
    made = Record("id", Peer(None, "10.0.0.1", 80), "", 0.0)
    line = line_of(made)
    assert (line["caller"], line["peer"]) == ("", "10.0.0.1:80")


@pytest.mark.parametrize(
    ("verdict", "broken", "detail"),
    [
        (refused(detail="pattern `x`"), "", "pattern `x`"),
        (refused(detail="pattern `x`"), "broken off", "pattern `x`"),
        (refused(), "broken off", "broken off"),
        (permitted(), "the caller left", "the caller left"),
        (refused(), "", None),
    ],
)
def test_the_detail_says_what_the_caller_was_not_told(
    verdict: Verdict, broken: str, detail: str | None
) -> None:
    assert line_of(record(verdict, broken=broken)).get("detail") == detail


def test_a_finding_is_named_by_its_pattern_and_never_quoted() -> None:
    made = record(permitted(), finding=Finding("ignore", "params.a", "ignore previous"))
    line = line_of(made)
    assert line["finding"] == "ignore"
    assert "previous" not in str(line)


def test_neither_arguments_nor_results_are_written() -> None:
    made = record(permitted())
    made.call = call(
        "POST",
        "/mcp",
        body=b'{"jsonrpc":"2.0","id":1,"method":"tools/call",'
        b'"params":{"name":"a","arguments":{"key":"hunter2"}}}',
        headers=[("authorization", "Bearer hunter2")],
    )
    assert "hunter2" not in str(line_of(made))


def test_a_callers_text_is_cut_to_a_bound() -> None:
    made = record(refused(detail="d" * 5000), finding=Finding("f" * 5000), broken="b" * 5000)
    made.call = call("GET", "/" + "p" * 5000)
    line = line_of(made)
    assert max(len(str(value)) for value in line.values()) == 512
    assert PEER.principal in str(line["caller"])
    assert RULE.at is not None
