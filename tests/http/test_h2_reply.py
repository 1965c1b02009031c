"""A reply on one stream: read like any other, whole at its end, refused where it lies."""

from __future__ import annotations

import pytest

from sidecar.errors import ProtocolError
from sidecar.http.h1 import Bounds
from sidecar.http.h2_reply import StreamReply
from sidecar.http.head import CHUNKED
from sidecar.http.lines import LineTable

OK = [(b":status", b"200")]


def reply(method: str = "GET") -> StreamReply:
    made = StreamReply(LineTable(8192, replies=True), Bounds(2048, 20, 0))
    made.method = method
    return made


def test_a_body_is_given_once_and_the_window_is_owed_for_it() -> None:
    one = reply()
    one.begin([*OK, (b"content-length", b"4")], ended=False)
    one.add(b"bo", 7, ended=False)
    one.add(b"dy", 2, ended=True)
    assert (one.length, one.waiting, one.owed, one.whole) == (4, 4, 9, True)
    assert (one.take(), one.take(), one.waiting) == (b"body", b"", 0)


def test_without_a_length_it_lasts_until_the_end() -> None:
    one = reply()
    one.begin(OK, ended=False)
    assert (one.length, one.whole) == (CHUNKED, False)


def test_a_reply_that_ends_with_its_head_has_a_body_of_nothing() -> None:
    one = reply()
    one.begin(OK, ended=True)
    assert one.head is not None
    assert (one.length, one.head.length, one.whole) == (0, 0, True)


@pytest.mark.parametrize(("method", "status"), [("HEAD", b"200"), ("GET", b"204"), ("GET", b"304")])
def test_where_no_body_can_be_a_length_is_only_said(method: str, status: bytes) -> None:
    one = reply(method)
    one.begin([(b":status", status), (b"content-length", b"9")], ended=True)
    assert one.head is not None
    assert (one.length, one.head.length, one.whole) == (0, 9, True)


def test_trailers_end_it() -> None:
    one = reply()
    one.begin(OK, ended=False)
    assert one.trailers == ()
    one.end([(b"grpc-status", b"0")])
    assert (one.whole, one.trailers) == (True, [(b"grpc-status", b"0")])
    with pytest.raises(ProtocolError):
        one.end([(b":status", b"200")])


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b":status", b"20")],
        [*OK, (b"connection", b"close")],
        [*OK, (b"transfer-encoding", b"chunked")],
        [*OK, (b"x", b"a\r\nb")],
        [*OK, (b"content-length", b"1"), (b"content-length", b"1")],
        [*OK, (b"X", b"a")],
    ],
)
def test_a_head_that_is_not_one_is_refused(fields: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(ProtocolError):
        reply().begin(fields, ended=False)


def test_a_body_where_there_is_none_is_refused() -> None:
    one = reply("HEAD")
    one.begin(OK, ended=False)
    one.add(b"", 0, ended=False)
    with pytest.raises(ProtocolError):
        one.add(b"x", 1, ended=True)


def test_a_length_and_no_body_is_refused() -> None:
    with pytest.raises(ProtocolError):
        reply().begin([*OK, (b"content-length", b"1")], ended=True)


def test_interim_replies_are_kept_up_to_a_bound_and_101_is_refused() -> None:
    one = reply()
    with pytest.raises(ProtocolError):
        one.inform([(b":status", b"101")])
    for _ in range(8):
        one.inform([(b":status", b"103")])
    with pytest.raises(ProtocolError):
        one.inform([(b":status", b"103")])


@pytest.mark.parametrize("pieces", [[b"bod"], [b"body+"], [b"b", b"ody", b"+"], [b"", b"bo"], []])
@pytest.mark.parametrize("trailers", [True, False])
def test_a_body_that_is_not_as_long_as_announced_never_ends_it(
    pieces: list[bytes], trailers: bool
) -> None:
    one = reply()

    def come() -> None:
        one.begin([*OK, (b"content-length", b"4")], ended=False)
        for piece in pieces:
            one.add(piece, len(piece), ended=False)
        if trailers:
            one.end([(b"x", b"1")])
        else:
            one.add(b"", 0, ended=True)

    with pytest.raises(ProtocolError):
        come()
    assert not one.whole
    assert len(one.take()) <= 4


@pytest.mark.parametrize(("method", "status"), [("HEAD", b"200"), ("GET", b"204"), ("GET", b"304")])
def test_where_no_body_can_be_an_end_behind_the_head_is_one(method: str, status: bytes) -> None:
    one = reply(method)
    one.begin([(b":status", status), (b"content-length", b"9")], ended=False)
    one.add(b"", 0, ended=True)
    assert one.whole
