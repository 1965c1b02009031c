"""The journal: every exchange is counted and written, and never more is kept than may be."""

from __future__ import annotations

import json

import pytest
from support.records import call_of, record, refused

from sidecar.observe.journal import Journal
from sidecar.observe.metrics import Metrics

MOST = 10_000


def journal(wall: float = 1_700_000_000.25, *, writes: bool = True) -> Journal:
    return Journal(Metrics("1", 10), lambda: wall, writes=writes)


def lines(made: Journal) -> list[dict[str, object]]:
    return [json.loads(line) for line in made.take().splitlines()]


def test_a_record_becomes_one_line_of_json_and_one_count() -> None:
    made = journal()
    made.write(call_of("read_file"), 100.023)
    made.write(record(refused(), "ping", status=403), 100.001)
    first, second = lines(made)
    assert (first["ts"], first["tool"]) == ("2023-11-14T22:13:20.250Z", "read_file")
    assert (second["reason"], second["status"]) == ("denied", 403)
    assert dict(made.metrics.stats())["http.inbound.downstream_rq_total"] == 2


def test_lines_are_given_once() -> None:
    made = journal()
    made.write(call_of("a"), 100.0)
    assert made.take().endswith(b"\n")
    assert made.take() == b""


def test_where_no_access_log_is_wanted_exchanges_are_still_counted() -> None:
    made = journal(writes=False)
    made.write(call_of("a"), 100.0)
    assert made.take() == b""
    assert dict(made.metrics.stats())["http.inbound.rbac.allowed"] == 1


def test_a_request_is_found_before_its_line_is_taken_and_after() -> None:
    made = journal()
    assert (made.find("id-1"), made.remembered) == (None, 0)
    made.write(call_of("a"), 100.0)
    for _ in range(2):
        assert json.loads(made.find("id-1") or b"{}")["tool"] == "a"
        assert (made.find("id-2"), made.remembered) == (None, 1)
        made.take()


def test_where_no_access_log_is_wanted_refusals_are_remembered_all_the_same() -> None:
    made = journal(writes=False)
    made.write(call_of("a"), 100.0)
    assert made.find("id-1") is None
    made.write(call_of("a", refused()), 100.0)
    assert json.loads(made.find("id-1") or b"{}")["verdict"] == "deny"
    assert made.take() == b""


def test_an_event_is_a_line_with_a_time() -> None:
    made = journal()
    made.event({"event": "handshake_failed", "reason": "expired"})
    assert lines(made) == [
        {"ts": "2023-11-14T22:13:20.250Z", "event": "handshake_failed", "reason": "expired"}
    ]


def test_when_nobody_takes_them_lines_are_lost_and_counted() -> None:
    made = journal()
    for _ in range(MOST + 5):
        made.write(call_of("a"), 100.0)
    made.event({"event": "too late"})
    assert made.metrics.lost_lines == 6
    assert dict(made.metrics.stats())["http.inbound.rbac.allowed"] == MOST + 5
    assert len(lines(made)) == MOST
    made.event({"event": "in time"})
    assert lines(made)[0]["event"] == "in time"


def test_a_text_of_the_callers_cannot_make_a_second_line() -> None:
    made = journal()
    made.write(record(refused(detail='a\n{"ts":"forged"}\r\x00\u2028')), 100.0)
    assert made.take().count(b"\n") == 1


@pytest.mark.parametrize(
    ("wall", "stamp"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000.999_9, "2023-11-14T22:13:20.999Z"),
        (1_709_164_799.5, "2024-02-28T23:59:59.500Z"),
        (1_709_251_199.0, "2024-02-29T23:59:59.000Z"),
        (4_102_444_800.001_1, "2100-01-01T00:00:00.001Z"),
    ],
)
def test_times_are_utc_with_milliseconds(wall: float, stamp: str) -> None:
    made = journal(wall)
    made.event({})
    assert lines(made)[0]["ts"] == stamp


def test_the_time_moves_on_and_may_go_back() -> None:
    now = [1_700_000_000.0]
    made = Journal(Metrics("1", 1), lambda: now[0], writes=True)
    for moment in (1_700_000_000.0, 1_700_000_000.5, 1_700_000_001.0, 1_600_000_000.0):
        now[0] = moment
        made.event({})
    assert [str(line["ts"])[11:] for line in lines(made)] == [
        "22:13:20.000Z",
        "22:13:20.500Z",
        "22:13:21.000Z",
        "12:26:40.000Z",
    ]
