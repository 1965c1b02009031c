"""Whole messages: split anywhere they read the same, and their ends are never guessed."""

from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ProtocolError, UpstreamError
from sidecar.http.chunks import ChunkReader
from sidecar.http.h1 import Bounds, ReplyReader, Request, RequestReader, write_chunk
from sidecar.http.lines import LineTable

HEAD = b"POST /mcp HTTP/1.1\r\nHost: a\r\n"


def reader(**bounds: int) -> RequestReader:
    return RequestReader(LineTable(32_768), Bounds(**bounds))


def all_of(reading: RequestReader, data: bytes, cuts: list[int]) -> list[Request]:
    found: list[Request] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        if start < end:
            reading.feed(data[start:end])
        while (request := reading.next()) is not None:
            found.append(request)
    return found


TWO = (
    HEAD
    + b"Content-Length: 5\r\n\r\nhello"
    + HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n"
    + b"GET /x HTTP/1.1\r\nHost: b\r\n\r\n"
)


@given(st.lists(st.integers(0, 10_000), max_size=12))
def test_requests_read_the_same_however_they_are_split(cuts: list[int]) -> None:
    bodies = [request.body for request in all_of(reader(), TWO, cuts)]
    assert bodies == [b"hello", b"abcde", b""]


def test_requests_read_the_same_byte_by_byte() -> None:
    assert len(all_of(reader(), TWO, list(range(len(TWO))))) == 3


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (HEAD + b"Content-Length: 101\r\n\r\n", 413),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n65\r\n" + b"a" * 101 + b"\r\n0\r\n\r\n", 413),
        # What a chunk announces counts at once, and not only once it has come.
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n65\r\n", 413),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n64\r\n", 413),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", 413),
        (HEAD + b"X: " + b"a" * 20_000, 431),
        (HEAD + b"X: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
)
def test_a_faulty_request_says_why_and_ends_the_reading(raw: bytes, status: int) -> None:
    reading = reader(body=100)
    (request,) = all_of(reading, raw + HEAD, [])
    assert request.fault is not None
    assert request.fault.status == status
    reading.feed(HEAD + b"\r\n")
    assert reading.next() is None


def test_a_body_of_exactly_the_limit_passes() -> None:
    raw = HEAD + b"Content-Length: 100\r\n\r\n" + b"a" * 100
    assert len(all_of(reader(body=100), raw, [])[0].body) == 100


def test_leave_to_send_is_asked_for_once_and_only_when_wanted() -> None:
    reading = reader()
    reading.feed(HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert reading.next() is None
    assert reading.wants_continue()
    assert not reading.wants_continue()
    reading.feed(b"hello")
    request = reading.next()
    assert request is not None
    assert request.body == b"hello"


CHUNKS_REFUSED = [
    b"+5\r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"0_5\r\nhello\r\n0\r\n\r\n",
    b"\r\n\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"10000000000000005\r\nhello\r\n",
    b"5\0\r\nhello\r\n0\r\n\r\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    b"5;a=\0\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello__1a\r\n0\r\n\r\n",
    b"0\r\nGET /evil HTTP/1.1\r\n\r\n",
    b"0\r\n folded: x\r\n\r\n",
    b"5" + b"0" * 5_000,
    b"".join(b"1;" + b"x" * 4000 + b"\r\na\r\n" for _ in range(5)),
]


@pytest.mark.parametrize("raw", CHUNKS_REFUSED)
def test_a_chunk_that_could_be_read_in_two_ways_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        ChunkReader(16_384, 100).feed(raw)


def test_chunks_of_exactly_the_limit_pass() -> None:
    raw = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    raw += (b"32;x=y\r\n" + b"a" * 50 + b"\r\n") * 2 + b"0\r\n\r\n"
    for cuts in ([], list(range(len(raw)))):
        assert len(all_of(reader(body=100), raw, cuts)[0].body) == 100


def by_h11(raw: bytes) -> tuple[bytes, bool] | None:
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    judge.next_event()
    data = b""
    try:
        judge.receive_data(raw)
        while isinstance(event := judge.next_event(), h11.Data):
            data += bytes(event.data)
    except h11.RemoteProtocolError:
        return None
    return data, isinstance(event, h11.EndOfMessage)


@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                [b"5", b"a", b"0", b"\r\n", b"\n", b";", b"x=y", b" ", b"hello", b"\0"]
            ),
            st.binary(max_size=3),
        ),
        max_size=14,
    )
)
def test_chunks_are_never_read_more_laxly_than_by_h11(parts: list[bytes]) -> None:
    raw = b"".join(parts)
    ours = ChunkReader(16_384, 100)
    try:
        data = ours.feed(raw)
    except ProtocolError:
        return
    authority = by_h11(raw)
    if authority is None:
        assert not ours.done
        return
    assert data == authority[0]
    assert ours.done == authority[1]


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.lists(st.integers(0, 500)))
def test_what_we_write_in_chunks_reads_back(pieces: list[bytes], cuts: list[int]) -> None:
    raw = b"".join(write_chunk(piece) for piece in pieces) + b"0\r\n\r\nrest"
    chunks = ChunkReader(16_384, 100)
    edges = [0, *sorted(cut % (len(raw) - 3) for cut in cuts), len(raw)]
    out = b""
    for start, end in pairwise(edges):
        if not chunks.done:
            out += chunks.feed(raw[start:end])
    assert out == b"".join(pieces)
    assert chunks.done


def answer(raw: bytes, method: str = "GET") -> ReplyReader:
    reading = ReplyReader(LineTable(32_768, replies=True), Bounds())
    reading.begin(method)
    reading.feed(raw)
    return reading


