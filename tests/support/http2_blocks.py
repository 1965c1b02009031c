"""What RFC 7541 asks of a server: header blocks in every form, and such as mean nothing."""

from __future__ import annotations

from hpack import Encoder
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from .floods import CONTINUATION, END_STREAM, HEADERS, frame
from .http2_cases import COMPRESSION, OK, WHOLE, Case, ends, headers

UNREAD = ends(COMPRESSION)
ASKED = bytes(Encoder().encode(list(WHOLE)))  # which leaves one entry in the table
_huffman = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode


def plain(text: bytes) -> bytes:
    return bytes((len(text),)) + text


def coded(text: bytes) -> bytes:
    code = _huffman(text)
    return bytes((0x80 | len(code),)) + code


# How a field begins, by what it asks of the table; its name is a new one, or user-agent's place.
FORMS = {
    "to be indexed": (b"\x40", b"\x7a"),
    "not to be indexed": (b"\x00", b"\x0f\x2b"),
    "never to be indexed": (b"\x10", b"\x1f\x2b"),
}
WRITTEN = {"plain": plain, "in Huffman's code": coded}

LITERALS = [
    Case(f"a field {form}, {how}, {named}", headers(ASKED + begin + write(b"a test")), OK)
    for form, (new, known) in FORMS.items()
    for how, write in WRITTEN.items()
    for named, begin in (
        ("of a known name", known),
        ("of a name known and written out", new + write(b"user-agent")),
        ("of a new name", new + write(b"x-test")),
    )
]

BLOCKS = [
    Case("an indexed field", headers(ASKED + b"\xba"), OK),
    *LITERALS,
    Case("a table that changes at the beginning", headers(b"\x3f\x61" + ASKED), OK),
    Case("a table that changes twice at the beginning", headers(b"\x20\x3f\xe1\x1f" + ASKED), OK),
    Case(
        "a block that is cut within a field",
        frame(HEADERS, ASKED[:5], END_STREAM, 1)
        + frame(CONTINUATION, ASKED[5:7], 0, 1)
        + frame(CONTINUATION, ASKED[7:], 4, 1),
        OK,
    ),
    Case(
        "a block with a large field twice",
        frame(HEADERS, ASKED, END_STREAM, 1)
        + frame(CONTINUATION, b"\x40\x03x-d\x7f\xa1\x1e" + b"x" * 4_000, 0, 1)
        + frame(CONTINUATION, b"\xbe", 4, 1),
        OK,
    ),
    Case("an index that is not there", headers(ASKED + b"\xff\x00"), UNREAD),
    Case("an index a little above those there are", headers(ASKED + b"\xc6"), UNREAD),
    Case("the index 0", headers(ASKED + b"\x80"), UNREAD),
    Case(
        "a literal with an index that is not there", headers(ASKED + b"\x7f\xff\x00\x01a"), UNREAD
    ),
    Case("a literal with an index a little above", headers(ASKED + b"\x7f\x07\x00"), UNREAD),
    Case("a table larger than it may be", headers(b"\x3f\xe2\x1f" + ASKED), UNREAD),
    Case("a table that changes at the end", headers(ASKED + b"\x20"), UNREAD),
    Case(
        "a string padded with more than 7 bits",
        headers(ASKED + b"\0\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"),
        UNREAD,
    ),
    Case(
        "a string padded with zeros",
        headers(ASKED + b"\0\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90"),
        UNREAD,
    ),
    Case(
        "a string with EOS in it",
        headers(ASKED + b"\0\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f"),
        UNREAD,
    ),
    Case(
        "a string that begins with EOS",
        headers(ASKED + b"\0\x85\xf2\xb2\x4a\x84\xff\x87\xff\xff\xff\xfd\x25\x42\x7f"),
        UNREAD,
    ),
]
