"""What RFC 9113 asks of a server, as frames: what is sent, and what may come back.

An outcome is `GOAWAY` or `RESET` with a code, `CLOSED` for a connection that ends in order,
`REPLY` for a head that answers and `END` for the end of what follows it, `DATA` with the bytes
of bodies so far, `PONG`, `ACK` with how many there were. A stream's error may be its
connection's. Whether a peer knows HTTP/2's settings is not waited for.
"""

from __future__ import annotations

from dataclasses import dataclass

from .floods import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    POST,
    PRIORITY,
    PUSH,
    RESET,
    SETTINGS,
    WINDOW,
    asked,
    block,
    frame,
)

NO_ERROR, PROTOCOL, INTERNAL, FLOW, TIMEOUT, STREAM_CLOSED, SIZE, REFUSED = range(8)
COMPRESSION = 9
HAS_PRIORITY = 0x20
PONG = frame(PING, b"12345678")
ANSWERED = "REPLY"


@dataclass(frozen=True)
class Case:
    """*sent* after the greeting; one of *wanted* must come back.

    Of *then*, each has an outcome that is waited for, and what is sent next.
    """

    name: str
    sent: bytes
    wanted: frozenset[str]
    then: tuple[tuple[str, bytes], ...] = ()


def ends(*codes: int) -> frozenset[str]:
    """An error of the connection, which is said before it ends."""
    return frozenset(f"GOAWAY {code}" for code in codes)


def resets(*codes: int) -> frozenset[str]:
    """An error of the stream, or of its connection."""
    return ends(*codes) | {f"RESET {code}" for code in codes}


def setting(code: int, value: int) -> bytes:
    return frame(SETTINGS, code.to_bytes(2) + value.to_bytes(4))


def headers(payload: bytes = GET, flags: int = END_HEADERS | END_STREAM, stream: int = 1) -> bytes:
    return frame(HEADERS, payload, flags, stream)


def post(length: str, *bodies: bytes) -> bytes:
    data = [frame(DATA, body, 0, 1) for body in bodies[:-1]]
    last = frame(DATA, bodies[-1], END_STREAM, 1)
    head = headers(block("/mcp", "POST", ("content-length", length)), END_HEADERS)
    return head + b"".join(data) + last


def raw(*fields: tuple[str, str]) -> bytes:
    """A request of these very fields."""
    from hpack import Encoder

    encoder = Encoder()
    encoder.header_table_size = 0
    return headers(bytes(encoder.encode(list(fields))))


METHOD, SCHEME, AUTHORITY, PATH = (
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "a"),
    (":path", "/mcp"),
)
WHOLE = (METHOD, SCHEME, AUTHORITY, PATH)
BIG = [(f"x-{one:03}", "v" * 64) for one in range(60)]
OK = frozenset({ANSWERED})
MALFORMED = resets(PROTOCOL)

