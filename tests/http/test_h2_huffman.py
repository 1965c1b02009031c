"""A string in the Huffman code is read as hpack reads it, and refused where hpack refuses it."""

from __future__ import annotations

import pytest
from hpack.exceptions import HPACKDecodingError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import (
    HUFFMAN_COMPLETE,
    HUFFMAN_FAIL,
    HUFFMAN_TABLE,
    decode_huffman,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.http.h2_huffman import read_huffman


def by_hpack(code: bytes) -> bytes | None:
    try:
        return decode_huffman(code)
    except HPACKDecodingError:
        return None


def encoded(text: bytes) -> bytes:
    return HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text)


@settings(max_examples=500)
@given(st.binary(max_size=300))
def test_what_was_encoded_is_read(text: bytes) -> None:
    assert read_huffman(encoded(text)) == text


@settings(max_examples=1_000)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_as_hpack_reads_them(code: bytes) -> None:
    assert read_huffman(code) == by_hpack(code)


@pytest.mark.parametrize("first", range(256))
def test_so_are_any_three_bytes_that_begin_with(first: int) -> None:
    for second in range(256):
        assert read_huffman(bytes((first, second))) == by_hpack(bytes((first, second)))
        for third in (0x00, 0x1F, 0x7F, 0xF8, 0xFE, 0xFF):
            code = bytes((first, second, third))
            assert read_huffman(code) == by_hpack(code)


@settings(max_examples=500)
@given(st.binary(min_size=1, max_size=40), st.integers(0, 400), st.integers(1, 255))
def test_a_code_with_wrong_bits_is_read_as_hpack_reads_it(text: bytes, at: int, bits: int) -> None:
    code = bytearray(encoded(text))
    code[at % len(code)] ^= bits
    assert read_huffman(bytes(code)) == by_hpack(bytes(code))


def test_it_depends_on_the_state_alone_whether_a_string_may_end() -> None:
    found: dict[int, set[int]] = {}
    for state, flags, _ in HUFFMAN_TABLE:
        if not flags & HUFFMAN_FAIL:
            found.setdefault(state, set()).add(flags & HUFFMAN_COMPLETE)
    assert all(len(ends) == 1 for ends in found.values())
