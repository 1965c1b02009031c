"""What waits to be sent comes out in order, in pieces of any size, and ends once."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from sidecar.http.field import Pair
from sidecar.http.h2_outgoing import Outgoing, Queue


@given(st.lists(st.binary(max_size=50), max_size=8), st.integers(1, 60))
def test_bytes_come_out_as_they_went_in(pieces: list[bytes], most: int) -> None:
    outgoing, taken = Outgoing(), b""
    for piece in pieces:
        outgoing.put(piece, end=False)
    outgoing.put(b"", end=True)
    while not outgoing.done:
        piece = outgoing.take(most)
        assert 0 < len(piece) <= most
        taken += piece
    assert taken == b"".join(pieces)


def test_it_is_not_done_before_the_end_was_put() -> None:
    outgoing = Outgoing()
    outgoing.put(b"a", end=False)
    assert (outgoing.take(9), outgoing.done) == (b"a", False)
    outgoing.put(b"", end=True)
    assert outgoing.done


def test_nothing_is_taken_where_there_is_no_room() -> None:
    outgoing = Outgoing()
    outgoing.put(b"a", end=True)
    assert (outgoing.take(0), outgoing.size, outgoing.done) == (b"", 1, False)


class Frames:
    """Where frames go, and the windows of streams."""

    def __init__(self, windows: dict[int, int]) -> None:
        self.windows = windows
        self.sent: list[tuple[int, bytes, bool]] = []
        self.trailers: list[tuple[int, bytes, Sequence[Pair]]] = []

    def room(self, number: int) -> int:
        return self.windows[number]

    def piece(self, number: int, data: bytes, *, end: bool) -> None:
        self.windows[number] -= len(data)
        self.sent.append((number, data, end))

    def trail(self, number: int, data: bytes, trailers: Sequence[Pair]) -> None:
        self.trailers.append((number, data, trailers))


def test_streams_take_turns_of_a_frame_each() -> None:
    queue, way = Queue(), Frames({1: 99, 3: 99})
    queue.put(1, b"abcde", end=True)
    queue.put(3, b"x", end=True)
    assert queue.write(way, 2) == 4
    assert way.sent == [
        (1, b"ab", False), (3, b"x", True), (1, b"cd", False), (1, b"e", True)
    ]  # fmt: skip
    assert (set(queue.written()), set(queue.written()), queue.ready) == ({1, 3}, set(), False)


def test_a_stream_whose_window_is_closed_waits_until_it_opens() -> None:
    queue, way = Queue(), Frames({1: 1, 3: 0})
    queue.put(1, b"ab", end=True)
    queue.put(3, b"", end=True)  # an end needs no window
    assert queue.write(way, 9) == 2
    assert (queue.unsent(1), queue.unsent(3), queue.ready) == (2, 0, False)
    queue.opened(3)
    assert not queue.ready
    way.windows[1] = 9
    queue.opened(1)
    assert queue.write(way, 9) == 1
    assert way.sent[-1] == (1, b"b", True)


def test_when_all_windows_open_all_go_on_but_what_was_dropped() -> None:
    queue, way = Queue(), Frames({1: 0, 3: 0})
    queue.put(1, b"a", end=True)
    queue.put(3, b"b", end=True)
    queue.write(way, 9)
    way.windows = {1: 9, 3: 9}
    queue.drop(1)
    queue.opened(0)
    queue.write(way, 9)
    assert way.sent == [(3, b"b", True)]


def test_no_more_is_written_ahead_than_the_bound() -> None:
    queue, way = Queue(), Frames({1: 1 << 20})
    queue.put(1, bytes(1 << 20), end=True)
    queue.write(way, 16_384)
    assert sum(len(data) for _, data, _ in way.sent) == 65_536


def test_trailers_wait_for_the_last_of_the_body() -> None:
    queue, way = Queue(), Frames({1: 3})
    queue.put(1, b"abcde", end=False)
    queue.put(1, b"", end=True, trailers=[(b"x", b"1")])
    assert queue.write(way, 2) == 2
    assert (way.trailers, queue.unsent(1)) == ([], 3)
    way.windows[1] = 9
    queue.opened(1)
    queue.write(way, 9)
    assert way.sent == [(1, b"ab", False), (1, b"c", False)]
    assert way.trailers == [(1, b"de", [(b"x", b"1")])]
    assert (queue.unsent(1), queue.ready) == (0, False)


def test_trailers_need_no_window() -> None:
    queue, way = Queue(), Frames({1: 0})
    queue.put(1, b"", end=True, trailers=[(b"x", b"1")])
    assert queue.write(way, 9) == 1
    assert way.trailers == [(1, b"", [(b"x", b"1")])]
    assert list(queue.written()) == [1]
