"""Header blocks as we write them: by the static table and literally, with no memory of others.

Nothing that was sent before shapes what is sent next, so no secret can be told
by the length of a block, and a block costs a few look-ups. What is secret is
marked never to be indexed by anyone. (RFC 7541.)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hpack.table import HeaderTable

from .lines import Pair

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

    __slots__ = ("_begun", "header_table_size")

    def __init__(self) -> None:
        self.header_table_size = 0  # hyper-h2 sets what the peer offers
        self._begun = False

    def encode(self, fields: Iterable[Pair]) -> bytes:
        """Return the block of *fields*, whose names are in lower case."""
        parts = [_PAIRS.get(field) or _literal(*field) for field in fields]
        if not self._begun:
            self._begun = True
            parts.insert(0, _NO_TABLE)
        return b"".join(parts)


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
