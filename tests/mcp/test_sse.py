"""Streams cut into events: every line ending, every way the bytes may come in."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import MessageError
from sidecar.mcp.sse import Event, EventSplitter, write_event

ROOM = 1 << 20

DATA = [b"data: a", b"data:b", b"data", b"data: ", b"data:  c", b"dat", b"a: b"]
OTHERS = [b"id: 7", b"id", b"id: x\0y", b"event: message", b"event:", b"retry: 10", b"retry: 1x"]
NOISE = [b": note", b":", b"odd: 1", b"\xef\xbb\xbf", b"\xc3\xa9", b""]
ENDS = [b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n"]
pieces = st.sampled_from([*DATA, *OTHERS, *NOISE]) | st.sampled_from(ENDS)
streams = st.lists(pieces, max_size=24).map(b"".join)
Fields = tuple[bytes, bytes, bytes | None, bytes | None]


def split(stream: bytes, *cuts: int, limit: int = ROOM) -> list[Event]:
    """Feed *stream* cut at *cuts*, then end it."""
    splitter, events = EventSplitter(limit), []
    edges = [0, *sorted(cuts), len(stream)]
    for start, end in pairwise(edges):
        events += splitter.feed(stream[start:end])
    events += splitter.finish()
    assert b"".join(event.raw for event in events) + splitter.rest() == stream
    return events


def fields(event: Event) -> Fields:
    return event.data, event.type, event.id, event.retry


def slow(stream: bytes) -> list[Fields]:
    """What the standard's line-by-line interpretation finds, events without fields left out."""
    lines = re.split(rb"\r\n|\n|\r", stream.removeprefix(b"\xef\xbb\xbf"))
    found: list[Fields] = []
    data: list[bytes] = []
    kind, ident, retry = b"", None, None
    for line in lines[:-1]:
        name, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if not line:
            found.append((b"\n".join(data), kind, ident, retry))
            data, kind, ident, retry = [], b"", None, None
        elif name == b"data":
            data.append(value)
        elif name == b"event":
            kind = value
        elif name == b"id" and b"\0" not in value:
            ident = value
        elif name == b"retry" and value.isdigit():
            retry = value
    return [event for event in found if event != (b"", b"", None, None)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_is_its_lines_up_to_the_blank_one(end: bytes) -> None:
    raw = end.join([b": note", b"id: 7", b"event: message", b"data: {", b"data: }", b"retry: 5"])
    raw += end + end
    [event, tail] = split(raw + b"data: x" + end + end)
    assert event == Event(raw, b"{\n}", b"message", b"7", b"5")
    assert tail.data == b"x"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"data: x\n\n", (b"x", b"", None, None)),
        (b"data:x\n\n", (b"x", b"", None, None)),
        (b"data:  x \n\n", (b" x ", b"", None, None)),
        (b"data\n\n", (b"", b"", None, None)),
        (b"data\ndata\n\n", (b"\n", b"", None, None)),
        (b"data: a:b\n\n", (b"a:b", b"", None, None)),
        (b": keep-alive\n\n", (b"", b"", None, None)),
        (b"id: 3\ndata: \n\n", (b"", b"", b"3", None)),
        (b"id\ndata: x\n\n", (b"x", b"", b"", None)),
        (b"id: a\0b\ndata: x\n\n", (b"x", b"", None, None)),
        (b"event: endpoint\ndata: /messages\n\n", (b"/messages", b"endpoint", None, None)),
        (b"retry: soon\ndata: x\n\n", (b"x", b"", None, None)),
        (b" data: x\nDATA: y\ndatax: z\n\n", (b"", b"", None, None)),
        (b"\xef\xbb\xbfdata: x\n\n", (b"x", b"", None, None)),
        ("data: a\u2028data: b\u0085c\n\n".encode(), ("a\u2028data: b\u0085c".encode(),)),
        (b"data: a\x0bb\x0cc\x1cd\n\n", (b"a\x0bb\x0cc\x1cd", b"", None, None)),
    ],
)
def test_the_fields_are_read_as_the_standard_says(raw: bytes, expected: tuple[bytes]) -> None:
    [event] = split(raw)
    assert fields(event)[: len(expected)] == expected
    assert event.raw == raw


