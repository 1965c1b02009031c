"""Bodies that go by another name, and requests framed so that two readers cut them differently."""

from __future__ import annotations

import gzip

from .harness import (
    ANYTHING,
    BY_RULE,
    DENIED,
    INVALID,
    NOT_A_MESSAGE,
    NOT_JSON,
    Attack,
    policy,
    request,
    to,
    use,
)

READ = policy(to("methods: [POST], paths: [/mcp], tools: [read]"))
DENY_DROP = policy(ANYTHING, deny=(to("tools: [drop]"),))
CALLS = policy(to("mcpMethods: [tools/call], tools: [read]"))
HONEST = request(use("read"))
UNSUPPORTED = 415
DROP = use("drop")


def kind(what: str, *lines: str, body: bytes | str = DROP) -> Attack:
    """A call of `drop` under another name, where a DENY would refuse it."""
    said = request(body, *lines)
    return Attack(f"a body {what}", DENY_DROP, said, UNSUPPORTED, NOT_A_MESSAGE, HONEST)


def frame(what: str, said: bytes, status: int = INVALID) -> Attack:
    """A request whose bytes are no one request."""
    return Attack(what, READ, said, status, NOT_A_MESSAGE, HONEST)


def by(method: str, text: str = use("read")) -> Attack:
    """An allowed message by a method that is not MCP's for it."""
    return Attack(
        f"a message sent by {method}",
        CALLS,
        request(text, method=method),
        DENIED,
        BY_RULE,
        HONEST,
    )


TYPE = "content-type: application/json"
HEAD = b"POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
BODY = use("read").encode()
LENGTH = b"content-length: %d\r\n" % len(BODY)
CHUNKED = b"transfer-encoding: chunked\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)

ATTACKS = [
    kind("sent as text/plain", "content-type: text/plain"),
    kind("sent as text/json", "content-type: text/json"),
    kind("sent as a form", "content-type: application/x-www-form-urlencoded"),
    kind("sent as a part of several", "content-type: multipart/form-data; boundary=x"),
    kind("sent as JSON of a vendor", "content-type: application/vnd.api+json"),
    kind("sent as lines of JSON", "content-type: application/x-ndjson"),
    kind("sent as nothing", "content-type:"),
    kind("sent as two types in one line", f"{TYPE}, text/plain"),
    kind("sent as two types in two lines", TYPE, "content-type: text/plain"),
    kind("sent as one type twice", TYPE, TYPE),
    kind("in UTF-16, as it says", f"{TYPE}; charset=utf-16", body=DROP.encode("utf-16")),
    kind("in UTF-7, as it says", f"{TYPE}; charset=utf-7"),
    kind("in EBCDIC, as it says", f"{TYPE}; charset=cp037", body=DROP.encode("cp037")),
    kind("with two charsets", f"{TYPE}; charset=utf-8; charset=utf-7"),
    kind("with an extended charset", f"{TYPE}; charset*=utf-7''x"),
    kind("with a charset in a string", f'{TYPE}; x="charset=utf-8"; charset=utf-16'),
    kind("compressed", TYPE, "content-encoding: gzip", body=gzip.compress(DROP.encode())),
    kind("that only says it is compressed", TYPE, "content-encoding: br"),
    kind("compressed twice", TYPE, "content-encoding: identity, gzip"),
    kind("compressed in two lines", TYPE, "content-encoding: identity", "content-encoding: gzip"),
    kind("compressed as `Identity`-ish", TYPE, "content-encoding: identity;q=1"),
    Attack(
        "a type that is not sent at all",
        DENY_DROP,
        b"POST /mcp HTTP/1.1\r\nhost: a\r\n" + LENGTH + b"\r\n" + BODY,
        UNSUPPORTED,
        NOT_A_MESSAGE,
        HONEST,
    ),
    Attack(
        "a type under a twin's name",
        DENY_DROP,
        b"POST /mcp HTTP/1.1\r\nhost: a\r\nContent_Type: application/json\r\n"
        + LENGTH
        + b"\r\n"
        + BODY,
        UNSUPPORTED,
        NOT_A_MESSAGE,
        HONEST,
    ),
    by("GET"),
    by("DELETE"),
    by("PUT"),
    by("PATCH"),
    by("OPTIONS"),
    by("HEAD"),
    Attack(
        "a stream that no rule opens, with a call for a pretext",
        CALLS,
        request(use("read"), "accept: text/event-stream", method="GET"),
        DENIED,
        BY_RULE,
        HONEST,
    ),
    Attack(
        "an end of a session that a rule excludes, with a call for a pretext",
        CALLS,
        request(use("read"), "mcp-session-id: s", method="DELETE"),
        DENIED,
        BY_RULE,
        HONEST,
    ),
    frame("a method in small letters", request(BODY, method="post")),
    frame("an unknown method", request(BODY, method="POST1"), INVALID),
    frame("a tunnel", b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", 405),
    frame("a length and chunks", HEAD + LENGTH + CHUNKED + b"\r\n" + CHUNKS),
    frame("chunks and a length", HEAD + CHUNKED + LENGTH + b"\r\n" + CHUNKS),
    frame("two lengths", HEAD + LENGTH + b"content-length: 5\r\n\r\n" + BODY),
    frame("one length twice", HEAD + LENGTH + LENGTH + b"\r\n" + BODY),
    frame("a length with a plus", HEAD + b"content-length: +5\r\n\r\n" + BODY),
    frame("a length below zero", HEAD + b"content-length: -1\r\n\r\n" + BODY),
    frame("two lengths in one line", HEAD + b"content-length: 5, 6\r\n\r\n" + BODY),
    frame("a coding that is not chunked", HEAD + b"transfer-encoding: gzip\r\n\r\n" + BODY, 501),
    frame("a coding with a blank", HEAD + b"transfer-encoding : chunked\r\n\r\n" + CHUNKS),
    frame("a bad chunk", HEAD + CHUNKED + b"\r\nzz\r\n" + BODY + b"\r\n0\r\n\r\n"),
    frame("a folded line", HEAD + b"mcp-name: re\r\n ad\r\n" + LENGTH + b"\r\n" + BODY),
    frame("a line without CR", HEAD + b"mcp-name: read\n" + LENGTH + b"\r\n" + BODY),
    frame("a NUL in a header", HEAD + b"mcp-name: read\0\r\n" + LENGTH + b"\r\n" + BODY),
    frame("a blank before a colon", HEAD + b"mcp-name : read\r\n" + LENGTH + b"\r\n" + BODY),
    frame("two hosts", HEAD + b"host: b\r\n" + LENGTH + b"\r\n" + BODY),
    frame("no host", b"POST /mcp HTTP/1.1\r\n" + LENGTH + b"\r\n" + BODY),
    Attack(
        "a bad message in chunks",
        READ,
        HEAD + CHUNKED + b"\r\n5\r\n" + BODY[:5] + b"\r\n5\r\nxxxxx\r\n0\r\n\r\n",
        INVALID,
        NOT_JSON,
        HEAD + CHUNKED.replace(b"transfer-encoding: chunked\r\n", LENGTH) + b"\r\n" + BODY,
    ),
]
