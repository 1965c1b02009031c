"""Heads: what is refused, what is read, and that h11 and memory agree on every byte string."""

from __future__ import annotations

import random
from collections.abc import Callable

import h11
import pytest
from support.long import times

from sidecar.errors import ProtocolError
from sidecar.http.head import ReplyHead, RequestHead, judge_reply, judge_request
from sidecar.http.lines import LineTable
from sidecar.http.reading import read_reply, read_request, recall_reply, recall_request

REQUEST = [
    b"POST /mcp HTTP/1.1",
    b"Host: localhost:1",
    b"User-Agent: agent/1",
    b"Accept: application/json, text/event-stream",
    b"Content-Type: application/json",
    b"traceparent: 00-aa-bb-01",
    b"Content-Length: 10",
]
REPLY = [
    b"HTTP/1.1 200 OK",
    b"Server: unit",
    b"Date: Fri, 20 Nov 2026 12:00:00 GMT",
    b"Content-Type: application/json",
    b"Connection: keep-alive",
    b"Content-Length: 10",
]
ODDITIES = [
    b"Content-Length: 10",
    b"Content-Length: 11",
    b"content-length: 10, 10",
    b"Content-Length: +5",
    b"Content-Length: 0x5",
    b"Content-Length:",
    b"Content-Length: 99999999999999999999999",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: CHUNKED",
    b"Transfer-Encoding:\x0bchunked",
    b" folded",
    b"\tfolded",
    b"X: a\x00b",
    b"X: a\rb",
    b"X: a\nb",
    b"X: a\x07b",
    b"X: a\x7fb",
    b"X: \x80\xff",
    b"X:  y  ",
    b"X:",
    b": v",
    b"A B: c",
    b"Host: other",
    b"Origin: http://a",
    b"origin:",
    b"Host: a, b",
    b"Host: a@b",
    b"Connection: close",
    b"Connection: close, x-foo",
    b"Connection: host",
    b"X-Foo: hop",
    b"Keep-Alive: timeout=5",
    b"X-Forwarded-Client-Cert: URI=spiffe://a/b",
    b"X_Request_Id: 1",
    b"Expect: 100-continue",
    b"Expect: a-miracle",
    b"Upgrade: websocket",
    b"Trailer: x",
    b"Cookie: a=b",
    b"Authorization: Bearer x",
]
HEADS = times(3_000, 12_000)  # for each seed
REQUEST_LINES = [
    b"GET / HTTP/1.0",
    b"POST  /mcp HTTP/1.1",
    b"POST /mcp HTTP/1.1 ",
    b"POST /mcp HTTP/2.0",
    b"POST http://localhost:1/x HTTP/1.1",
    b"POST http://other/x HTTP/1.1",
    b"POST /\xff HTTP/1.1",
    b"POST /a?b=c HTTP/1.1",
    b"POST /a#b HTTP/1.1",
    b"GET * HTTP/1.1",
    b"CONNECT a:1 HTTP/1.1",
    b"post /mcp HTTP/1.1",
    b"POST /mcp http/1.1",
    b"GET /mcp HTTP/1.1",
]
STATUS_LINES = [
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1 103 Early Hints",
    b"HTTP/1.1 200",
    b"HTTP/1.1 99 x",
    b"HTTP/1.1 2000 x",
    b"HTTP/2.0 200 OK",
    b"HTTP/1.1  200 OK",
    b"HTTP/1.1 200 \xffOK",
    b"HTTP/1.1 500 Internal\x00",
]


def mutated(base: list[bytes], starts: list[bytes], dice: random.Random) -> bytes:
    """Return a head made of *base* with up to three things changed."""
    lines = list(base)
    for _ in range(dice.randint(0, 3)):
        kind = dice.random()
        if kind < 0.5:
            lines.insert(dice.randint(1, len(lines)), dice.choice(ODDITIES))
        elif kind < 0.65 and len(lines) > 1:
            lines.pop(dice.randint(1, len(lines) - 1))
        elif kind < 0.9:
            at = dice.randrange(len(lines))
            if lines[at]:
                line = bytearray(lines[at])
                line[dice.randrange(len(line))] = dice.randrange(256)
                lines[at] = bytes(line)
        else:
            lines[0] = dice.choice(starts)
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    return head[: head.find(b"\r\n\r\n") + 4]


