"""Medians, ratios within rounds, and tables."""

from __future__ import annotations

import json

from race import summary
from race.generator import Yield


def _yield(cpu_us: float, **changed: float | str) -> Yield:
    fields: dict[str, float | str] = {
        "seconds": 2.0,
        "requests": 1000,
        "refused": 0,
        "errors": 0,
        "unsent": 0,
        "p50_us": 100.0,
        "p99_us": 900.0,
        "cpu_us": cpu_us,
        "cpu_share": 0.99,
        "others_share": 0.0,
        "rss_bytes": 50_000_000,
        "load_cpu_us": 11.0,
        "cipher": "",
        "fault": "",
    }
    return Yield(**(fields | changed))  # type: ignore[arg-type]


def _rounds(*cpu_us: float) -> dict[int, Yield]:
    return {turn: _yield(one) for turn, one in enumerate(cpu_us)}


def test_a_row_is_the_median_of_its_rounds_with_the_extremes() -> None:
    (row,) = summary.rows({"ours": _rounds(30.0, 50.0, 34.0)})
    assert (row.cpu_us, row.cpu_us_least, row.cpu_us_most) == (34.0, 30.0, 50.0)
    assert row.per_second == 500.0
    assert row.rss_mb == 50.0


def test_a_ratio_is_taken_within_each_round() -> None:
    # The machine was twice as slow in the last two rounds; the ratio is one half throughout.
    outcomes = {"ours": _rounds(20.0, 40.0, 40.0), "envoy-mcp": _rounds(40.0, 80.0, 80.0)}
    ours, envoy = summary.rows(outcomes)
    assert ours.ratios == {"envoy-mcp": 0.5}
    assert envoy.ratios == {"envoy-mcp": 1.0}


def test_a_round_that_is_missing_on_one_side_gives_no_ratio() -> None:
    outcomes = {"ours": {1: _yield(40.0)}, "nginx-lua": {0: _yield(1.0), 1: _yield(80.0)}}
    ours, _ = summary.rows(outcomes)
    assert ours.ratios == {"nginx-lua": 0.5}


def test_a_peer_without_a_round_has_no_row() -> None:
    assert [row.peer for row in summary.rows({"ours": _rounds(1.0), "lost": {}})] == ["ours"]


def test_a_peer_that_cannot_is_a_row_of_dashes() -> None:
    table = summary.markdown(summary.rows({"ours": _rounds(1.0)}), ["theirs"])
    *_, last = table.splitlines()
    assert last == "| theirs | - | - | - | - | - | - | - |"


def test_a_table_has_a_column_for_each_reference_that_took_part() -> None:
    table = summary.rows({"ours": _rounds(20.0), "envoy-mcp": _rounds(50.0)})
    lines = summary.markdown(table).splitlines()
    assert "x envoy-mcp" in lines[0]
    assert "x nginx-lua" not in lines[0]
    assert [line.count("|") for line in lines] == [lines[0].count("|")] * 4
    assert lines[2].startswith("| ours | 20.0 | 20.0..20.0 | 500 |")
    assert lines[2].endswith("| 0.40 |")


def test_a_doubtful_row_is_named_below_the_table() -> None:
    table = summary.rows({"ours": {0: _yield(20.0, refused=3)}, "sound": _rounds(1.0)})
    last = summary.markdown(table).splitlines()[-1]
    assert last == "- ours: 3 refused, 0 errors, 0 not sent in time."


def test_a_cpu_that_others_used_as_well_is_said() -> None:
    table = summary.rows({"ours": {0: _yield(20.0, others_share=0.25)}, "alone": _rounds(1.0)})
    doubts = summary.markdown(table).splitlines()[4:]
    assert doubts == ["", "- ours: other processes took 25% of its CPU, compare with care."]


def test_a_table_can_be_written_as_json() -> None:
    (row,) = summary.as_data(summary.rows({"ours": _rounds(20.0)}))
    assert json.loads(json.dumps(row))["cpu_us"] == 20.0
