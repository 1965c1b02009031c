"""Frames are cut where they end, whatever pieces they come in, and never too many at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.http.h2_frames import PREFACE, FrameCutter, GoAway, Miscut, write_goaway


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    """One frame's bytes."""
    head = len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4)
    return head + payload


PING = frame(6, b"12345678")
PROTOCOL, FRAME_SIZE = 1, 6


def turns(cutter: FrameCutter) -> tuple[bytes, int, list[GoAway]]:
    """Return all that the turns of *cutter* give."""
    data, frames, goaways, more = b"", 0, [], True
    while more:
        turn = cutter.turn()
        data, frames, more = data + turn.data, frames + turn.frames, turn.more
        goaways += [turn.goaway] if turn.goaway else []
    return data, frames, goaways


@given(st.lists(st.binary(max_size=40), max_size=12), st.integers(1, 60))
def test_frames_come_out_whole_and_in_order(payloads: list[bytes], size: int) -> None:
    sent = PREFACE + b"".join(frame(0, one, stream=1) for one in payloads)
    cutter, heard, frames = FrameCutter(preface=True), b"", 0
    for start in range(0, len(sent), size):
        cutter.feed(sent[start : start + size])
        data, count, _ = turns(cutter)
        heard, frames = heard + data, frames + count
    assert (heard, frames, cutter.waiting, cutter.began) == (sent, len(payloads), 0, False)


def test_a_turn_takes_so_many_frames_and_leaves_the_rest() -> None:
    cutter = FrameCutter(preface=False)
    cutter.feed(PING * 100)
    first, second = cutter.turn(), cutter.turn()
    assert (first.frames, first.more, second.frames, second.more) == (64, True, 36, False)


def test_a_turn_takes_so_many_bytes_and_leaves_the_rest() -> None:
    cutter = FrameCutter(preface=False)
    cutter.feed(frame(0, b"x" * 10_000) * 3)
    assert [cutter.turn().frames for _ in range(4)] == [1, 1, 1, 0]


def test_one_frame_of_the_greatest_size_is_a_turn() -> None:
    cutter = FrameCutter(preface=False)
    cutter.feed(frame(0, b"x" * 16_384))
    assert cutter.turn().frames == 1


def test_a_frame_that_announces_too_much_is_refused_before_it_comes() -> None:
    cutter = FrameCutter(preface=False)
    cutter.feed(frame(0, b"x" * 16_385)[:9])
    with pytest.raises(Miscut, match="too long") as raised:
        cutter.turn()
    assert raised.value.code == FRAME_SIZE


@pytest.mark.parametrize("size", [1, 5, 40])
def test_what_begins_with_no_preface_is_refused_at_the_first_byte_that_differs(size: int) -> None:
    cutter = FrameCutter(preface=True)
    wrong = PREFACE[:10] + b"3.0\r\n\r\nSM\r\n\r\n"
    for start in range(0, 10, size):
        cutter.feed(wrong[start : start + size][: max(0, 10 - start)])
        cutter.turn()
    cutter.feed(wrong[10:])
    with pytest.raises(Miscut, match="no preface") as raised:
        cutter.turn()
    assert raised.value.code == PROTOCOL


def test_an_acknowledgement_that_says_more_is_refused() -> None:
    cutter = FrameCutter(preface=False)
    cutter.feed(frame(4, b"", flags=1) + frame(4, b"\0" * 6))
    assert cutter.turn().frames == 2
    cutter.feed(frame(4, b"\0" * 6, flags=1))
    with pytest.raises(Miscut, match="says more") as raised:
        cutter.turn()
    assert raised.value.code == FRAME_SIZE


def test_an_acknowledgement_within_a_header_block_is_left_to_the_judge() -> None:
    cutter = FrameCutter(preface=False)
    cutter.feed(frame(1, b"", stream=1) + frame(4, b"\0" * 6, flags=1))
    assert cutter.turn().frames == 2


def test_goaway_is_read_and_what_stands_before_and_behind_it_is_passed() -> None:
    cutter = FrameCutter(preface=False)
    cutter.feed(PING + write_goaway(7, 2) + PING)
    assert turns(cutter) == (PING * 2, 3, [GoAway(7, 2)])


@pytest.mark.parametrize(
    "odd",
    [
        frame(7, b"\0" * 8, stream=1),
        frame(7, b"\0" * 7),
        frame(1, b"", stream=1) + write_goaway(0, 0),
    ],
    ids=["on a stream", "too short", "within a header block"],
)
def test_a_goaway_that_must_not_be_is_left_to_the_judge(odd: bytes) -> None:
    cutter = FrameCutter(preface=False)
    cutter.feed(odd)
    assert turns(cutter)[0] == odd


def test_a_header_block_has_begun_until_its_end_is_flagged() -> None:
    cutter = FrameCutter(preface=False)
    seen = []
    for one in (frame(1, b"a", 0, 1), frame(9, b"b", 0, 1), frame(9, b"c", 4, 1), PING):
        cutter.feed(one)
        cutter.turn()
        seen.append(cutter.in_block)
    assert seen == [True, True, False, False]


def test_something_has_begun_before_the_preface_is_whole() -> None:
    cutter = FrameCutter(preface=True)
    assert cutter.began
    cutter.feed(PREFACE[:5])
    cutter.turn()
    assert cutter.began
    cutter.feed(PREFACE[5:])
    cutter.turn()
    assert not cutter.began
