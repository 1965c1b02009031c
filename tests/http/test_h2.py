"""HTTP/2 of both sides back to back: what one says the other hears, within windows and budget."""

from __future__ import annotations

import pytest
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st
from support.speaker import Speaker

from sidecar.errors import ProtocolError
from sidecar.http.h2 import CALM, CANCEL, Data, Event, Head, Http2, Reset, Trailers
from sidecar.http.h2_frames import GoAway


def turned(http2: Http2, data: bytes, now: float = 0.0) -> list[Event]:
    """Return all that *data* means."""
    http2.feed(data)
    events, more = http2.turn(now)
    while more:
        others, more = http2.turn(now)
        events += others
    return events


def said(http2: Http2) -> bytes:
    """Return all that *http2* has to say."""
    whole = b""
    while data := http2.out():
        whole += data
    return whole


def met(speaker: Speaker, **given: int) -> Http2:
    """A server that has exchanged settings with *speaker*."""
    http2 = Http2(0.0, server=True, **given)
    turned(http2, speaker.out() + speaker.hear(said(http2)))
    turned(http2, speaker.hear(said(http2)))
    return http2


def only(events: list[Event], kind: type) -> list[Event]:
    return [event for event in events if type(event) is kind]


OK = [(b":status", b"200")]


def test_a_request_is_heard_and_its_reply_told() -> None:
    speaker = Speaker()
    http2 = met(speaker)
    events = turned(http2, speaker.ask("POST", "/a", b"body"))
    [head], [data] = only(events, Head), only(events, Data)
    assert isinstance(head, Head)
    assert not head.ended
    assert (b":path", b"/a") in list(map(tuple, head.fields))
    assert isinstance(data, Data)
    assert (data.data, data.ended) == (b"body", True)
    http2.head(1, OK)
    http2.body(1, b"reply", end=True)
    speaker.hear(said(http2))
    assert (speaker.replies[1].status, speaker.replies[1].body) == (200, b"reply")
    assert speaker.replies[1].ended


@settings(max_examples=40)
@given(st.binary(max_size=2_000), st.integers(1, 80))
def test_pieces_of_any_size_mean_the_same(body: bytes, size: int) -> None:
    speaker = Speaker()
    http2 = met(speaker)
    sent = speaker.ask("POST", "/a", body)
    events: list[Event] = []
    for start in range(0, len(sent), size):
        events += turned(http2, sent[start : start + size])
    assert b"".join(one.data for one in events if isinstance(one, Data)) == body


def test_streams_take_turns_so_that_a_long_reply_holds_no_other_up() -> None:
    speaker = Speaker()
    http2 = met(speaker)
    turned(http2, speaker.ask("GET", "/long") + speaker.ask("GET", "/short"))
    for stream, size in ((1, 200_000), (3, 10)):
        http2.head(stream, OK)
        http2.body(stream, b"x" * size, end=True)
    speaker.hear(http2.out())
    assert speaker.replies[3].ended
    assert not speaker.replies[1].ended


def test_no_more_is_written_than_the_windows_allow() -> None:
    speaker = Speaker(window=1_000)
    speaker.takes = False
    http2 = met(speaker)
    turned(http2, speaker.ask("GET", "/"))
    http2.head(1, OK)
    http2.body(1, b"x" * 3_000, end=True)
    speaker.hear(said(http2))
    assert (len(speaker.replies[1].body), http2.unsent(1)) == (1_000, 2_001)
    speaker.h2.increment_flow_control_window(5_000, 1)
    turned(http2, speaker.out())
    speaker.hear(said(http2))
    assert (len(speaker.replies[1].body), http2.unsent(1)) == (3_000, 0)
    assert list(http2.written()) == [1]


def test_a_window_that_opens_by_settings_lets_streams_go_on() -> None:
    speaker = Speaker(window=0)
    http2 = met(speaker)
    turned(http2, speaker.ask("GET", "/"))
    http2.head(1, OK)
    http2.body(1, b"body", end=True)
    speaker.hear(said(http2))
    assert http2.unsent(1)
    assert not speaker.replies[1].body
    speaker.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 100})
    turned(http2, speaker.out())
    speaker.hear(said(http2))
    assert speaker.replies[1].body == b"body"


