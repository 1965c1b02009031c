"""Every header block is read as hpack reads it, and leaves the dynamic table that hpack leaves.

SIDECAR_LONG_TESTS=1 asks for many times as many blocks.
"""

from __future__ import annotations

from random import Random

import pytest
from h2.errors import ErrorCodes
from hpack import Decoder, Encoder, HPACKError
from hpack.exceptions import OversizedHeaderListError
from hpack.hpack import encode_integer
from support.long import times

from sidecar.http.h2_decoder import BlockDecoder, PlainDecoder, Undecodable

RUNS = times(1_500, 150_000)
MOST = 65_536

NAMES = [
    b":method", b":path", b":status", b"content-length", b"content-type", b"cookie", b"x-a",
    b"authorization", b"x-long-" + b"n" * 130, b"", b"X-Upper",
]  # fmt: skip
VALUES = [b"", b"GET", b"200", b"7", b"/mcp", b"v" * 126, b"v" * 127, b"v" * 300, b"\xff\0\r\n"]
Outcome = tuple[str, list[tuple[bytes, bytes]]]


def outcome(decoder: Decoder, block: bytes) -> Outcome:
    """Return what *decoder* makes of *block*."""
    try:
        return "", [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]
    except OversizedHeaderListError:
        return "too large", []
    except (HPACKError, IndexError, TypeError, UnicodeDecodeError, Undecodable):
        return "broken", []


def table(decoder: Decoder) -> tuple[list[tuple[bytes, bytes]], int, int]:
    """Return all of its dynamic table."""
    held = decoder.header_table
    entries = [(name, value) for name, value in held.dynamic_entries]
    return entries, held._current_size, held._maxsize


