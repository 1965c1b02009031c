"""The journal: every exchange is counted and written, and never more is kept than may be."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.policies import message
from support.records import PEER, call_of, permitted, record, refused

from sidecar.observe.journal import Journal
from sidecar.observe.metrics import Metrics
from sidecar.observe.record import Record
from sidecar.policy.call import Peer
from sidecar.policy.verdict import Decision, Finding, Permit, RuleRef

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


# Few of each, so that kinds come again; each text is one that JSON has to escape.
_TEXTS = st.sampled_from(["", "plain", 'a"b\\', "\n\x1f\x7f", "\u2028é\U0001f600", "x" * 600])
_PEERS = st.sampled_from([PEER, Peer(None, "", sni='"'), Peer(None, "::1", 9)])
_PERMITS = [permitted(), Permit(), Permit(RuleRef('a"b/c'))]
_VERDICTS = st.sampled_from([*_PERMITS, refused(), refused(detail='"'), None])
_SECONDS = st.floats(0, 3600)


@st.composite
def _records(draw: st.DrawFn) -> Record:
    made = Record("id-" + str(draw(st.integers(0, 9))), draw(_PEERS), "in", 100.0)
    made.verdict = draw(_VERDICTS)
    made.status = draw(st.sampled_from([0, 200, 502, 799]))
    made.upstream = draw(st.sampled_from(["", "10.0.0.1:80"]))
    name = draw(st.sampled_from(["", "tools/call", "ping"]))
    if draw(st.booleans()):
        made.call = message(name or "ping", {"name": "t"} if name == "tools/call" else None)
        made.call.path = "/" + draw(_TEXTS)
        made.call.method = draw(st.sampled_from(["POST", "GET"]))
        if made.call.message is not None:
            made.call.message.method = draw(_TEXTS)
            made.call.message.tool = draw(st.none() | _TEXTS)
        if not name:
            made.call.message = None
    made.sent = draw(st.just(0.0) | _SECONDS.map(lambda more: 100.0 + more))
    made.answered = draw(st.just(0.0) | st.just(made.sent + 0.25))
    if draw(st.integers(0, 3)) == 0:
        _remark(draw, made)
    return made


def _remark(draw: st.DrawFn, made: Record) -> None:
    """Have something said in the line of *made* that few lines say."""
    what = draw(st.sampled_from(["broken", "cluster", "why", "retries", "finding", "call"]))
    if what in ("broken", "cluster", "why"):
        setattr(made, what, draw(_TEXTS))
    elif what == "retries":
        made.retries = draw(st.integers(0, 2))
    elif what == "finding":
        made.finding = Finding(draw(_TEXTS))
    elif made.call is not None:
        made.call.own_id = draw(st.binary(max_size=200))
        made.call.audited = draw(st.sampled_from([(), (RuleRef("a/b"),)]))
        made.call.shadowed = draw(st.sampled_from([None, Decision(False)]))


@given(st.lists(st.tuples(_records(), _SECONDS), max_size=30))
def test_a_line_says_the_same_whether_its_kind_was_met_before(
    made: list[tuple[Record, float]],
) -> None:
    keeps = journal()
    for one, after in made:
        for times in range(2):
            keeps.write(one, 100.0 + after)
            [line] = lines(keeps)
            overhead = one.overhead(100.0 + after)
            assert line == one.line("2023-11-14T22:13:20.250Z", overhead), times
    assert dict(keeps.metrics.stats())["http.inbound.downstream_rq_total"] == 2 * len(made)


_PERMIT = permitted()
_OTHERWISE: list[dict[str, object]] = [
    {"request_id": "id-2"},
    {"peer": Peer(None, "10.0.0.9", 4711)},
    {"verdict": permitted()},
    {"verdict": refused()},
    {"verdict": None},
    {"status": 500},
    {"upstream": "10.0.0.1:80"},
    {"finding": Finding("p")},
    {"sent": 0.0},
    {"answered": 0.0},
    {"broken": "left"},
    {"why": "no rule"},
    {"cluster": "a"},
    {"retries": 1},
    {"method": "GET"},
    {"path": "/other"},
    {"own_id": b"mine"},
    {"audited": (RuleRef("a/b"),)},
    {"shadowed": Decision(False)},
    {"message": None},
    {"message": message("tools/call", {"name": "b"}).message},
    {"message": message("ping").message},
]


def _usual(**other: object) -> Record:
    made = call_of("a", _PERMIT)
    assert made.call is not None
    for name, value in other.items():
        setattr(made if hasattr(made, name) else made.call, name, value)
    return made


@pytest.mark.parametrize("other", _OTHERWISE, ids=lambda one: next(iter(one)))
def test_what_sets_one_exchange_apart_is_said_of_it_and_of_no_other(
    other: dict[str, object],
) -> None:
    for made in ([_usual(), _usual(**other)], [_usual(**other), _usual()]):
        keeps, counts = journal(), journal(writes=False)
        for one in (made[0], *made, *made):
            keeps.write(one, 100.03)
            counts.write(one, 100.03)
            [line] = lines(keeps)
            assert line == one.line("2023-11-14T22:13:20.250Z", one.overhead(100.03))
        assert keeps.metrics.text() == counts.metrics.text()


@given(st.lists(st.tuples(_records(), _SECONDS), max_size=30))
def test_exchanges_are_counted_the_same_whether_their_kind_was_met_before(
    made: list[tuple[Record, float]],
) -> None:
    keeps, counts = journal(), journal(writes=False)
    for one, after in made:
        keeps.write(one, 100.0 + after)
        counts.write(one, 100.0 + after)
    assert keeps.metrics.text() == counts.metrics.text()
