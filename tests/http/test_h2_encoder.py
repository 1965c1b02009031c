"""A block that we write is read by another as what it was, whatever that one's table allows."""

from __future__ import annotations

import pytest
from hpack import Decoder, NeverIndexedHeaderTuple
from hypothesis import given
from hypothesis import strategies as st

from sidecar.http.h2_encoder import BlockEncoder, write_reply, write_request
from sidecar.http.h2_head import reply_fields, request_fields
from sidecar.http.head import ReplyHead

known = st.sampled_from([b":status", b":path", b"content-type", b"x-a", b"date", b"set-cookie"])
names = st.one_of(known, st.binary(min_size=1, max_size=300))
fields = st.lists(st.tuples(names, st.binary(max_size=400)), max_size=8)


@given(st.lists(fields, max_size=3), st.sampled_from([0, 100, 4096]))
def test_blocks_are_read_as_they_were_meant(
    blocks: list[list[tuple[bytes, bytes]]], table: int
) -> None:
    encoder, decoder = BlockEncoder(), Decoder()
    decoder.max_allowed_table_size = table
    for block in blocks:
        assert list(map(tuple, decoder.decode(encoder.encode(block), raw=True))) == block


@pytest.mark.parametrize(
    ("field", "size"),
    [((b":status", b"200"), 1), ((b":status", b"299"), 5), ((b"date", b"now"), 6)],
)
def test_what_everybody_knows_is_short(field: tuple[bytes, bytes], size: int) -> None:
    encoder = BlockEncoder()
    assert encoder.encode([]) == b"\x20"
    assert len(encoder.encode([field])) == size


def test_what_is_secret_is_never_indexed() -> None:
    block = BlockEncoder().encode([(b"authorization", b"Bearer x"), (b"accept", b"x")])
    kinds = [type(one) for one in Decoder().decode(block, raw=True)]
    assert kinds[0] is NeverIndexedHeaderTuple
    assert kinds[1] is not NeverIndexedHeaderTuple


def test_every_block_is_the_same_whatever_was_said_before() -> None:
    encoder = BlockEncoder()
    blocks = {encoder.encode([(b"x", b"secret"), (b":status", b"200")]) for _ in range(4)}
    assert len(blocks) == 2  # the first says that no table is used


def read(block: bytes) -> list[tuple[bytes, bytes]]:
    return [(bytes(name), bytes(value)) for name, value in Decoder().decode(block, raw=True)]


tokens = st.sampled_from([b"Content-Type", b"date", b"X-Odd", b"Set-Cookie", b"mcp-session-id"])
texts = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=200)
lines = st.lists(st.tuples(tokens, texts.map(str.encode)), max_size=6).map(
    lambda pairs: [b"%b: %b\r\n" % pair for pair in pairs]
)


@given(st.sampled_from([200, 204, 299, 404, 502]), lines, st.sampled_from([-1, 0, 7, 10**12]))
def test_a_reply_is_said_as_its_fields_are(status: int, told: list[bytes], length: int) -> None:
    head = ReplyHead(status, b"", (), told)
    assert read(write_reply(head, length)) == reply_fields(head, length)


@given(st.sampled_from([b"GET", b"POST", b"PURGE"]), lines, st.sampled_from([b"", b"body"]))
def test_a_request_is_said_as_its_fields_are(method: bytes, told: list[bytes], body: bytes) -> None:
    request = b"%b /mcp HTTP/1.1\r\nhost: a.test\r\n%b\r\n%b" % (method, b"".join(told), body)
    asked = write_request(request, b"https")
    assert (read(asked.block), asked.body) == request_fields(request, b"https")
    assert (asked.method, asked.authority) == (method, b"a.test")


def test_what_is_secret_is_never_indexed_in_a_reply_either() -> None:
    block = write_reply(ReplyHead(200, b"", (), [b"Set-Cookie: a=b\r\n", b"Date: now\r\n"]), -1)
    kinds = [type(one) for one in Decoder().decode(block, raw=True)]
    assert kinds[1] is NeverIndexedHeaderTuple
    assert kinds[2] is not NeverIndexedHeaderTuple
