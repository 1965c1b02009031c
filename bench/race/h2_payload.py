"""The requests of the race as HTTP/2 frames, made without a library on the way.

They are those of `payload`, so each differs from the last here too. Header blocks
are what a good encoder makes (RFC 7541): Huffman throughout, lines that come again
put into the dynamic table by the first request of a connection and named by their
index from then on, trace and length as literals outside the table. In the worst
case every line that differs enters the table, and so drives another out.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable

from race import payload

Bits = tuple[int, int]
"""A value and how many bits of it count."""

MOST_FRAME_BYTES = 16_384
"""What a frame may hold unless its receiver says more (RFC 9113, 4.2)."""

DATA, HEADERS = 0, 1
END_STREAM, END_HEADERS = 1, 4

_FRAME = Struct(">IBI")  # the length in 24 bits and the type in 8, the flags, the stream
_INDEXED, _INCREMENTAL, _WITHOUT_INDEXING = (0x80, 7), (0x40, 6), (0x00, 4)  # RFC 7541, 6
_METHOD_AND_SCHEME = b"\x83\x87"  # POST and https, in the static table
_FIRST_DYNAMIC = len(HeaderTable.STATIC_TABLE) + 1
_NAMES = {
    name.decode(): index
    for index, (name, _) in reversed(list(enumerate(HeaderTable.STATIC_TABLE, 1)))
}


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    """Return one frame."""
    return _FRAME.pack(len(content) << 8 | kind, flags, stream) + content


def huffman(text: bytes) -> Bits:
    """Return *text* in the code of RFC 7541, appendix B, not yet padded."""
    value = size = 0
    for octet in text:
        value = value << REQUEST_CODES_LENGTH[octet] | REQUEST_CODES[octet]
        size += REQUEST_CODES_LENGTH[octet]
    return value, size


_PAIRS = tuple(huffman(b"%02x" % octet) for octet in range(256))


def _token_bits(token: int) -> Bits:
    """Return the 16 hexadecimal digits of *token* in the Huffman code."""
    value = size = 0
    for octet in token.to_bytes(8, "big"):
        bits, count = _PAIRS[octet]
        value = value << count | bits
        size += count
    return value, size


class Text:
    """A string literal with slots; filling them takes no look at its letters."""

    __slots__ = ("_first", "_others")

    def __init__(self, text: str) -> None:
        self._first, *self._others = (huffman(piece) for piece in payload.cut(text))

    @property
    def is_constant(self) -> bool:
        """Return whether it has no slot."""
        return not self._others

    def filled(self, token: Bits = (0, 0)) -> bytes:
        """Return the literal, its length before it; it must take less than 127 bytes."""
        bits, count = token
        value, size = self._first
        for piece, length in self._others:
            value = (value << count | bits) << length | piece
            size += count + length
        padding = -size % 8
        octets = (size + padding) // 8
        ones = (1 << padding) - 1
        return bytes((0x80 | octets,)) + (value << padding | ones).to_bytes(octets, "big")


Part = bytes | Text


class Calls:
    """The requests of all connections, in one row."""

    def __init__(self, size: int, *, all_new: bool = False) -> None:
        lines = _lines(all_new=all_new)
        opening, following = _worst(lines) if all_new else _usual(lines)
        lengths = [payload.size_of(size, padding) for padding in range(payload.LENGTHS)]
        self.most_bytes = lengths[-1]
        self._openings = [_joined([*opening, _length(length)]) for length in lengths]
        self._followings = [_joined([*following, _length(length)]) for length in lengths]
        self._bodies = [
            payload.cut(payload.body(size, padding)) for padding in range(payload.LENGTHS)
        ]
        self._count = 0

    def following(self, stream: int, *, opens: bool) -> tuple[bytes, int]:
        """Return the next request for *stream*, and how much of a window its body takes.

        *opens* says whether it is the first of its connection.
        """
        self._count += 1
        token, row = payload.token(self._count), self._count % payload.LENGTHS
        parts = (self._openings if opens else self._followings)[row]
        bits = _token_bits(token)
        block = b"".join([part.filled(bits) if isinstance(part, Text) else part for part in parts])
        body = (b"%016x" % token).join(self._bodies[row])
        return frame(HEADERS, END_HEADERS, stream, block) + _data(stream, body), len(body)


def _data(stream: int, body: bytes) -> bytes:
    if len(body) <= MOST_FRAME_BYTES:
        return _FRAME.pack(len(body) << 8 | DATA, END_STREAM, stream) + body
    rest = body[MOST_FRAME_BYTES:]
    return frame(DATA, 0, stream, body[:MOST_FRAME_BYTES]) + _data(stream, rest)


def _lines(*, all_new: bool) -> list[tuple[str, str]]:
    """Return all fields but the length, those with a colon first."""
    (_, authority), *others = payload.fields(all_new=all_new)
    return [(":authority", authority), (":path", payload.PATH), *others]


def _usual(lines: list[tuple[str, str]]) -> tuple[list[Part], list[Part]]:
    """Return the block that opens a connection, and that of all requests after it."""
    opening: list[Part] = [_METHOD_AND_SCHEME]
    following: list[Part] = [_METHOD_AND_SCHEME]
    for (name, value), index in zip(lines, _indices(len(lines)), strict=True):
        opening += [_name(name, _INCREMENTAL), Text(value)]
        if payload.SLOT in value:
            following += [_integer(index, *_WITHOUT_INDEXING), Text(value)]
        else:
            following.append(_integer(index, *_INDEXED))
    return opening, following


def _indices(count: int) -> Iterator[int]:
    """Return where *count* lines are once all are in the table: the last one is foremost."""
    return iter(range(_FIRST_DYNAMIC + count - 1, _FIRST_DYNAMIC - 1, -1))


def _worst(lines: list[tuple[str, str]]) -> tuple[list[Part], list[Part]]:
    block: list[Part] = [_METHOD_AND_SCHEME]
    for name, value in lines:
        kind = _INCREMENTAL if payload.SLOT in value else _WITHOUT_INDEXING
        block += [_name(name, kind), Text(value)]
    return block, block


def _length(length: int) -> bytes:
    return _name("content-length", _WITHOUT_INDEXING) + Text(str(length)).filled()


def _name(name: str, kind: tuple[int, int]) -> bytes:
    """Return how a literal of that kind begins: the name, or its place in the static table."""
    index = _NAMES.get(name, 0)
    return _integer(index, *kind) + (b"" if index else Text(name).filled())


def _joined(parts: list[Part]) -> list[Part]:
    """Return *parts* with all made into bytes that no token changes, and neighbours joined."""
    joined: list[Part] = []
    for part in parts:
        octets = part.filled() if isinstance(part, Text) and part.is_constant else part
        if joined and isinstance(octets, bytes) and isinstance(joined[-1], bytes):
            joined[-1] += octets
        else:
            joined.append(octets)
    return joined


def _integer(number: int, bits: int, prefix: int) -> bytes:
    """Return *number* after *bits*, with a prefix of so many bits (RFC 7541, 5.1)."""
    most = (1 << prefix) - 1
    if number < most:
        return bytes((bits | number,))
    rest = number - most
    head = bytes((bits | most,))
    while rest >= 128:
        head += bytes((rest & 127 | 128,))
        rest >>= 7
    return head + bytes((rest,))
