"""Header blocks as we write them: by the static table and literally, with no memory of others.

Nothing that was sent before shapes what is sent next, so no secret can be told
by the length of a block, and a block costs a few look-ups. What is secret is
marked never to be indexed by anyone. (RFC 7541.)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from hpack.table import HeaderTable

from .field import KEPT, Pair
from .head import ReplyHead

_PAIRS: Final[dict[Pair, bytes]] = {
    (name, value): bytes((0x80 | index,))
    for index, (name, value) in reversed(list(enumerate(HeaderTable.STATIC_TABLE, 1)))
}
_NAMES: Final[dict[bytes, int]] = {
    name: index for index, (name, _) in reversed(list(enumerate(HeaderTable.STATIC_TABLE, 1)))
}
# No table of ours is ever used: said once, it holds whatever the peer sets later.
_NO_TABLE: Final = b"\x20"
_NEVER: Final = frozenset(
    {
        b"authorization",
        b"cookie",
        b"mcp-session-id",
        b"proxy-authorization",
        b"set-cookie",
        b"x-api-key",
    }
)


class BlockEncoder:
    """Stands where hyper-h2 keeps its encoder."""

    __slots__ = ("begun", "header_table_size")

    def __init__(self) -> None:
        self.header_table_size = 0  # hyper-h2 sets what the peer offers
        self.begun = False  # a block was said

    def encode(self, fields: Iterable[Pair]) -> bytes:
        """Return the block of *fields*, whose names are in lower case."""
        block = self.opening(write_fields(fields))
        self.begun = True
        return block

    def opening(self, block: bytes) -> bytes:
        """Return *block* as it is said now: the first one says more."""
        return block if self.begun else _NO_TABLE + block


def write_fields(fields: Iterable[Pair]) -> bytes:
    """Return the block of *fields*, as any but the first block of a connection has it."""
    return b"".join([_PAIRS.get(field) or _literal(*field) for field in fields])


class Asked(NamedTuple):
    """A request as it is said: its block, and what is to be known of it."""

    block: bytes
    method: bytes
    authority: bytes
    body: bytes


def write_request(request: bytes, scheme: bytes) -> Asked:
    """Return a *request* that we wrote for HTTP/1 as HTTP/2 says it."""
    head, _, body = request.partition(b"\r\n\r\n")
    start, host, *lines = head.split(b"\r\n")
    method, target, _ = start.split(b" ")
    authority = host.partition(b": ")[2]
    first = [(b":method", method), (b":scheme", scheme)]
    first += [(b":authority", authority), (b":path", target)]
    block = write_fields(first) + b"".join([_line(line) for line in lines])
    return Asked(block, method, authority, body)


def write_reply(head: ReplyHead, length: int) -> bytes:
    """Return the block of *head*, as `write_fields` has it; *length* below 0 is left out."""
    parts = [_line(line[:-2]) for line in head.forward]
    parts.insert(0, _PAIRS.get((b":status", b"%d" % head.status)) or _status(head.status))
    if length >= 0:
        digits = b"%d" % length
        parts.append(b"%b%c%b" % (_LENGTH, len(digits), digits))
    return b"".join(parts)


def _status(status: int) -> bytes:
    return _literal(b":status", b"%d" % status)


def _line(line: bytes) -> bytes:
    """Return the field of a *line* as HTTP/1 has it, without its end."""
    name, _, value = line.partition(b": ")
    begins = _BEGINS.get(name)
    if begins is None or len(value) > 126:
        return _literal(name.lower(), value)
    return b"%b%c%b" % (begins, len(value), value)


def _literal(name: bytes, value: bytes) -> bytes:
    first = 0x10 if name in _NEVER else 0x00
    index = _NAMES.get(name, 0)
    head = _integer(first, 4, index) if index else bytes((first,)) + _string(name)
    return head + _string(value)


def _string(data: bytes) -> bytes:
    return _integer(0, 7, len(data)) + data


def _integer(first: int, bits: int, number: int) -> bytes:
    """Return *number* behind the *first* bits of a byte that leaves *bits* to it (5.1)."""
    most = (1 << bits) - 1
    if number < most:
        return bytes((first | number,))
    out = [first | most]
    number -= most
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _begin(name: bytes) -> bytes:
    """Return what stands before the value of a field of that *name*."""
    return _literal(name, b"")[:-1]


def _spellings() -> dict[bytes, bytes]:
    begins: dict[bytes, bytes] = {}
    for name in (
        _NAMES.keys()
        | KEPT
        | _NEVER
        | {b"x-request-id", b"traceparent", b"x-forwarded-client-cert"}
    ):
        begins[name] = begins[name.title()] = _begin(name)
    return begins


_BEGINS: Final = _spellings()
_LENGTH: Final = _BEGINS[b"content-length"]