def attempt(read: Callable[[], RequestHead | ReplyHead]) -> object:
    try:
        return read()
    except ProtocolError as fault:
        return ("refused", fault.status)


def meaning(head: object) -> object:
    """What matters of a head."""
    if isinstance(head, RequestHead | ReplyHead):
        said = {name: getattr(head, name) for name in head.__slots__}
        lists = {name: list(what) for name, what in said.items() if isinstance(what, list | tuple)}
        return said | lists
    return head


def by_h11(head: bytes, *, request: bool) -> tuple[object, list[tuple[bytes, bytes]]] | None:
    """What h11 alone makes of *head*: its start line and fields, or None."""
    judge = h11.Connection(h11.SERVER if request else h11.CLIENT)
    if not request:
        judge.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        judge.send(h11.EndOfMessage())
    try:
        judge.receive_data(head)
        event = judge.next_event()
    except h11.RemoteProtocolError:
        return None
    if isinstance(event, h11.Request):
        return (event.method, event.target), list(event.headers)
    if isinstance(event, h11.Response | h11.InformationalResponse):
        return event.status_code, list(event.headers)
    return None


@pytest.mark.parametrize("seed", range(5))
def test_remembered_request_heads_are_never_laxer_than_h11_nor_read_differently(seed: int) -> None:
    dice = random.Random(seed)
    table = LineTable(32_768)
    accepted = recalled = 0
    for _ in range(HEADS):
        raw = mutated(REQUEST, REQUEST_LINES, dice)
        judged = attempt(lambda raw=raw: judge_request(raw, 100))
        known = recall_request(raw + b"POST ", table)
        remembered = attempt(lambda raw=raw: read_request(raw, table, 100))
        if known is not None:
            recalled += 1
            assert known[1] == len(raw)
            assert meaning(known[0]) == meaning(judged), raw
        assert meaning(remembered) == meaning(judged), raw
        if isinstance(remembered, RequestHead):
            accepted += 1
            authority = by_h11(raw, request=True)
            assert authority is not None, raw
            (method, target), headers = authority  # type: ignore[misc]
            assert remembered.start.method.encode() == method
            assert target.endswith(remembered.start.target)
            assert list(remembered.pairs) == headers, raw
    assert accepted > HEADS // 12
    assert recalled > HEADS // 12


@pytest.mark.parametrize("seed", range(5))
def test_remembered_reply_heads_are_never_laxer_than_h11_nor_read_differently(seed: int) -> None:
    dice = random.Random(seed)
    table = LineTable(32_768, replies=True)
    accepted = recalled = 0
    for _ in range(HEADS):
        raw = mutated(REPLY, STATUS_LINES, dice)
        judged = attempt(lambda raw=raw: judge_reply(raw, 100))
        known = recall_reply(raw + b"{}", table)
        remembered = attempt(lambda raw=raw: read_reply(raw, table, 100))
        if known is not None:
            recalled += 1
            assert known[1] == len(raw)
            assert meaning(known[0]) == meaning(judged), raw
        assert meaning(remembered) == meaning(judged), raw
        if isinstance(remembered, ReplyHead):
            accepted += 1
            authority = by_h11(raw, request=False)
            assert authority is not None, raw
            status, headers = authority
            assert remembered.status == status
            assert list(remembered.pairs) == headers, raw
    assert accepted > HEADS // 12
    assert recalled > HEADS // 12


def request(*lines: bytes, start: bytes = b"POST /mcp HTTP/1.1") -> bytes:
    return b"\r\n".join([start, *lines]) + b"\r\n\r\n"