def test_a_reset_drops_what_waits() -> None:
    speaker = Speaker(window=0)
    http2 = met(speaker)
    turned(http2, speaker.ask("GET", "/"))
    http2.head(1, OK)
    http2.body(1, b"body", end=True)
    said(http2)
    speaker.h2.reset_stream(1, 8)
    assert turned(http2, speaker.out()) == [Reset(1, 8)]
    assert http2.unsent(1) == 0
    http2.reset(1, CANCEL)  # too late, and no harm


def test_trailers_end_a_request() -> None:
    speaker = Speaker()
    http2 = met(speaker)
    data = speaker.ask("POST", "/", b"x", end=False)
    speaker.h2.send_headers(1, [("x-sum", "1")], end_stream=True)
    events = turned(http2, data + speaker.out())
    [trailers] = only(events, Trailers)
    assert isinstance(trailers, Trailers)
    assert list(map(tuple, trailers.fields)) == [(b"x-sum", b"1")]


def test_goaway_of_the_peer_leaves_what_runs() -> None:
    speaker = Speaker()
    http2 = met(speaker)
    asked = speaker.ask("GET", "/")
    speaker.h2.close_connection()
    events = turned(http2, asked + speaker.out())
    assert events[-1] == GoAway(0, 0)
    http2.head(1, OK, end=True)
    assert said(http2)


def test_our_goaway_names_the_last_stream_and_leaves_what_runs() -> None:
    speaker = Speaker()
    http2 = met(speaker)
    turned(http2, speaker.ask("GET", "/") + speaker.ask("GET", "/"))
    http2.goaway(0)
    http2.head(3, OK, end=True)
    speaker.hear(said(http2))
    assert speaker.goaway == (3, 0)
    assert speaker.replies[3].status == 200


@pytest.mark.parametrize(
    "glitch",
    [
        b"\0\0\x08\x06\0\0\0\0\0" + b"12345678",  # PING
        b"\0\0\0\x04\0\0\0\0\0",  # SETTINGS
        b"\0\0\x05\x02\0\0\0\0\x01" + b"\0\0\0\0\x10",  # PRIORITY
        b"\0\0\0\xfa\0\0\0\0\0",  # unknown
        b"\0\0\x04\x08\0\0\0\0\0" + b"\0\0\0\x01",  # WINDOW_UPDATE
        b"\0\0\0\0\0\0\0\0\x01",  # DATA, empty
        b"\0\0\x01\0\0\0\0\0\x01x",  # DATA of one byte
        b"\0\0\x08\x07\0\0\0\0\0" + b"\0" * 8,  # GOAWAY
    ],
)
def test_frames_that_ask_for_nothing_end_the_connection(glitch: bytes) -> None:
    speaker = Speaker()
    http2 = met(speaker)
    turned(http2, speaker.ask("POST", "/", b"x", end=False))
    with pytest.raises(ProtocolError):
        turned(http2, glitch * 1_000)
    speaker.hear(said(http2))
    assert speaker.goaway == (1, CALM)


def test_resets_before_an_answer_end_the_connection() -> None:
    speaker = Speaker()
    http2 = met(speaker)
    data = b""
    for _ in range(200):
        data += speaker.ask("GET", "/")
        speaker.h2.reset_stream(max(speaker.replies), 8)
        data += speaker.out()
    with pytest.raises(ProtocolError):
        turned(http2, data)
    speaker.hear(said(http2))
    assert speaker.goaway
    assert speaker.goaway[1] == CALM


def test_what_hyper_h2_does_not_take_ends_the_connection() -> None:
    http2 = Http2(0.0, server=True)
    http2.feed(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ProtocolError):
        http2.turn(0.0)
    assert http2.broken


def test_a_frame_that_is_too_long_ends_the_connection_before_it_comes() -> None:
    speaker = Speaker()
    http2 = met(speaker)
    http2.feed(b"\xff\xff\xff\0\0\0\0\0\x01")
    with pytest.raises(ProtocolError):
        http2.turn(0.0)
    speaker.hear(said(http2))
    assert speaker.goaway == (0, 6)
