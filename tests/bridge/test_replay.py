"""Events that are kept for who comes back."""

from __future__ import annotations

import pytest

from sidecar.bridge.replay import Replay, read_id


def test_a_stream_goes_on_behind_the_event_that_was_seen_last() -> None:
    replay = Replay(10_000)
    first = replay.add(1, b"one")
    replay.add(2, b"other")
    replay.add(1, b"two")
    assert read_id(first.id) == (1, first.place)
    assert [one.data for one in replay.after(1, first.place)] == [b"two"]
    assert [one.data for one in replay.after(1, 0)] == [b"one", b"two"]
    assert replay.after(3, 0) == []


def test_the_oldest_are_forgotten_where_there_is_no_room() -> None:
    replay = Replay(1_000)
    for number in range(100):
        replay.add(1, b"%d" % number)
        assert replay.size <= 1_000
    kept = [one.data for one in replay.after(1, 0)]
    assert kept == [b"%d" % number for number in range(100 - len(kept), 100)]
    assert kept


def test_an_event_that_has_no_room_at_all_is_not_kept() -> None:
    replay = Replay(1_000)
    assert replay.add(1, b"x" * 2_000).id == b"1-1"
    assert (replay.after(1, 0), replay.size) == ([], 0)


@pytest.mark.parametrize("text", [b"", b"1", b"1-", b"-1", b"1-2-3", b"a-b", b"1" * 40 + b"-1"])
def test_an_id_that_is_none_of_ours_is_none(text: bytes) -> None:
    assert read_id(text) is None