OK = b"HTTP/1.1 200 OK\r\n"


def test_a_reply_with_a_length_is_whole_when_it_has_come() -> None:
    reading = answer(OK + b"Content-Length: 5\r\n\r\nhel")
    assert reading.head is not None
    assert not reading.whole
    assert reading.take() == b"hel"
    reading.feed(b"lo")
    assert reading.whole
    assert reading.take() == b"lo"
    assert reading.reusable()


@pytest.mark.parametrize(
    "raw",
    [
        OK + b"Content-Length: 5\r\n\r\nhel",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        OK,
        b"",
    ],
)
def test_a_reply_that_breaks_off_is_a_fault_and_no_end(raw: bytes) -> None:
    with pytest.raises(UpstreamError):
        answer(raw).eof()


@pytest.mark.parametrize(
    "raw",
    [
        OK + b"Content-Length: 2\r\n\r\nabHTTP/1.1 200 OK\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 9,
        OK + b"X: " + b"a" * 70_000,
        b"SSH-2.0-x\r\n\r\n",
    ],
)
def test_a_reply_that_is_none_is_a_fault(raw: bytes) -> None:
    with pytest.raises(UpstreamError):
        answer(raw)


def test_an_interim_reply_is_not_the_final_one() -> None:
    reading = answer(
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n"
    )
    assert [head.status for head in reading.informational] == [103]
    assert reading.head is not None
    assert reading.head.status == 200
    assert reading.whole


def test_a_reply_without_length_ends_with_the_connection_and_is_not_reused() -> None:
    reading = answer(OK + b"\r\nabc")
    assert not reading.whole
    reading.eof()
    assert reading.whole
    assert not reading.reusable()


def test_a_reply_that_says_close_is_not_reused() -> None:
    assert not answer(OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n").reusable()


@pytest.mark.parametrize(
    ("status", "method"), [(b"204 No Content", "GET"), (b"304 x", "GET"), (b"200 OK", "HEAD")]
)
def test_some_replies_have_no_body_whatever_they_announce(status: bytes, method: str) -> None:
    reading = answer(b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\n", method)
    assert reading.whole
    with pytest.raises(UpstreamError):
        answer(b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\nhello", method)


@pytest.mark.parametrize(
    "raw",
    [
        OK + b"Content-Length: 2\r\n\r\nabHTTP/1.1 200 OK\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nHTTP/1.1",
    ],
)
def test_a_reply_with_something_behind_it_never_looks_whole(raw: bytes) -> None:
    reading = answer(b"")
    with pytest.raises(UpstreamError):
        reading.feed(raw)
    assert not reading.whole


@pytest.mark.parametrize(
    ("raw", "silent"),
    [(b"", True), (b"H", False), (b"HTTP/1.1 103 Early Hints\r\n\r\n", False), (OK, False)],
)
def test_it_is_known_whether_anything_came(raw: bytes, silent: bool) -> None:
    assert answer(raw).silent == silent


CHUNKED_REQUEST = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
CHUNKED_REPLY = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
BOUNDS = Bounds(head=200, fields=5, body=100)
TOO_LARGE = [
    b"x: 1\r\n" * 6,
    b"x: " + b"y" * 200 + b"\r\n",
    (b"x: " + b"y" * 60 + b"\r\n") * 4,
    b"x: " + b"y" * 300,
]


def test_trailers_are_given_beside_the_body_and_belong_to_one_message() -> None:
    reader = RequestReader(LineTable(8192), BOUNDS)
    reader.feed(CHUNKED_REQUEST + b"X-Sum:  1 \r\nX-Sum: 2\r\n\r\n" + CHUNKED_REQUEST + b"\r\n")
    first, second = reader.next(), reader.next()
    assert first is not None
    assert first.head is not None
    assert second is not None
    assert (first.body, list(first.trailers)) == (b"x", [(b"x-sum", b"1"), (b"x-sum", b"2")])
    assert b"x-sum" not in dict(first.head.pairs)
    assert list(second.trailers) == []


def test_trailers_of_a_reply_belong_to_it_alone() -> None:
    reader = ReplyReader(LineTable(8192, replies=True), BOUNDS)
    reader.feed(CHUNKED_REPLY + b"X-Sum: 1\r\n\r\n")
    assert (reader.whole, list(reader.trailers)) == (True, [(b"x-sum", b"1")])
    reader.begin("GET")
    reader.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx")
    assert (reader.whole, list(reader.trailers)) == (True, [])


@pytest.mark.parametrize("trailers", TOO_LARGE)
def test_trailers_have_the_bounds_of_heads(trailers: bytes) -> None:
    reader = RequestReader(LineTable(8192), BOUNDS)
    asked = reader.take(CHUNKED_REQUEST + trailers + b"\r\n")
    assert asked is not None
    assert asked.fault is not None
    assert asked.fault.status == 431
    reply = ReplyReader(LineTable(8192, replies=True), BOUNDS)
    with pytest.raises(UpstreamError):
        reply.feed(CHUNKED_REPLY + trailers + b"\r\n")


@pytest.mark.parametrize(
    "trailers", [b"a b: 1", b"x : 1", b" x: 1", b"x: \0", b"x", b": 1", b"x: a\rb"]
)
def test_trailers_are_judged_like_the_lines_of_a_head(trailers: bytes) -> None:
    reader = RequestReader(LineTable(8192), BOUNDS)
    asked = reader.take(CHUNKED_REQUEST + b"x-sum: 1\r\n" + trailers + b"\r\n\r\n")
    assert asked is not None
    assert asked.fault is not None
    assert asked.fault.status == 400
