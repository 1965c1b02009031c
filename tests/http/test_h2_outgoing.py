"""What waits to be sent comes out in order, in pieces of any size, and ends once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.http.h2_outgoing import Outgoing


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
