"""The frames made by hand say what the requests over HTTP/1.1 say; a library reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hpack import Decoder
from hpack.hpack import decode_integer
from hyperframe.frame import DataFrame, Frame, HeadersFrame
from race import h2_payload, payload
from race.h2_payload import Calls

SIZE = 1024


def _frames(octets: bytes) -> Iterator[Frame]:
    while octets:
        found, length = Frame.parse_frame_header(memoryview(octets[:9]))
        found.parse_body(memoryview(octets[9 : 9 + length]))
        yield found
        octets = octets[9 + length :]


def _read(octets: bytes, decoder: Decoder) -> tuple[list[tuple[str, str]], bytes]:
    """Return fields and body of one request, with *decoder* as the connection's table."""
    head, *data = _frames(octets)
    assert isinstance(head, HeadersFrame)
    assert head.flags == {"END_HEADERS"}
    assert all(isinstance(one, DataFrame) for one in data)
    assert [one.flags == {"END_STREAM"} for one in data] == [False] * (len(data) - 1) + [True]
    assert len({one.stream_id for one in (head, *data)}) == 1
    return decoder.decode(head.data), b"".join(one.data for one in data)


def _as_http1(fields: list[tuple[str, str]], body: bytes) -> tuple[str, dict[str, str], bytes]:
    pseudo = {name: value for name, value in fields if name.startswith(":")}
    others = {name: value for name, value in fields if not name.startswith(":")}
    assert pseudo.pop(":scheme") == "https"
    others["host"] = pseudo.pop(":authority")
    line = f"{pseudo.pop(':method')} {pseudo.pop(':path')} HTTP/1.1"
    assert pseudo == {}
    return line, others, body


def _split(request: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    pairs = (one.split(": ", 1) for one in lines)
    return line, {name.lower(): value for name, value in pairs}, body


@pytest.mark.parametrize("all_new", [False, True])
@pytest.mark.parametrize("size", [300, SIZE, 60_000])
def test_each_request_is_the_one_sent_over_http1(size: int, all_new: bool) -> None:
    calls, decoder = Calls(size, all_new=all_new), Decoder()
    expected = payload.requests(size, all_new=all_new)
    for number in range(200):
        octets, room = calls.following(2 * number + 1, opens=number == 0)
        fields, body = _read(octets, decoder)
        assert _as_http1(fields, body) == _split(expected())
        assert room == len(body) <= calls.most_bytes


def test_a_second_connection_opens_with_a_block_of_its_own() -> None:
    calls = Calls(SIZE)
    for decoder in (Decoder(), Decoder()):
        first = _read(calls.following(1, opens=True)[0], decoder)[0]
        second = _read(calls.following(3, opens=False)[0], decoder)[0]
        assert [name for name, _ in first] == [name for name, _ in second]


def test_after_the_first_request_only_trace_and_length_are_spelt_out() -> None:
    calls = Calls(SIZE)
    first, second = (
        next(_frames(calls.following(stream, opens=stream == 1)[0])) for stream in (1, 3)
    )
    assert len(second.data) < 70 < 150 < len(first.data)


def test_in_the_worst_case_only_path_scheme_length_and_version_come_again() -> None:
    calls, decoder = Calls(SIZE, all_new=True), Decoder()
    seen: Counter[tuple[str, str]] = Counter()
    for number in range(500):
        seen.update(_read(calls.following(2 * number + 1, opens=number == 0)[0], decoder)[0])
    repeated = {name for (name, _), count in seen.items() if count > 1}
    assert repeated == {":method", ":scheme", ":path", "content-length", "mcp-protocol-version"}


def test_a_body_larger_than_a_frame_is_sent_in_several() -> None:
    _, *data = _frames(Calls(60_000).following(1, opens=True)[0])
    assert [len(one.data) for one in data[:-1]] == [h2_payload.MOST_FRAME_BYTES] * 3


@pytest.mark.parametrize("number", [0, 29, 30, 31, 126, 127, 128, 1337, 70_000])
@pytest.mark.parametrize("prefix", [4, 5, 6, 7])
def test_an_integer_is_read_back_by_the_library(number: int, prefix: int) -> None:
    octets = h2_payload._integer(number, 0, prefix)
    assert decode_integer(octets, prefix) == (number, len(octets))
