"""A head over HTTP/2 means what the same head means over HTTP/1, or is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.long import times

from sidecar.errors import ProtocolError
from sidecar.http.h1 import Bounds
from sidecar.http.h2_head import (
    _plain,
    _plain_reply,
    _written,
    _written_reply,
    judge_trailers,
    reply_fields,
    reply_head,
    request_fields,
    request_head,
)
from sidecar.http.head import CHUNKED, RequestHead, judge_request
from sidecar.http.lines import LineTable

BOUNDS = Bounds(head=2048, fields=20, body=100)
Pairs = list[tuple[bytes, bytes]]


def asked(*more: tuple[bytes, bytes], **pseudo: bytes | None) -> Pairs:
    """The fields of a request; a pseudo-header field that is None is left out."""
    whole: dict[str, bytes | None] = {
        "method": b"GET",
        "scheme": b"https",
        "authority": b"up.test",
        "path": b"/v",
        **pseudo,
    }
    first = [(b":" + name.encode(), value) for name, value in whole.items() if value is not None]
    return [*first, *more]


def read(fields: Pairs, *, ended: bool = True) -> RequestHead:
    return request_head(fields, LineTable(8192), BOUNDS, ended=ended)


def test_a_request_is_read_as_http1_would() -> None:
    head = read(asked((b"accept", b"*/*"), (b"mcp-method", b"ping"), (b"x-request-id", b"7")))
    plain = judge_request(
        b"GET /v HTTP/1.1\r\nhost: up.test\r\naccept: */*\r\nmcp-method: ping\r\n"
        b"x-request-id: 7\r\n\r\n",
        20,
    )
    assert (head.start, head.host, head.request_id) == (plain.start, plain.host, b"7")
    assert (list(head.forward), list(head.mirrors)) == (plain.forward, plain.mirrors)


def test_crumbs_of_a_cookie_become_one_field() -> None:
    head = read(asked((b"cookie", b"a=1"), (b"accept", b"x"), (b"cookie", b"b=2")))
    assert tuple(head.forward) == (b"accept: x\r\n", b"cookie: a=1; b=2\r\n")


def test_without_an_authority_the_host_is_used() -> None:
    assert read(asked((b"host", b"up.test"), authority=None)).host == b"up.test"
    assert read(asked((b"host", b"UP.test"))).host == b"up.test"


def test_te_trailers_is_let_in_and_goes_no_further() -> None:
    assert not read(asked((b"te", b"trailers"))).forward


def test_our_own_names_and_underscore_twins_are_dropped() -> None:
    fields = asked(
        (b"x-forwarded-client-cert", b"URI=x"),
        (b"x-spiffe-id", b"spiffe://a/b"),
        (b"client-cert", b":AAAA=:"),
        (b"x_request_id", b"1"),
    )
    assert not read(fields).forward


@pytest.mark.parametrize(
    ("fields", "ended", "length"),
    [
        (asked(), True, 0),
        (asked(), False, CHUNKED),
        (asked((b"content-length", b"5")), False, 5),
        (asked((b"content-length", b"0")), True, 0),
    ],
)
def test_the_length_is_what_is_announced(fields: Pairs, ended: bool, length: int) -> None:
    assert read(fields, ended=ended).length == length


@pytest.mark.parametrize(
    "fields",
    [
        asked(method=None),
        asked(scheme=None),
        asked(path=None),
        asked(authority=None),
        asked(authority=b""),
        asked(authority=b"a@up.test"),
        asked(authority=b"up.test/evil"),
        asked(authority=b"up.test evil"),
        asked(scheme=b"http://up.test/evil?"),
        asked(path=b""),
        asked(path=b"v"),
        asked(path=b"*", method=b"OPTIONS"),
        asked(path=b"http://up.test/v"),
        asked(path=b"/v HTTP/1.1"),
        asked(path=b"/v\r\nevil: 1"),
        asked(path=b"/v\0"),
        asked(path=b"/v\xff"),
        asked(path=b"/v#x"),
        asked(method=b"GET /evil HTTP/1.1"),
        asked(method=b"get"),
        asked(method=b""),
        asked((b":method", b"POST")),
        asked((b":evil", b"1")),
        asked((b":status", b"200")),
        asked((b"accept", b"*/*"), (b":protocol", b"x")),
        [(b"accept", b"*/*"), *asked()],
        asked((b"X-Upper", b"v")),
        asked((b"", b"v")),
        asked((b"x y", b"v")),
        asked((b"x:y", b"v")),
        asked((b"x\xff", b"v")),
        asked((b"x\r\ny", b"v")),
        asked((b"x", b"a\r\nevil: 1")),
        asked((b"x", b"a\nb")),
        asked((b"x", b"a\rb")),
        asked((b"x", b"a\0b")),
        asked((b"x", b"\x7f")),
        asked((b"x", b"\ta")),
        asked((b"x", b"a ")),
        asked((b"connection", b"close")),
        asked((b"keep-alive", b"1")),
        asked((b"proxy-connection", b"close")),
        asked((b"transfer-encoding", b"identity")),
        asked((b"upgrade", b"h2c")),
        asked((b"te", b"gzip")),
        asked((b"host", b"evil.test")),
        asked((b"host", b"up.test"), (b"host", b"up.test")),
        asked((b"host", b"up.test"), (b"host", b"up.test"), authority=None),
        asked((b"content-length", b"5"), (b"content-length", b"5")),
        asked((b"content-length", b"+5")),
        asked((b"content-length", b"5, 5")),
        asked((b"content-length", b"5")),
        asked((b"cookie", b"a=1\r\nevil: 1")),
        asked((b"cookie", b"a\0")),
    ],
)
def test_what_is_malformed_is_refused(fields: Pairs) -> None:
    with pytest.raises(ProtocolError) as refused:
        read(fields)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (asked(method=b"CONNECT", path=None, scheme=None), 405),
        (asked(*[(b"x-%d" % one, b"v") for one in range(30)]), 431),
        (asked((b"x", b"v" * 3000)), 431),
        (asked((b"expect", b"much")), 417),
    ],
)
def test_what_is_not_served_has_its_own_status(fields: Pairs, status: int) -> None:
    with pytest.raises(ProtocolError) as refused:
        read(fields)
    assert refused.value.status == status


names = st.one_of(
    st.sampled_from([b"accept", b"host", b"cookie", b"te", b"content-length", b"x-a", b":path"]),
    st.binary(max_size=6),
)
values = st.one_of(st.sampled_from([b"1", b"up.test", b"a b", b""]), st.binary(max_size=8))


@given(st.lists(st.tuples(names, values), max_size=5), st.binary(max_size=6))
def test_whatever_is_let_in_has_no_line_of_its_own(more: Pairs, path: bytes) -> None:
    try:
        head = read(asked(*more, path=b"/" + path))
    except ProtocolError:
        return
    for line in head.forward:
        assert line.endswith(b"\r\n")
        assert line.count(b"\r") == line.count(b"\n") == 1
        assert b"\0" not in line
    assert head.start.target == b"/" + path
    assert b" " not in head.start.target


def test_trailers_are_fields_and_nothing_else() -> None:
    told = [(b"grpc-status", b"0"), (b"x", b"a b"), (b"x", b"")]
    assert judge_trailers(told, BOUNDS) == told
    for bad in ([(b":path", b"/")], [(b"X", b"1")], [(b"x", b"\0")], [(b"connection", b"x")]):
        with pytest.raises(ProtocolError):
            judge_trailers(bad, BOUNDS)


def test_a_reply_is_read_as_http1_would() -> None:
    fields = [(b":status", b"200"), (b"content-type", b"text/plain"), (b"content-length", b"3")]
    head = reply_head(fields, LineTable(8192, replies=True), BOUNDS)
    assert (head.status, head.length, head.content_type) == (200, 3, b"text/plain")
    assert tuple(head.forward) == (b"content-type: text/plain\r\n",)


def test_a_reply_without_a_length_lasts_until_its_stream_ends() -> None:
    head = reply_head([(b":status", b"200")], LineTable(8192, replies=True), BOUNDS)
    assert head.length == CHUNKED


@pytest.mark.parametrize("status", [b"", b"20", b"2000", b"abc", b"200 OK\r\nx: y"])
def test_a_status_is_three_digits(status: bytes) -> None:
    with pytest.raises(ProtocolError):
        reply_head([(b":status", status)], LineTable(8192, replies=True), BOUNDS)


def test_a_reply_is_written_in_lower_case_and_with_its_length() -> None:
    head = reply_head([(b":status", b"200"), (b"x", b"y")], LineTable(99, replies=True), BOUNDS)
    head.forward = [b"X-Odd: a: b\r\n", b"Date: now\r\n"]
    assert reply_fields(head, 7) == [
        (b":status", b"200"),
        (b"x-odd", b"a: b"),
        (b"date", b"now"),
        (b"content-length", b"7"),
    ]


def test_a_request_that_we_wrote_is_told_apart_again() -> None:
    written = (
        b"POST /a?b=c HTTP/1.1\r\nhost: up.test\r\nAccept: x\r\ncontent-length: 6\r\n\r\na\r\n\r\nb"
    )
    fields, body = request_fields(written, b"http")
    assert body == b"a\r\n\r\nb"
    assert fields == [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":authority", b"up.test"),
        (b":path", b"/a?b=c"),
        (b"accept", b"x"),
        (b"content-length", b"6"),
    ]


NAMES = [b"accept", b"x-a", b"content-length", b"cookie", b"host", b"te", b"connection"]
PARTS = [
    b"a",
    b" ",
    b"\t",
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b": ",
    b":",
    b"A",
    b"\x7f",
    b"\xff",
    b"b",
    b"",
]
texts = st.lists(st.sampled_from(PARTS), max_size=5).map(b"".join)
names = st.one_of(st.sampled_from(NAMES), st.sampled_from(NAMES), texts)
values = st.one_of(st.just(b"5"), texts, st.binary(max_size=8))
others = st.lists(st.tuples(names, values), max_size=5)
firsts = st.tuples(
    st.tuples(st.just(b":method"), st.sampled_from([b"POST", b"GET", b"CONNECT", b"get"])),
    st.tuples(st.just(b":scheme"), st.sampled_from([b"https", b"http", b"ftp"])),
    st.tuples(st.just(b":authority"), st.one_of(st.just(b"a.test:1"), texts)),
    st.tuples(st.just(b":path"), st.one_of(st.just(b"/v?q"), texts.map(lambda one: b"/" + one))),
).map(list)


@settings(max_examples=times(500, 5_000))
@given(firsts, others, st.booleans(), st.sampled_from([0, 40, 90, 2_048]))
def test_what_needs_no_second_look_is_what_two_looks_find(
    first: Pairs, rest: Pairs, upside_down: bool, size: int
) -> None:
    fields = [*reversed(first), *rest] if upside_down else [*first, *rest]
    bounds = Bounds(head=size, fields=20, body=100)
    plain = _plain(fields, bounds)
    if plain is not None:
        assert plain == _written(fields, bounds)


def test_most_requests_need_no_second_look() -> None:
    assert _plain(asked((b"accept", b"*/*"), (b"content-length", b"5")), BOUNDS)


@given(st.integers(0, 60))
def test_a_head_of_any_size_counts_the_same_at_one_look_and_at_two(size: int) -> None:
    fields = asked((b"x", b"v" * size))
    bounds = Bounds(head=110, fields=20, body=100)
    plain = _plain(fields, bounds)
    if plain is not None:
        assert plain == _written(fields, bounds)


@settings(max_examples=times(300, 3_000))
@given(
    st.one_of(st.just(b"200"), st.sampled_from([b"099", b"1000", b"2 0"]), texts),
    others,
    st.sampled_from([0, 20, 60, 2_048]),
)
def test_a_reply_that_needs_no_second_look_is_what_two_looks_find(
    status: bytes, rest: Pairs, size: int
) -> None:
    fields = [(b":status", status), *rest]
    bounds = Bounds(head=size, fields=20, body=100)
    plain = _plain_reply(fields, bounds)
    if plain is not None:
        assert plain == _written_reply(fields, bounds)


def test_most_replies_need_no_second_look() -> None:
    assert _plain_reply([(b":status", b"200"), (b"server", b"x"), (b"date", b"now")], BOUNDS)


@pytest.mark.parametrize(
    "fields",
    [
        [(b"x", b"1")] * (BOUNDS.fields + 1),
        [(b"cookie", b"a=1")] * (BOUNDS.fields + 1),
        [(b"x", b"y" * BOUNDS.head)],
    ],
)
def test_trailers_have_the_bounds_of_heads(fields: Pairs) -> None:
    with pytest.raises(ProtocolError) as caught:
        judge_trailers(fields, BOUNDS)
    assert caught.value.status == 431