REFUSED = {
    "no host": request(),
    "two hosts": request(b"Host: a", b"Host: a"),
    "host list": request(b"Host: a, b"),
    "host with userinfo": request(b"Host: a@b"),
    "host with path": request(b"Host: a/b"),
    "empty host": request(b"Host:"),
    "length beside coding": request(
        b"Host: a", b"Content-Length: 4", b"Transfer-Encoding: chunked"
    ),
    "two lengths": request(b"Host: a", b"Content-Length: 4", b"Content-Length: 4"),
    "signed length": request(b"Host: a", b"Content-Length: +4"),
    "unknown coding": request(b"Host: a", b"Transfer-Encoding: gzip"),
    "coding in 1.0": request(b"Host: a", b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.0"),
    "obs-fold": request(b"Host: a", b"X: a", b" b"),
    "nul": request(b"Host: a", b"X: a\0b"),
    "bare lf": request(b"Host: a", b"X: a\nY: b"),
    "bare cr": request(b"Host: a", b"X: a\rY: b"),
    "space before colon": request(b"Host: a", b"X : a"),
    "connect": request(b"Host: a", start=b"CONNECT a:443 HTTP/1.1"),
    "foreign absolute form": request(b"Host: a", start=b"GET http://b/ HTTP/1.1"),
    "absolute form with userinfo": request(b"Host: a", start=b"GET http://a@b/ HTTP/1.1"),
    "star": request(b"Host: a", start=b"GET * HTTP/1.1"),
    "no slash": request(b"Host: a", start=b"GET v HTTP/1.1"),
    "fragment": request(b"Host: a", start=b"GET /v#f HTTP/1.1"),
    "lower-case method": request(b"Host: a", start=b"get / HTTP/1.1"),
    "http/2 preface": request(b"Host: a", start=b"PRI * HTTP/2.0"),
    "connection lists host": request(b"Host: a", b"Connection: host"),
    "unknown expectation": request(b"Host: a", b"Expect: a-miracle"),
    "too many fields": request(b"Host: a", *[b"X-%d: a" % i for i in range(100)]),
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED.keys())
def test_what_a_proxy_must_not_read_is_refused_at_first_and_at_second_sight(raw: bytes) -> None:
    table = LineTable(32_768)
    for _ in range(2):
        with pytest.raises(ProtocolError):
            read_request(raw, table, 100)


def forwarded(*lines: bytes) -> list[bytes]:
    return list(read_request(request(b"Host: a", *lines), LineTable(32_768), 100).forward)


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: keep-alive",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: x",
        b"TE: trailers",
        b"Upgrade: h2c",
        b"HTTP2-Settings: x",
        b"X-Request-Id: forged",
        b"x_request_id: forged",
        b"X-Forwarded-Client-Cert: URI=spiffe://a/b",
        b"x-forwarded_client-cert: URI=spiffe://a/b",
        b"Accept-Encoding: gzip",
    ],
)
def test_hop_by_hop_fields_and_forgeries_of_ours_go_no_further(line: bytes) -> None:
    assert forwarded(line) == []


@pytest.mark.parametrize(
    ("lines", "origin"),
    [
        ([], b""),
        ([b"Origin: http://a"], b"http://a"),
        ([b"origin:  null "], b"null"),
        ([b"Origin:"], b"?"),
        ([b"Origin: http://a", b"Origin: http://a"], b"?"),
        ([b"Origin:", b"Origin: http://a"], b"?"),
    ],
)
def test_the_origin_of_a_page_is_read_and_goes_on(lines: list[bytes], origin: bytes) -> None:
    raw = b"\r\n".join([*REQUEST, *lines, b"", b""])
    table = LineTable(1 << 20)
    for _ in range(2):
        head = read_request(raw, table, 100)
        assert head.origin == origin
        assert sum(line.lower().startswith(b"origin:") for line in head.forward) == len(lines)


def test_fields_that_connection_lists_go_no_further() -> None:
    assert forwarded(b"Connection: close, X-Hop", b"X-Hop: a", b"X-Stay: b") == [b"X-Stay: b\r\n"]


def test_an_absolute_target_of_the_same_host_becomes_a_path() -> None:
    raw = request(b"Host: a", start=b"GET http://A/v?x=1 HTTP/1.1")
    assert read_request(raw, LineTable(32_768), 100).start.target == b"/v?x=1"


def test_a_line_with_a_secret_is_never_kept() -> None:
    table = LineTable(32_768)
    raw = request(b"Host: a", b"Authorization: Bearer s", b"Cookie: s", b"Mcp-Session-Id: s")
    for _ in range(2):
        read_request(raw, table, 100)
    assert set(table.fields) == {b"Host: a"}
    read_request(request(b"Host: a", start=b"GET /v?token=s HTTP/1.1"), table, 100)
    assert all(b"?" not in line for line in table.starts)


def test_a_full_table_lets_its_oldest_lines_go_and_stays_within_its_bytes() -> None:
    table = LineTable(4_096)
    for number in range(200):
        read_request(request(b"Host: h%d" % number), table, 100)
    assert 0 < len(table.fields) + len(table.starts) < 12
    assert b"Host: h199" in table.fields
    assert b"Host: h0" not in table.fields