def test_a_byte_order_mark_is_one_only_at_the_beginning() -> None:
    [first, second] = split(b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n")
    assert (first.data, second.data) == (b"a", b"")


def test_an_event_is_handed_out_with_its_last_byte() -> None:
    for raw in (b"data: x\n\n", b"data: x\r\n\r\n", b"data: x\r\r"):
        splitter = EventSplitter(ROOM)
        assert splitter.feed(raw[:-1]) == []
        assert [event.raw for event in splitter.feed(raw[-1:])] == [raw]


def test_an_unfinished_event_is_no_event() -> None:
    splitter = EventSplitter(ROOM)
    assert splitter.feed(b"data: a\n\ndata: b\ndata") != []
    assert splitter.finish() == []
    assert splitter.rest() == b"data: b\ndata"


def test_the_end_of_the_stream_ends_an_event_that_waits_for_a_line_feed() -> None:
    splitter = EventSplitter(ROOM)
    assert splitter.feed(b"data: a\n\r") == []
    assert [event.data for event in splitter.finish()] == [b"a"]
    assert splitter.rest() == b""


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_an_event_over_the_limit_is_refused_however_it_comes(size: int) -> None:
    raw = b"data: 12345\r\n\r\n"
    for limit, fits in ((len(raw), True), (len(raw) - 1, False)):
        splitter, seen = EventSplitter(limit), []

        def pour(splitter: EventSplitter = splitter, seen: list[bytes] = seen) -> None:
            stream = b"data: 1\n\n" + raw
            for start in range(0, len(stream), size):
                seen += [event.data for event in splitter.feed(stream[start : start + size])]
            seen += [event.data for event in splitter.finish()]

        if fits:
            pour()
            assert seen == [b"1", b"12345"]
        else:
            with pytest.raises(MessageError, match=f"larger than {limit} bytes") as refusal:
                pour()
            assert refusal.value.code == -32006
            assert seen == [b"1"]
            with pytest.raises(MessageError):
                splitter.feed(b"data: later\n\n")


@pytest.mark.parametrize("chunk", [b"0123456789", b": comment\n"])
def test_what_never_makes_an_event_is_refused_at_the_limit(chunk: bytes) -> None:
    splitter = EventSplitter(1000)
    for _ in range(100):
        assert splitter.feed(chunk) == []
    with pytest.raises(MessageError):
        splitter.feed(chunk)
    assert splitter.rest() == b""
    with pytest.raises(MessageError):
        splitter.finish()


@given(streams)
def test_the_events_are_the_standards(stream: bytes) -> None:
    found = [fields(event) for event in split(stream)]
    assert [event for event in found if event != (b"", b"", None, None)] == slow(stream)


@given(streams)
def test_byte_by_byte_gives_the_same_events(stream: bytes) -> None:
    assert split(stream, *range(len(stream))) == split(stream)


@given(streams, st.lists(st.integers(min_value=0, max_value=60), max_size=5))
def test_any_cuts_give_the_same_events(stream: bytes, cuts: list[int]) -> None:
    assert split(stream, *(min(cut, len(stream)) for cut in cuts)) == split(stream)


@given(streams, st.integers(min_value=1, max_value=40))
def test_any_cuts_meet_the_limit_at_the_same_event(stream: bytes, limit: int) -> None:
    def outcome(step: int) -> tuple[list[Event], bool]:
        splitter, events = EventSplitter(limit), []
        try:
            for start in range(0, len(stream), step):
                events += splitter.feed(stream[start : start + step])
            events += splitter.finish()
        except MessageError:
            return events, True
        return events, False

    whole = outcome(len(stream) or 1)
    assert outcome(1) == whole
    assert all(len(event.raw) <= limit for event in whole[0])


def test_an_event_written_is_the_event_read() -> None:
    raw = write_event(b'{"a":\n1}', like=Event(b"", b"old", b"message", b"7", b"50"))
    assert raw == b'event: message\nid: 7\nretry: 50\ndata: {"a":\ndata: 1}\n\n'
    assert split(raw) == [Event(raw, b'{"a":\n1}', b"message", b"7", b"50")]


@given(st.binary(max_size=30))
def test_no_data_escape_their_event(data: bytes) -> None:
    [event] = split(write_event(data))
    assert event.data == data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def test_other_data_keep_the_events_place_and_drop_what_nobody_judged() -> None:
    raw = b": buried words\r\nid: 7\r\nevent: message\r\nretry: 9\r\nodd: 1\r\ndata: bad\r\n\r\n"
    [event] = split(raw)
    assert write_event(b"{}", like=event) == b"event: message\nid: 7\nretry: 9\ndata: {}\n\n"
    [bare] = split(b"data: bad\n\n")
    assert write_event(b"{}", like=bare) == b"data: {}\n\n"
