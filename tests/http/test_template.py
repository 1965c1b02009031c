"""Templates: what they fill, what they leave alone, and what they never hold."""

from __future__ import annotations

import pytest

from sidecar.http.head import ReplyHead, RequestHead
from sidecar.http.lines import LineTable
from sidecar.http.reading import read_request, recall_request
from sidecar.http.template import Templates

START = b"POST /mcp HTTP/1.1"
HOST = b"Host: a"
SECRET = b"Mcp-Session-Id: s3cret"


def head(*lines: bytes, start: bytes = START) -> bytes:
    return b"\r\n".join([start, *lines, b"", b""])


def table(*heads: bytes, capacity: int = 32_768) -> LineTable:
    """Return a table that has read *heads*, each often enough to be known."""
    known = LineTable(capacity)
    for one in heads:
        for _ in range(2):
            read_request(one, known, 100)
    return known


def recalled(data: bytes, known: LineTable) -> RequestHead | None:
    found = recall_request(data, known)
    return None if found is None else found[0]


def test_a_head_that_differs_in_values_alone_is_recalled_with_its_own() -> None:
    known = table(head(HOST, SECRET, b"Content-Length: 3"))
    data = head(HOST, b"Mcp-Session-Id: other", b"Content-Length: 12") + b"the body"
    found = recall_request(data, known)
    assert found is not None
    again, end = found
    assert data[end:] == b"the body"
    assert (again.start.path, again.host, again.length) == ("/mcp", b"a", 12)
    assert again.pairs == [
        (b"host", b"a"),
        (b"mcp-session-id", b"other"),
        (b"content-length", b"12"),
    ]
    assert again.forward == [b"Mcp-Session-Id: other\r\n"]


def test_what_mirrors_the_body_and_the_callers_own_id_are_its_own() -> None:
    known = table(head(HOST, b"Mcp-Name: read", b"X-Request-Id: 1"))
    again = recalled(head(HOST, b"Mcp-Name: drop", b"X-Request-Id: 2"), known)
    assert again is not None
    assert again.mirrors == [(b"mcp-name", b"drop")]
    assert again.request_id == b"2"
    assert again.forward == [b"Mcp-Name: drop\r\n"]


@pytest.mark.parametrize(
    "lines",
    [
        [b"Host: b", b"X-A: 1"],  # another constant
        [HOST, b"X-B: 1"],  # another name
        [HOST, b"X-A: 1", b"X-A: 1"],  # a line more
        [HOST],  # a line less
        [HOST, b"X-A:1"],  # written otherwise
        [HOST, b"X-A: "],  # no value
        [HOST, b"X-A:  1"],
        [HOST, b"X-A: 1 "],
        [HOST, b"X-A: 1\t"],
        [HOST, b"X-A: a\x00b"],
        [HOST, b"X-A: a\x7fb"],
        [HOST, b"X-A: a\nb"],
        [HOST, b"X-A: a\rb"],
        [b"host: a", b"X-A: 1"],  # the same, but not byte for byte
    ],
)
def test_a_head_that_differs_in_anything_else_is_not(lines: list[bytes]) -> None:
    assert recalled(head(*lines), table(head(HOST, b"X-A: 1"))) is None


@pytest.mark.parametrize("value", [b"", b"+1", b"1, 1", b"0x1", b" 1", b"1" * 16, b"1e1"])
def test_a_length_is_digits_and_not_too_many(value: bytes) -> None:
    known = table(head(HOST, b"Content-Length: 1"))
    assert recalled(head(HOST, b"Content-Length: 7"), known) is not None
    assert recalled(head(HOST, b"Content-Length: " + value), known) is None


@pytest.mark.parametrize("cut", range(1, len(head(HOST, SECRET))))
def test_a_head_that_has_not_come_whole_is_not_recalled(cut: int) -> None:
    whole = head(HOST, SECRET)
    assert recalled(whole[:-cut], table(whole)) is None


@pytest.mark.parametrize(
    "one",
    [
        head(HOST, start=b"POST /mcp?token=s3cret HTTP/1.1"),
        head(HOST, b"X-A:1"),
        head(HOST, b"X-A: 1 "),
        head(HOST, b"X-A:"),
        head(HOST, b"Content-Encoding: gzip"),
        head(HOST, b"Origin: http://a"),
        head(HOST, b"Transfer-Encoding: chunked"),
        head(HOST, b"Expect: 100-continue"),
        head(HOST, b"X-A: " + b"a" * 6500),
    ],
)
def test_what_is_out_of_the_ordinary_becomes_no_template(one: bytes) -> None:
    assert table(one, one, one).templates.known == []


def test_a_template_holds_no_value_that_may_be_a_secret() -> None:
    known = table(head(HOST, SECRET, b"Authorization: Bearer s3cret", b"Cookie: a=s3cret"))
    [template] = known.templates.known
    own = [template._holes, template._tail, template._pairs, template._wires]
    assert "s3cret" not in repr(own)
    assert "s3cret" not in repr(template.head)


def test_what_is_done_to_a_head_later_does_not_change_its_template() -> None:
    known = LineTable(32_768)
    for _ in range(2):
        first = read_request(head(HOST), known, 100)
    first.length, first.content_type = 99, b"changed"
    again = recalled(head(HOST), known)
    assert again is not None
    assert (again.length, again.content_type) == (0, b"")


def test_there_are_few_templates_and_only_some_misses_make_one() -> None:
    known = LineTable(32_768)
    made = set()
    for number in range(400):
        read_request(head(HOST, b"X-%d: 1" % (number // 2)), known, 100)
        made.add(tuple(map(id, known.templates.known)))
    assert len(known.templates.known) == 4
    assert len(made) <= 400 / 8 + 5


def test_a_small_table_takes_no_long_heads() -> None:
    some = ReplyHead(200, b"", (), ())
    templates: Templates[ReplyHead] = Templates(54)
    templates.missed(some, [b"a" * 11, b"", b""], [])
    assert templates.known == []
    templates = Templates(54)
    templates.missed(some, [b"a" * 10, b"", b""], [])
    assert len(templates.known) == 1


def test_many_fields_weigh_more_than_their_bytes() -> None:
    few, many = ([HOST, *(b"x-%d: 1" % at for at in range(count))] for count in (12, 90))
    assert len(table(head(*few)).templates.known) == 1
    assert table(head(*many)).templates.known == []
