"""Heads: how replies are framed, and what could be read in two ways."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from sidecar.errors import ProtocolError
from sidecar.http.head import CHUNKED, ReplyHead, framing, judge_reply
from sidecar.http.judge import request_by_h11


def reply(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK") -> ReplyHead:
    return judge_reply(b"\r\n".join([start, *lines]) + b"\r\n\r\n", 100)


FRAMES: Iterable[tuple[ReplyHead, str, int]] = [
    (reply(b"Content-Length: 5"), "GET", 5),
    (reply(b"Content-Length: 5"), "HEAD", 0),
    (reply(b"Transfer-Encoding: chunked"), "GET", CHUNKED),
    (reply(b"Content-Length: 5", start=b"HTTP/1.1 304 x"), "GET", 0),
    (reply(start=b"HTTP/1.1 204 x"), "GET", 0),
    (reply(), "GET", -2),
]


@pytest.mark.parametrize(("head", "method", "length"), FRAMES)
def test_a_reply_is_framed_by_its_status_its_method_and_its_fields(
    head: ReplyHead, method: str, length: int
) -> None:
    assert framing(head, method) == length


def test_a_reply_that_says_close_is_read_as_saying_so() -> None:
    assert reply(b"Connection: close").close
    assert reply(b"Connection: x, CLOSE").close
    assert reply(start=b"HTTP/1.0 200 OK").close
    assert not reply(b"Connection: keep-alive").close


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 4", b"Transfer-Encoding: chunked"],
        [b"Content-Length: 4", b"Content-Length: 5"],
        [b"Transfer-Encoding: gzip"],
        [b"X: a\0"],
        [b"X: a", b" b"],
    ],
)
def test_a_reply_that_could_be_read_in_two_ways_is_refused(lines: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        reply(*lines)


@pytest.mark.parametrize("line", [b"ho st: a", b"no colon", b'it\'s "odd" (x): a'])
def test_a_line_is_shown_as_it_stands(line: bytes) -> None:
    head = b"GET / HTTP/1.1\r\nhost: a\r\n" + line + b"\r\n\r\n"
    with pytest.raises(ProtocolError, match="illegal header line: `") as raised:
        request_by_h11(head, 100)
    assert "bytearray" not in str(raised.value)
