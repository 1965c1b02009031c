"""Rows 20 to 26: what HTTP allows and nobody expects, and what it does not allow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.raw_caller import Broken, Caller, Reply
from support.raw_upstream import Connection, RawUpstream, Script, chunk, head, reply
from support.wire import tool

from .world import JSON, TEXT, World, raw, silent, started

CALL = tool("read_file", path="/srv/a")
HINT = head(103, "link: </a>; rel=preload")
CHUNKED = head(200, TEXT, "transfer-encoding: chunked")
POISON = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"
SWITCH = head(101, "upgrade: websocket", "connection: upgrade")
WHOLE = head(200, TEXT, "content-length: 2") + b"ok"
OK = b"content-length: 2\r\n\r\nno"
START = b"HTTP/1.1 200 OK\r\n"

MALFORMED: dict[str, bytes] = {
    "no-http": b"220 mail.example ready\r\n\r\n",
    "http-0.9": b"<html>hello</html>",
    "no-version": b"200 OK\r\n" + OK,
    "version-2": b"HTTP/2.0 200 OK\r\n" + OK,
    "version-1.10": b"HTTP/1.10 200 OK\r\n" + OK,
    "no-status": b"HTTP/1.1 abc\r\n" + OK,
    "status-of-two": b"HTTP/1.1 20 OK\r\n" + OK,
    "status-of-four": b"HTTP/1.1 2000 OK\r\n" + OK,
    "status-0": b"HTTP/1.1 000 OK\r\n" + OK,
    "status-signed": b"HTTP/1.1 +20 OK\r\n" + OK,
    "bare-lf": b"HTTP/1.1 200 OK\ncontent-length: 2\n\nno",
    "bare-cr": START + b"x: a\rb: c\r\n" + OK,
    "nul": START + b"x: a\0b\r\n" + OK,
    "nul-in-name": START + b"x\0: a\r\n" + OK,
    "fold": START + b"x: a\r\n b\r\n" + OK,
    "leading-space": START + b" x: a\r\n" + OK,
    "space-before-colon": START + b"x : a\r\n" + OK,
    "no-colon": START + b"x\r\n" + OK,
    "no-name": START + b": a\r\n" + OK,
    "length-and-coding": START + b"transfer-encoding: chunked\r\n" + OK,
    "two-lengths": START + b"content-length: 3\r\n" + OK,
    "list-of-lengths": START + b"content-length: 2, 3\r\n\r\nno",
    "signed-length": START + b"content-length: +2\r\n\r\nno",
    "negative-length": START + b"content-length: -2\r\n\r\nno",
    "hex-length": START + b"content-length: 0x2\r\n\r\nno",
    "huge-length": START + b"content-length: 99999999999999999999999\r\n\r\nno",
    "empty-length": START + b"content-length:\r\n\r\nno",
    "other-coding": START + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "unknown-coding": START + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked-twice": START + b"transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "no-chunk-size": CHUNKED + b"no\r\n0\r\n\r\n",
    "signed-chunk": CHUNKED + b"+2\r\nno\r\n0\r\n\r\n",
    "spilling-chunk": CHUNKED + b"2\r\nnone\r\n0\r\n\r\n",
    "half-a-head": START + b"content-le",
    "nothing-but-crlf": b"\r\n\r\n\r\n\r\n",
}
TOO_LARGE: dict[str, bytes] = {
    "endless-field": START + b"x: " + b"y" * 70_000 + b"\r\n" + OK,
    "endless-line": b"HTTP/1.1 200 " + b"y" * 70_000 + b"\r\n" + OK,
    "many-fields": START + b"x: y\r\n" * 200 + OK,
}
SWITCHING: dict[str, bytes] = {
    "101": SWITCH + b"anything at all",
    "101-alone": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "101-then-200": SWITCH + WHOLE,
}
BODILESS: dict[str, tuple[str, bytes]] = {
    "/head-length": ("HEAD", head(200, TEXT, "content-length: 6") + b"poison"),
    "/head-chunked": ("HEAD", CHUNKED + chunk(b"poison") + b"0\r\n\r\n"),
    "/head-reply": ("HEAD", head(200, TEXT, "content-length: 9") + POISON),
    "/204": ("GET", head(204) + POISON),
    "/204-length": ("GET", head(204, "content-length: 6") + b"poison"),
    "/204-chunked": ("GET", head(204, "transfer-encoding: chunked") + chunk(b"poison")),
    "/304": ("GET", head(304, "content-length: 6") + b"poison"),
    "/304-reply": ("GET", head(304, 'etag: "a"') + POISON),
}
TRAILERS: dict[str, bytes] = {
    "/trailers": CHUNKED + chunk(b"body") + b"0\r\nx-sum: 1\r\nx-more: 2\r\n\r\n",
    "/trailers-framing": CHUNKED + chunk(b"body") + b"0\r\ncontent-length: 9\r\n\r\n",
    "/trailers-huge": CHUNKED + chunk(b"body") + b"0\r\n" + b"x: " + b"y" * 70_000 + b"\r\n\r\n",
    "/trailers-many": CHUNKED + chunk(b"body") + b"0\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
    "/trailers-none": CHUNKED + chunk(b"body") + b"0\r\nno field\r\n\r\n",
}


def hint_then_reply(connection: Connection) -> None:
    connection.send(HINT + HINT)
    reply(b"after hints")(connection)


SCRIPTS: dict[str, Script] = {
    "/silent": silent,
    "/417": reply(b"no", 417),
    "/100": raw(b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE, closes=False),
    "/103": hint_then_reply,
    "/103-dies": raw(HINT),
    "/103-flood": raw(HINT * 500),
    "/199": raw(head(199) + WHOLE, closes=False),
    **{f"/malformed/{name}": raw(data) for name, data in MALFORMED.items()},
    **{f"/large/{name}": raw(data) for name, data in TOO_LARGE.items()},
    **{f"/switch/{name}": raw(data, closes=False) for name, data in SWITCHING.items()},
    **{path: raw(data, closes=False) for path, (_, data) in BODILESS.items()},
    **{path: raw(data, closes=False) for path, data in TRAILERS.items()},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    limits = {"callTimeout": "1s"}
    folder = tmp_path_factory.mktemp("odd")
    with started(folder, {"mcp": RawUpstream(SCRIPTS)}, limits=limits) as running:
        yield running


def is_well(world: World, caller: Caller) -> None:
    """The connection goes on, and what comes is the reply to what was asked."""
    assert caller.ask("GET", "/next").body == b"ok"


def expect(path: str, body: bytes = CALL) -> bytes:
    lines = f"host: a\r\n{JSON}\r\ncontent-length: {len(body)}\r\nexpect: 100-continue\r\n\r\n"
    return f"POST {path} HTTP/1.1\r\n{lines}".encode()


# -- 20


@pytest.mark.parametrize(
    ("path", "status"), [("/any", 200), ("/100", 200), ("/417", 417), ("/silent", 504)]
)
def test_row_20_who_waits_for_100_is_told_once_and_the_body_arrives_once(
    world: World, path: str, status: int
) -> None:
    before = len(world.server.seen)
    with world.caller() as alice:
        alice.sock.sendall(expect(path))
        assert alice.head().status == 100
        alice.sock.sendall(CALL)
        assert alice.head().status == status, "a second 100 would stand here"
    (heard,) = world.server.seen[before:]
    assert heard.body == CALL
    assert b"expect" not in heard.head.lower()


def test_row_20_over_http2_it_is_the_same(world: World) -> None:
    before = len(world.server.seen)
    with world.http2() as alice:
        fields = [("content-length", str(len(CALL))), ("expect", "100-continue")]
        alice.sock.sendall(alice.ask("POST", "/100", b"", fields, end=False))
        told = alice.replies[1]
        while not told.interim:
            assert alice.more()
        alice.h2.send_data(1, CALL, end_stream=True)
        alice.sock.sendall(alice.out())
        assert alice.told(1).status == 200
        assert told.interim == [100]
    assert [one.body for one in world.server.seen[before:]] == [CALL]


# -- 21


def test_row_21_early_hints_are_passed_on_and_never_taken_for_the_reply(world: World) -> None:
    with world.caller() as alice, world.http2() as other:
        alice.send("GET", "/103")
        heads = [alice.head().status for _ in range(2)]
        assert heads == [103, 103]
        assert alice.reply().body == b"after hints"
        told = other.call("GET", "/103")
        assert (told.interim, told.status, told.body) == ([103, 103], 200, b"after hints")
        is_well(world, alice)


@pytest.mark.parametrize("path", ["/103-dies", "/103-flood"])
def test_row_21_hints_without_a_reply_are_a_bad_gateway(world: World, path: str) -> None:
    with world.caller() as alice:
        answer = alice.ask("GET", path)
        assert answer.status == 502
        is_well(world, alice)


def test_row_21_an_interim_reply_that_nobody_knows_is_not_the_reply(world: World) -> None:
    with world.caller() as alice:
        assert alice.ask("GET", "/199").body == b"ok"
        is_well(world, alice)


# -- 22


@pytest.mark.parametrize("fields", [(), ("connection: upgrade", "upgrade: websocket")])
@pytest.mark.parametrize("name", SWITCHING)
def test_row_22_a_switch_of_protocols_is_a_bad_gateway_and_no_tunnel(
    world: World, name: str, fields: tuple[str, ...]
) -> None:
    with world.caller() as alice:
        before = world.busy()
        answer = alice.ask("GET", f"/switch/{name}", b"", *fields)
        assert answer.status == 502
        assert b"anything" not in answer.body
        heard = world.server.seen[-1].head.lower()
        assert b"upgrade" not in heard
        is_well(world, alice)
        assert world.busy() - before < 1, "it spins"


# -- 23


def test_row_23_trailers_of_a_request_are_dropped(world: World) -> None:
    with world.caller() as alice:
        alice.sock.sendall(chunked_request(b"x-trailer: 1\r\n"))
        assert alice.reply().status == 200
        heard = world.server.seen[-1]
        assert heard.body == CALL
        assert b"x-trailer" not in heard.head
        is_well(world, alice)


@pytest.mark.parametrize("trailer", [b"x: " + b"y" * 70_000 + b"\r\n", b"x: y\r\n" * 20_000])
def test_row_23_huge_trailers_of_a_request_are_refused(world: World, trailer: bytes) -> None:
    before = len(world.server.seen)
    with world.caller() as alice:
        try:
            alice.sock.sendall(chunked_request(trailer))
        except OSError:
            pass  # it has heard enough
        assert alice.reply().status in (400, 413, 431)
    assert len(world.server.seen) == before


def chunked_request(trailer: bytes) -> bytes:
    first = f"POST / HTTP/1.1\r\nhost: a\r\n{JSON}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return first + chunk(CALL) + b"0\r\n" + trailer + b"\r\n"


def test_row_23_over_http2_it_is_the_same(world: World) -> None:
    with world.http2() as alice:
        for field, statuses in ((("x-trailer", "1"), {200}), (("x" * 70_000, "1"), {0, 400, 431})):
            alice.sock.sendall(alice.ask("POST", "/", CALL, end=False))
            stream = max(alice.replies)
            alice.h2.send_headers(stream, [field], end_stream=True)
            alice.sock.sendall(alice.out())
            assert alice.told(stream).status in statuses
    assert b"x-trailer" not in world.server.seen[-1].head


def test_row_23_trailers_of_a_reply_go_to_who_takes_them(world: World) -> None:
    sums = [("x-sum", "1"), ("x-more", "2")]
    with world.caller() as alice, world.http2() as other:
        assert alice.ask("GET", "/trailers", b"", "te: trailers").body == b"body"
        assert alice.trailers == sums
        told = other.call("GET", "/trailers")
        assert (told.body, told.trailers, told.ended) == (b"body", sums, True)
        framed = other.call("GET", "/trailers-framing")
        assert (framed.body, framed.trailers, framed.ended) == (b"body", None, True)
        is_well(world, alice)


@pytest.mark.parametrize("path", TRAILERS)
def test_row_23_trailers_of_a_reply_are_dropped_or_break_it(world: World, path: str) -> None:
    with world.caller() as alice:
        try:
            answer = alice.ask("GET", path)
        except Broken as broken:
            answer = Reply(502, {}, broken.body)
        assert answer.body == b"body" if answer.status == 200 else answer.status == 502
        assert not {"x-sum", "x-more", "x"} & set(answer.headers)
        if path == "/trailers":
            assert answer.status == 200
            is_well(world, alice)


# -- 24

FIELDS: dict[str, list[tuple[str, str]]] = {
    "long": [("x-long", "y" * 20_000)],
    "many": [(f"x-{number}", "y") for number in range(150)],
    "both": [(f"x-{number}", "y" * 300) for number in range(90)],
}


@pytest.mark.parametrize("fields", FIELDS)
def test_row_24_a_head_that_is_too_large_is_431(world: World, fields: str) -> None:
    before = len(world.server.seen)
    with world.caller() as alice:
        answer = alice.ask("GET", "/", b"", *(f"{name}: {value}" for name, value in FIELDS[fields]))
        assert answer.status == 431
        assert alice.ends()
    with world.http2() as other:
        assert other.call("GET", "/", headers=FIELDS[fields]).status == 431
        assert len(world.server.seen) == before
        assert other.call("GET", "/").body == b"ok"


@pytest.mark.parametrize("name", TOO_LARGE)
def test_row_24_from_a_server_it_is_a_bad_gateway(world: World, name: str) -> None:
    with world.caller() as alice:
        assert alice.ask("GET", f"/large/{name}").status == 502
        is_well(world, alice)


# -- 25


@pytest.mark.parametrize("name", MALFORMED)
def test_row_25_what_is_no_reply_is_never_passed_on(world: World, name: str) -> None:
    with world.caller() as alice:
        try:
            answer = alice.ask("GET", f"/malformed/{name}")
        except Broken as broken:  # its head was one
            answer = Reply(502 if "chunk" in name else 0, {}, broken.body)
        else:
            is_well(world, alice)
        assert answer.status == 502
        assert b"none" not in answer.body
    assert world.server.until(lambda: world.server.live <= 1)


# -- 26


@pytest.mark.parametrize("path", BODILESS)
def test_row_26_bytes_behind_a_reply_without_a_body_are_dropped_with_their_connection(
    world: World, path: str
) -> None:
    method, _ = BODILESS[path]
    with world.caller() as alice:
        alice.sock.sendall(
            f"{method} {path} HTTP/1.1\r\nhost: a\r\n\r\n"
            "GET /next HTTP/1.1\r\nhost: a\r\n\r\n".encode()
        )
        answer = alice.reply(method)
        assert answer.status == int(path[1:4]) if method == "GET" else answer.status == 200
        assert answer.body == b""
        assert alice.reply().body == b"ok"
    first, second = world.server.seen[-2:]
    assert first.connection != second.connection
