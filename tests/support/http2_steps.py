"""What RFC 9113 asks of a server in the course of a conversation: what is said next depends on
what has come back.
"""

from __future__ import annotations

from .floods import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    GET,
    GOAWAY,
    HEADERS,
    POST,
    PRIORITY,
    RESET,
    WINDOW,
    asked,
    frame,
)
from .http2_cases import (
    FLOW,
    OK,
    PONG,
    PROTOCOL,
    SIZE,
    STREAM_CLOSED,
    Case,
    ends,
    headers,
    resets,
    setting,
)

PONGS = frozenset({"PONG"})
NO_WINDOW, ONE_BYTE = setting(4, 0), frame(WINDOW, b"\0\0\0\x01", 0, 1)
PRIORITIES = {
    "the least weight": b"\0\0\0\0\0",
    "the greatest weight": b"\0\0\0\0\xff",
    "another stream before it": b"\0\0\0\x03\0",
    "none beside it": b"\x80\0\0\0\0",
}

STEPS = [
    # 3.4, 5.4.1: how it begins and how it ends
    Case("settings come first", b"", frozenset({"SETTINGS 1"})),
    Case(
        "an error is the connection's end",
        b"",
        frozenset({"CLOSED"}),
        (("ACK 1", frame(6, b"12345678", 0, 3)),),
    ),
    Case("GOAWAY is the end of an idle connection", frame(GOAWAY, bytes(8)), frozenset({"CLOSED"})),
    Case(
        "GOAWAY of an unknown code is no other",
        frame(GOAWAY, b"\0\0\0\0\0\0\0\xffwhy") + PONG,
        frozenset({"CLOSED"}),
    ),
    Case(
        "GOAWAY lets a stream finish",
        NO_WINDOW + asked(1),
        frozenset({"END"}),
        (("REPLY", frame(GOAWAY, bytes(8)) + frame(WINDOW, b"\0\0\0\x64", 0, 1)),),
    ),
    # 5.1: what may come on a stream that has ended, or ends
    *(
        Case(f"PRIORITY of an idle stream with {what}", frame(PRIORITY, how, 0, 1) + asked(1), OK)
        for what, how in PRIORITIES.items()
    ),
    Case("PRIORITY of a higher stream", frame(PRIORITY, b"\0\0\0\0\xff", 0, 3) + asked(1), OK),
    Case("PRIORITY of no stream that ever is", frame(PRIORITY, bytes(5), 0, 1) + PONG, PONGS),
    Case(
        "WINDOW_UPDATE once all was asked", NO_WINDOW + asked(1) + ONE_BYTE, frozenset({"DATA 1"})
    ),
    Case(
        "PRIORITY once all was asked",
        NO_WINDOW + asked(1) + frame(PRIORITY, bytes(5), 0, 1) + ONE_BYTE,
        frozenset({"DATA 1"}),
    ),
    Case(
        "RST_STREAM once all was asked", asked(1) + frame(RESET, b"\0\0\0\x08", 0, 1) + PONG, PONGS
    ),
    Case(
        "RST_STREAM within a body",
        headers(POST, END_HEADERS) + frame(RESET, b"\0\0\0\x08", 0, 1) + PONG,
        PONGS,
    ),
    Case(
        "RST_STREAM of an unknown code",
        headers(POST, END_HEADERS) + frame(RESET, b"\0\0\0\xff", 0, 1) + PONG,
        PONGS,
    ),
    Case(
        "PRIORITY once all was answered",
        asked(1),
        PONGS,
        (("END", frame(PRIORITY, b"\0\0\0\0\xff", 0, 1) + PONG),),
    ),
    Case(
        "DATA once all was answered",
        asked(1),
        resets(STREAM_CLOSED),
        (("END", frame(DATA, b"late", 1, 1)),),
    ),
    Case("HEADERS once all was answered", asked(1), ends(STREAM_CLOSED), (("END", asked(1)),)),
    Case(
        "CONTINUATION once all was answered",
        asked(1),
        ends(STREAM_CLOSED, PROTOCOL),
        (("END", frame(CONTINUATION, GET, 4, 1)),),
    ),
    Case(
        "CONTINUATION after RST_STREAM",
        headers(POST, END_HEADERS)
        + frame(RESET, b"\0\0\0\x08", 0, 1)
        + frame(CONTINUATION, GET, 4, 1),
        resets(STREAM_CLOSED, PROTOCOL),
    ),
    Case(
        "PRIORITY of another length within an exchange",
        asked(1) + frame(PRIORITY, b"\x80\0\0\x01", 0, 1),
        resets(SIZE),
    ),
    # 5.1.2: one too many is one stream's matter
    Case(
        "a stream too many costs no other anything",
        NO_WINDOW + b"".join(asked(1 + 2 * one) for one in range(102)),
        frozenset({"DATA 12"}),
        (("RESET 7", b""), ("RESET 7", frame(WINDOW, b"\0\0\0\x64", 0, 1))),
    ),
    # 6.1: bodies
    Case(
        "several DATA",
        headers(POST, END_HEADERS) + frame(DATA, b"x", 0, 1) + frame(DATA, b"x", 1, 1),
        OK,
    ),
    Case(
        "DATA with padding that is not zero",
        headers(POST, END_HEADERS) + frame(DATA, b"\x03okpad", 9, 1),
        OK,
    ),
    Case(
        "HEADERS that depend on another stream",
        frame(HEADERS, b"\0\0\0\x07\xff" + GET, 0x25, 1),
        OK,
    ),
    # 6.9: windows
    Case("WINDOW_UPDATE of the connection", frame(WINDOW, b"\0\0\0\x01") + PONG, PONGS),
    Case("WINDOW_UPDATE of a stream", asked(1) + ONE_BYTE, OK),
    Case(
        "a window that opens by settings",
        NO_WINDOW,
        frozenset({"DATA 1"}),
        (("ACK 2", asked(1)), ("REPLY", setting(4, 1))),
    ),
    Case(
        "a window that shrinks below nothing and opens again",
        setting(4, 3),
        frozenset({"DATA 4"}),
        (
            ("ACK 2", asked(1)),
            ("DATA 3", setting(4, 2)),
            ("ACK 3", frame(WINDOW, b"\0\0\0\x02", 0, 1)),
        ),
    ),
    Case(
        "a window that settings open above the greatest",
        NO_WINDOW
        + headers(POST, END_HEADERS)
        + frame(WINDOW, b"\x7f\xff\xff\xff", 0, 1)
        + setting(4, 1),
        ends(FLOW),
    ),
]
