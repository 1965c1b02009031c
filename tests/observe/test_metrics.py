"""The numbers: every exchange is counted once, under names that are bounded."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.records import call_of, counted, permitted, record, refused

from sidecar.observe.family import gauge
from sidecar.observe.metrics import Metrics
from sidecar.policy.tokens.places import Edit
from sidecar.policy.tokens.rules import Checked
from sidecar.policy.verdict import Reason


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return what a scrape sees: (name, labels) -> value. It must parse."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def requests(metrics: Metrics) -> dict[tuple[str, str, str, str], float]:
    """Return the counter of exchanges: (method, tool, verdict, reason) -> value."""
    found = {}
    for (name, labels), value in samples(metrics).items():
        if name == "sidecar_requests_total":
            by = dict(labels)
            found[by["method"], by["tool"], by["verdict"], by["reason"]] = value
    return found


def test_exchanges_are_counted_by_what_was_asked_and_said() -> None:
    metrics = counted(
        call_of("read_file"),
        call_of("read_file"),
        record(refused(), "tools/call", "read_file", 403),
        record(permitted(), "ping"),
        record(permitted()),
        record(),
    )
    assert requests(metrics) == {
        ("tools/call", "read_file", "allow", ""): 2,
        ("tools/call", "read_file", "deny", "denied"): 1,
        ("ping", "", "allow", ""): 1,
        ("", "", "allow", ""): 1,
        ("", "", "error", ""): 1,
    }


def test_a_tool_that_nobody_was_allowed_to_call_has_no_name() -> None:
    invented = [record(refused(), "tools/call", f"invented-{n}", 403) for n in range(1000)]
    assert requests(counted(*invented)) == {("tools/call", "_other", "deny", "denied"): 1000}


def test_beyond_the_limit_tools_have_no_name() -> None:
    metrics = counted(*[call_of(f"tool-{n}") for n in range(5)], call_of("tool-0"), max_tools=2)
    assert requests(metrics) == {
        ("tools/call", "tool-0", "allow", ""): 2,
        ("tools/call", "tool-1", "allow", ""): 1,
        ("tools/call", "_other", "allow", ""): 3,
    }


@pytest.mark.parametrize(
    ("method", "label"),
    [
        ("tools/list", "tools/list"),
        ("notifications/cancelled", "notifications"),
        ("notifications/made-up", "notifications"),
        ("made/up", "_other"),
        ("_other", "_other"),
    ],
)
def test_a_method_that_nobody_knows_has_no_name(method: str, label: str) -> None:
    assert requests(counted(record(permitted(), method))) == {(label, "", "allow", ""): 1}


def test_a_name_cannot_break_the_exposition() -> None:
    evil = 'a"} 1 sidecar_requests_total{tool="b\\n'
    metrics = counted(call_of(evil))
    assert requests(metrics) == {("tools/call", evil, "allow", ""): 1}


def test_statuses_that_a_server_makes_up_are_counted_with_their_hundred() -> None:
    metrics = counted(*[record(permitted(), status=status) for status in range(200, 1000)])
    stats = dict(metrics.stats())
    assert stats["http.inbound.downstream_rq_total"] == 800
    assert stats["http.inbound.downstream_rq_2xx"] == 100
    assert stats["http.inbound.downstream_rq_404"] == 1
    assert len(stats) < 100
    assert len(samples(metrics)) < 200


def test_envoys_counters_are_there_from_the_start() -> None:
    stats = dict(Metrics("1", 1).stats())
    for name in (
        "http.inbound.downstream_rq_total",
        "http.inbound.downstream_rq_2xx",
        "http.inbound.downstream_rq_5xx",
        "http.inbound.rbac.allowed",
        "http.inbound.rbac.denied",
        "listener.ssl.handshake",
        "listener.ssl.connection_error",
        "server.internal_faults",
        "access_log.lines_lost",
    ):
        assert stats[name] == 0


def test_handshakes_faults_and_lost_lines_are_told_under_both_names() -> None:
    metrics = Metrics("1", 1)
    metrics.handshakes, metrics.faults, metrics.lost_lines = 5, 1, 7
    metrics.handshake_failures = {"expired": 2, "unknown_ca": 1}
    stats, scraped = dict(metrics.stats()), samples(metrics)
    assert stats["listener.ssl.handshake"] == scraped["sidecar_handshakes_total", ()] == 5
    assert stats["server.internal_faults"] == scraped["sidecar_internal_faults_total", ()] == 1
    assert stats["access_log.lines_lost"] == scraped["sidecar_access_lines_lost_total", ()] == 7
    assert stats["listener.ssl.connection_error"] == 3
    assert stats["listener.ssl.fail_verify.expired"] == 2
    assert scraped["sidecar_handshake_failures_total", (("reason", "expired"),)] == 2


def test_time_of_ours_and_of_the_servers_are_told_apart() -> None:
    scraped = samples(counted(call_of("a"), record(refused(Reason.DENIED), status=403)))
    own, server = "sidecar_overhead_seconds", "mcp_server_operation_duration_seconds"
    by_call = (("mcp_method_name", "tools/call"),)
    assert scraped[f"{own}_count", ()] == 2
    assert scraped[f"{own}_sum", ()] == pytest.approx(0.003 + 0.023)
    assert scraped[f"{server}_count", by_call] == 1
    assert scraped[f"{server}_sum", by_call] == pytest.approx(0.022)


def test_the_bounds_of_buckets_are_inclusive_and_cumulative() -> None:
    scraped = samples(
        counted(
            record(permitted(), sent=100.0, answered=100.0, started=100.0),
            ended=100.0,
        )
    )
    name = "sidecar_overhead_seconds_bucket"
    assert scraped[name, (("le", "0.0001"),)] == scraped[name, (("le", "+Inf"),)] == 1
    many = Metrics("1", 1)
    for ended in (100.001, 100.0011, 200.0):
        counted(record(permitted(), started=100.0), metrics=many, ended=ended)
    scraped = samples(many)
    assert scraped[name, (("le", "0.0025"),)] == 2
    assert scraped[name, (("le", "0.1"),)] == 2
    assert scraped[name, (("le", "+Inf"),)] == 3


def test_what_tokens_came_to_is_counted_where_tokens_are_accepted() -> None:
    made = [call_of("a") for _ in range(4)]
    for one, outcome in zip(made, ("accepted", "accepted", "expired"), strict=False):
        assert one.call is not None
        one.call.checked = Checked(outcome, (), "", Edit())
    scraped = samples(counted(*made))
    found = {labels: v for (name, labels), v in scraped.items() if name.endswith("checks_total")}
    assert found == {(("outcome", "accepted"),): 2, (("outcome", "expired"),): 1}


def test_the_version_and_the_gauges_of_others_are_told() -> None:
    metrics = Metrics("1.2.3", 1, lambda: [gauge("ours", "x").add(4)])
    scraped = samples(metrics)
    assert scraped["sidecar_build_info", (("version", "1.2.3"),)] == 1
    assert scraped["ours", ()] == 4


def test_two_sidecars_in_one_process_share_no_number() -> None:
    first, second = counted(call_of("a")), Metrics("1", 1)
    assert requests(first)
    assert requests(second) == {}