class Writer:
    """Blocks as any encoder might make them, and as none would."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._encoder = Encoder()
        self._said: list[bytes] = [b"\x82"]

    def block(self) -> bytes:
        random = self._random
        kind = random.random()
        if kind < 0.25:
            block = random.choice(self._said)
        elif kind < 0.5:
            block = self._by_hpack()
        else:
            block = b"".join(self._field() for _ in range(random.randrange(8)))
        if random.random() < 0.08:
            block = self._spoiled(block)
        self._said = [*self._said[-9:], block]
        return block

    def _by_hpack(self) -> bytes:
        random = self._random
        if random.random() < 0.05:
            self._encoder.header_table_size = random.choice([0, 60, 200, 4_096])
        fields = [self._pair() for _ in range(random.randrange(9))]
        return self._encoder.encode(fields, huffman=random.random() < 0.8)

    def _pair(self) -> tuple[bytes, bytes]:
        random = self._random
        value = random.choice(VALUES)
        return random.choice(NAMES), value + b"%d" % random.randrange(9) if value else value

    def _field(self) -> bytes:
        random = self._random
        kind = random.random()
        if kind < 0.5:
            place = random.choice([1, 2, 31, 61, 62, 63, 64, 70, 100, 126, 127, 128, 250, 400])
            return self._integer(0x80, 7, place)
        if kind < 0.55:
            return self._integer(0x20, 5, random.choice([0, 30, 31, 100, 4_096, 4_097]))
        first, bits = random.choice([(0x40, 6), (0x40, 6), (0, 4), (0x10, 4)])
        name, value = self._pair()
        if random.random() < 0.5:
            place = random.choice([1, 8, 14, 15, 16, 28, 31, 62, 63, 64, 80, 127, 200])
            return self._integer(first, bits, place) + self._string(value)
        return bytes((first,)) + self._string(name) + self._string(value)

    def _integer(self, first: int, bits: int, number: int) -> bytes:
        whole = bytearray(encode_integer(number, bits))
        whole[0] |= first
        if self._random.random() < 0.01 and len(whole) > 1:
            whole[-1] |= 0x80
            whole += bytes(self._random.choice([1, 2, 30]))
        return bytes(whole)

    def _string(self, text: bytes) -> bytes:
        if self._random.random() < 0.5:
            code = self._encoder.huffman_coder.encode(text)
            return self._integer(0x80, 7, len(code)) + code
        return self._integer(0, 7, len(text)) + text

    def _spoiled(self, block: bytes) -> bytes:
        random = self._random
        at = random.randrange(len(block) + 1)
        match random.randrange(3):
            case 0:
                return block[:at]
            case 1:
                return block[:at] + random.randbytes(2) + block[at:]
            case _:
                return block[:at] + random.randbytes(1) + block[at + 1 :]


@pytest.mark.parametrize("part", range(4))
def test_blocks_are_read_as_hpack_reads_them(part: int) -> None:
    random = Random(part)
    told = 0
    for _ in range(RUNS // 4):
        writer = Writer(random)
        most = random.choice([MOST, MOST, 150, 400])
        ours, theirs = BlockDecoder(most), Decoder(most)
        for _ in range(12):
            block = writer.block()
            expected = outcome(theirs, block)
            if random.random() < 0.5:  # hyper-h2 is told what was foretold
                fields = ours.foretell(block)
                if fields is not None and random.random() < 0.5:
                    told += 1
                    assert (expected[0], list(map(tuple, fields))) == ("", expected[1])
                    assert table(ours) == table(theirs)
                    continue
                if fields is not None:
                    ours.unsaid(fields)
            assert outcome(ours, block) == expected
            if expected[0]:
                break
            assert table(ours) == table(theirs)
    assert told > RUNS // 16


@pytest.mark.parametrize("decoder", [BlockDecoder, PlainDecoder])
@pytest.mark.parametrize(
    "block", [b"\x80", b"\xc6", b"\x7f\x07\0", b"\x82\x21", b"\x40", b"\0\x81\xff"]
)
def test_what_means_nothing_is_told_by_a_code_of_its_own(
    decoder: type[Decoder], block: bytes
) -> None:
    for foretold in (False, True):
        ours = decoder(MOST)
        if foretold and isinstance(ours, BlockDecoder):
            assert ours.foretell(block) is None
        with pytest.raises(Undecodable) as raised:
            ours.decode(block, raw=True)
        assert raised.value.error_code == ErrorCodes.COMPRESSION_ERROR


@pytest.mark.parametrize("decoder", [BlockDecoder, PlainDecoder])
def test_too_much_is_not_called_nonsense(decoder: type[Decoder]) -> None:
    with pytest.raises(OversizedHeaderListError):
        decoder(100).decode(b"\x82" * 50, raw=True)


def test_a_row_is_remembered_only_while_the_dynamic_table_stands() -> None:
    ours, theirs = BlockDecoder(MOST), Decoder(MOST)
    adding = [b"\x40\x01a\x01%d" % number for number in range(3)]
    for block in [adding[0], b"\xbe", b"\xbe", adding[1], b"\xbe", b"\x20", b"\xbe"]:
        assert outcome(ours, block) == outcome(theirs, block)


def test_what_is_remembered_is_told_by_the_tables_and_has_a_bound() -> None:
    ours = BlockDecoder(MOST)
    ours.decode(b"\x82\x0f\x08\x05token\x84\x10\x01x\x05token", raw=True)
    assert set(ours._rows) == {b"\x82", b"\x84"}
    for number in range(60):
        ours.decode(bytes((0x81 + number,)) * 2, raw=True)
    ours.decode(b"\x82" * 1_000, raw=True)
    assert len(ours._rows) == 32
    assert max(map(len, ours._rows)) == 64


def test_a_block_of_many_fields_is_too_large_whatever_it_is_made_of() -> None:
    for block in (b"\x82" * 5_000, b"\x82" * 20_000, b"\0\x01x\x7f\x81\x7d" + b"v" * 16_000):
        ours, theirs = BlockDecoder(10_000), Decoder(10_000)
        assert outcome(ours, block) == outcome(theirs, block)
        assert outcome(BlockDecoder(10_000), block)[0]