CASES = [
    # 3.4: the preface
    Case("a preface and a request", asked(1), OK),
    # 4.1: frames
    Case("a frame of an unknown type", frame(0xFF, b"\0" * 8) + PONG, frozenset({"PONG"})),
    Case("a frame with undefined flags", frame(PING, b"12345678", 0x16), frozenset({"PONG"})),
    Case(
        "a reserved bit that is set",
        PONG[:5] + b"\x80\0\0\0" + PONG[9:],
        frozenset({"PONG"}),
    ),
    # 4.2: sizes
    Case(
        "DATA of the greatest size",
        headers(POST, END_HEADERS) + frame(DATA, b"x" * 16_384, END_STREAM, 1),
        OK,
    ),
    Case(
        "DATA that is too long",
        headers(POST, END_HEADERS) + frame(DATA, b"x" * 16_385, 1, 1),
        resets(SIZE),
    ),
    Case("HEADERS that are too long", frame(HEADERS, b"\0" * 16_385, 5, 1), ends(SIZE)),
    # 4.3: compression
    Case("a block that can't be decoded", headers(b"\x40"), ends(COMPRESSION)),
    Case(
        "PRIORITY within a block",
        frame(HEADERS, GET, END_STREAM, 1) + frame(PRIORITY, b"\0\0\0\0\xff", 0, 1),
        ends(PROTOCOL),
    ),
    Case(
        "HEADERS of another stream within a block",
        frame(HEADERS, GET, END_STREAM, 1) + frame(HEADERS, GET, 5, 3),
        ends(PROTOCOL),
    ),
    # 5.1: states
    Case("DATA to an idle stream", frame(DATA, b"x", 1, 1), ends(PROTOCOL)),
    Case("RST_STREAM to an idle stream", frame(RESET, b"\0\0\0\x08", 0, 1), ends(PROTOCOL)),
    Case("WINDOW_UPDATE to an idle stream", frame(WINDOW, b"\0\0\0\x64", 0, 1), ends(PROTOCOL)),
    Case("CONTINUATION to an idle stream", frame(CONTINUATION, GET, 4, 1), ends(PROTOCOL)),
    Case("DATA after the end", asked(1) + frame(DATA, b"x", 1, 1), resets(STREAM_CLOSED)),
    Case("HEADERS after the end", asked(1) + asked(1), resets(STREAM_CLOSED)),
    Case(
        "CONTINUATION after the end",
        asked(1) + frame(CONTINUATION, GET, 4, 1),
        resets(STREAM_CLOSED, PROTOCOL),
    ),
    Case(
        "DATA after RST_STREAM",
        asked(1, ended=False, what=POST)
        + frame(RESET, b"\0\0\0\x08", 0, 1)
        + frame(DATA, b"x", 1, 1),
        resets(STREAM_CLOSED),
    ),
    Case(
        "HEADERS after RST_STREAM",
        asked(1, ended=False, what=POST) + frame(RESET, b"\0\0\0\x08", 0, 1) + asked(1),
        resets(STREAM_CLOSED),
    ),
    Case("PRIORITY after the end", asked(1) + frame(PRIORITY, b"\0\0\0\0\x10", 0, 1), OK),
    Case("WINDOW_UPDATE after the end", asked(1) + frame(WINDOW, b"\0\0\0\x01", 0, 1), OK),
    Case("RST_STREAM after the end", asked(1) + frame(RESET, b"\0\0\0\x08", 0, 1) + asked(3), OK),
    # 5.1.1 and 5.1.2: numbers and how many
    Case("an even stream", headers(stream=2), ends(PROTOCOL)),
    Case("a stream lower than the last", asked(5) + asked(3), ends(PROTOCOL)),
    Case(
        "more streams than are taken",
        b"".join(asked(1 + 2 * one, ended=False, what=POST) for one in range(101)),
        frozenset({f"RESET {REFUSED}"}),
    ),
    # 5.3.1
    Case(
        "HEADERS that depend on themselves",
        frame(HEADERS, b"\0\0\0\x01\x0f" + GET, 0x25, 1),
        resets(PROTOCOL),
    ),
    Case(
        "PRIORITY that depends on itself",
        frame(PRIORITY, b"\0\0\0\x02\x0f", 0, 2),
        resets(PROTOCOL),
    ),
    # 5.5
    Case(
        "an extension within a block",
        frame(HEADERS, GET, END_STREAM, 1)
        + frame(0xFF, b"\0" * 8)
        + frame(CONTINUATION, b"", 4, 1),
        ends(PROTOCOL),
    ),
    # 6.1: DATA
    Case("DATA on stream 0", frame(DATA, b"x", 1, 0), ends(PROTOCOL)),
    Case(
        "DATA padded to more than there is",
        headers(POST, END_HEADERS) + frame(DATA, b"\x06\0\0\0\0\0", PADDED | END_STREAM, 1),
        ends(PROTOCOL),
    ),
    Case(
        "DATA with padding",
        headers(POST, END_HEADERS) + frame(DATA, b"\x02ok\0\0", PADDED | END_STREAM, 1),
        OK,
    ),
    # 6.2: HEADERS
    Case("HEADERS on stream 0", headers(stream=0), ends(PROTOCOL)),
    Case("HEADERS padded to more than there is", headers(b"\xff" + GET, 0x0D), ends(PROTOCOL)),
    Case("HEADERS with padding", headers(b"\x01" + GET + b"\0", 0x0D), OK),
    Case("HEADERS with a priority", headers(b"\0\0\0\0\x0f" + GET, 0x25), OK),
    Case(
        "HEADERS and CONTINUATION",
        frame(HEADERS, GET[:2], 1, 1) + frame(CONTINUATION, GET[2:], 4, 1),
        OK,
    ),
    # 6.3: PRIORITY
    Case("PRIORITY on stream 0", frame(PRIORITY, b"\0\0\0\0\x0f", 0, 0), ends(PROTOCOL)),
    Case("PRIORITY of another length", frame(PRIORITY, b"\x80\0\0\x01", 0, 1), resets(SIZE)),
    # 6.4: RST_STREAM
    Case("RST_STREAM on stream 0", frame(RESET, b"\0\0\0\x08", 0, 0), ends(PROTOCOL)),
    Case(
        "RST_STREAM of another length",
        asked(1, ended=False) + frame(RESET, b"\0\0\0", 0, 1),
        ends(SIZE),
    ),
    # 6.5: SETTINGS
    Case("SETTINGS with ACK and a payload", frame(SETTINGS, b"\0" * 6, 1), ends(SIZE)),
    Case("SETTINGS with ACK and one byte", frame(SETTINGS, b"\0", 1), ends(SIZE)),
    Case("SETTINGS on a stream", frame(SETTINGS, b"", 0, 1), ends(PROTOCOL)),
    Case("SETTINGS of another length", frame(SETTINGS, b"\0\x03\0"), ends(SIZE)),
    Case("ENABLE_PUSH that is no flag", setting(2, 2), ends(PROTOCOL)),
    Case("INITIAL_WINDOW_SIZE above the greatest", setting(4, 2**31), ends(FLOW)),
    Case("MAX_FRAME_SIZE below the least", setting(5, 16_383), ends(PROTOCOL)),
    Case("MAX_FRAME_SIZE above the greatest", setting(5, 2**24), ends(PROTOCOL)),
    Case("a setting that is unknown", setting(0xFF, 1) + PONG, frozenset({"PONG"})),
    Case("SETTINGS are acknowledged", setting(3, 100), frozenset({"ACK 2"})),
    Case(
        "all settings at once",
        frame(
            SETTINGS,
            b"\0\x01\0\0\x10\0\0\x02\0\0\0\x01\0\x03\0\0\0\x64"
            b"\0\x04\0\0\xff\xff\0\x05\0\0\x40\0\0\x06\0\0\0\x64",
        ),
        frozenset({"ACK 2"}),
    ),
    Case(
        "one setting said twice",
        frame(SETTINGS, b"\0\x04\0\0\0\x64\0\x04\0\0\0\x01") + asked(1),
        frozenset({"DATA 1"}),
    ),
    # 6.6: PUSH_PROMISE
    Case(
        "PUSH_PROMISE to an idle stream",
        frame(PUSH, b"\0\0\0\x03" + GET, 4, 1),
        ends(PROTOCOL),
    ),
    Case(
        "PUSH_PROMISE of a caller",
        asked(1) + frame(PUSH, b"\0\0\0\x02" + GET, 4, 1),
        ends(PROTOCOL),
    ),
    # 6.7: PING
    Case("PING is answered", PONG, frozenset({"PONG"})),
    Case("PING with ACK is not answered", frame(PING, b"invalid!", 1) + PONG, frozenset({"PONG"})),
    Case("PING on a stream", frame(PING, b"12345678", 0, 1), ends(PROTOCOL)),
    Case("PING of another length", frame(PING, b"123456"), ends(SIZE)),
    # 6.8: GOAWAY
    Case("GOAWAY", frame(GOAWAY, b"\0" * 8) + PONG, frozenset({"PONG", "CLOSED"})),
    Case("GOAWAY on a stream", frame(GOAWAY, b"\0" * 8, 0, 1), ends(PROTOCOL)),
    # 6.9: WINDOW_UPDATE
    Case("an increment of 0", frame(WINDOW, b"\0\0\0\0"), ends(PROTOCOL)),
    Case(
        "an increment of 0 on a stream",
        asked(1, ended=False) + frame(WINDOW, b"\0\0\0\0", 0, 1),
        resets(PROTOCOL),
    ),
    Case("WINDOW_UPDATE of another length", frame(WINDOW, b"\0\0\x01"), ends(SIZE)),
    Case("a window above the greatest", frame(WINDOW, b"\x7f\xff\xff\xff") * 2, ends(FLOW)),
    Case(
        "a stream's window above the greatest",
        asked(1, ended=False, what=POST) + frame(WINDOW, b"\x7f\xff\xff\xff", 0, 1) * 2,
        resets(FLOW),
    ),
    Case("a window of one byte", setting(4, 1) + asked(1), frozenset({"DATA 1"})),
    # 6.10: CONTINUATION
    Case(
        "several CONTINUATIONs",
        frame(HEADERS, GET[:1], 1, 1)
        + frame(CONTINUATION, GET[1:3], 0, 1)
        + frame(CONTINUATION, GET[3:], 4, 1),
        OK,
    ),
    Case(
        "DATA instead of CONTINUATION",
        frame(HEADERS, POST, 0, 1) + frame(CONTINUATION, b"", 0, 1) + frame(DATA, b"x", 1, 1),
        ends(PROTOCOL),
    ),
    Case(
        "CONTINUATION on stream 0",
        frame(HEADERS, GET, 1, 1) + frame(CONTINUATION, b"", 4, 0),
        ends(PROTOCOL),
    ),
    Case(
        "CONTINUATION after a whole block",
        asked(1, ended=False) + frame(CONTINUATION, b"", 4, 1),
        ends(PROTOCOL),
    ),
    Case(
        "CONTINUATION after DATA",
        asked(1, ended=False, what=POST) + frame(DATA, b"x", 0, 1) + frame(CONTINUATION, b"", 4, 1),
        ends(PROTOCOL),
    ),
    # 8: messages
    Case("GET", asked(1), OK),
    Case("HEAD", asked(1, what=block("/mcp", "HEAD")), OK),
    Case("POST", post("4", b"body"), OK),
    Case(
        "POST with trailers",
        headers(POST, END_HEADERS) + frame(DATA, b"x", 0, 1) + headers(b"\0\x01x\x01y"),
        OK,
    ),
    Case(
        "a second head without an end",
        headers(POST, END_HEADERS)
        + frame(DATA, b"x", 0, 1)
        + headers(b"\0\x01x\x01y", END_HEADERS),
        MALFORMED,
    ),
    Case("a name in upper case", raw(*WHOLE, ("X-TEST", "ok")), MALFORMED),
    Case("an unknown pseudo-header field", raw(*WHOLE, (":test", "ok")), MALFORMED),
    Case("a pseudo-header field of replies", raw(*WHOLE, (":status", "200")), MALFORMED),
    Case(
        "a pseudo-header field in trailers",
        headers(POST, END_HEADERS) + frame(DATA, b"x", 0, 1) + headers(b"\x82"),
        MALFORMED,
    ),
    Case(
        "a pseudo-header field behind a field",
        raw(METHOD, SCHEME, AUTHORITY, ("x", "y"), PATH),
        MALFORMED,
    ),
    Case("a connection-specific field", raw(*WHOLE, ("connection", "keep-alive")), MALFORMED),
    Case("TE other than trailers", raw(*WHOLE, ("te", "trailers, deflate")), MALFORMED),
    Case("an empty path", raw(METHOD, SCHEME, AUTHORITY, (":path", "")), MALFORMED),
    Case("no method", raw(SCHEME, AUTHORITY, PATH), MALFORMED),
    Case("no scheme", raw(METHOD, AUTHORITY, PATH), MALFORMED),
    Case("no path", raw(METHOD, SCHEME, AUTHORITY), MALFORMED),
    Case("two methods", raw(*WHOLE, METHOD), MALFORMED),
    Case("two schemes", raw(*WHOLE, SCHEME), MALFORMED),
    Case("two paths", raw(*WHOLE, PATH), MALFORMED),
    Case("a length that DATA does not keep", post("1", b"test"), MALFORMED),
    Case("a length that several DATA do not keep", post("1", b"test", b"test"), MALFORMED),
    Case("many fields", raw(*WHOLE, *BIG), OK),
]
