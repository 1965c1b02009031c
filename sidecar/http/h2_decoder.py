"""Header blocks as they come: what is ordinary is read here, all else by hpack.

For every block the two ways agree on the fields, on what is refused, and on the
dynamic table that is left. Fields that stand in a row, named by their places in
the tables alone, are remembered together for as long as the dynamic table stands:
so nothing is kept that the tables do not keep. (RFC 7541.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, cast

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from hpack.exceptions import HPACKDecodingError, HPACKError, OversizedHeaderListError
from hpack.hpack import Decoder
from hpack.struct import HeaderTuple
from hpack.table import HeaderTable

from .field import Pair
from .h2_huffman import read_huffman

_STATIC: Final[Sequence[Pair]] = [(name, value) for name, value in HeaderTable.STATIC_TABLE]
_FIRST: Final = len(_STATIC) + 1  # the place of the latest entry of the dynamic table

_MOST_BLOCK: Final = 16_384  # bytes of a block that are read here
_MOST_ROWS: Final = 32  # of remembered places, of so many each
_MOST_PLACES: Final = 64
_FIELD: Final = 32  # what a field counts beside its bytes (RFC 7541 4.1)

_FAULTS: Final = (HPACKError, IndexError, TypeError, UnicodeDecodeError)  # which hpack raises

_row: Final = re.compile(rb"[\x81-\xfe]{1,%d}+" % _MOST_PLACES).match


class _Odd(Exception):
    """What comes next is hpack's to read."""


class Undecodable(ProtocolError):
    """A header block means nothing; hyper-h2 tells the peer what this says (RFC 9113 4.3)."""

    error_code = ErrorCodes.COMPRESSION_ERROR

    def __init__(self, why: Exception) -> None:
        super().__init__(f"a header block can't be decoded: {why}")


class PlainDecoder(Decoder):
    """hpack's own, whose faults are told apart from others."""

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """Return the fields of the block *data*. Raises OversizedHeaderListError, Undecodable."""
        try:
            return super().decode(data, raw)
        except OversizedHeaderListError:
            raise  # which is another matter than nonsense
        except _FAULTS as error:
            raise Undecodable(error) from error


class BlockDecoder(Decoder):
    """Stands where hyper-h2 keeps its decoder; it may be asked before hyper-h2 is."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self._rows: dict[bytes, list[Pair]] = {}
        self._foretold: Sequence[Pair] | Exception | None = None

    def foretell(self, block: bytes) -> Sequence[Pair] | None:
        """Return the fields of the next *block*; None if it has none that could be told."""
        try:
            return self._read(block)
        except _FAULTS as error:
            self._foretold = error
            return None

    def unsaid(self, fields: Sequence[Pair]) -> None:
        """Keep the *fields* that were foretold for hyper-h2, which will ask for them."""
        self._foretold = fields

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """Return the fields of the block *data*. Raises OversizedHeaderListError, Undecodable."""
        told, self._foretold = self._foretold, None
        try:
            if isinstance(told, Exception):
                raise told
            return cast(Iterable[HeaderTuple], self._read(data) if told is None else told)
        except OversizedHeaderListError:
            raise  # which is another matter than nonsense
        except _FAULTS as error:
            raise Undecodable(error) from error

    def _read(self, block: bytes) -> Sequence[Pair]:
        fields: list[Pair] = []
        if len(block) > _MOST_BLOCK:
            return self._by_hpack(block, 0, fields)
        entries = self.header_table.dynamic_entries
        at, end = 0, len(block)
        while at < end:
            begin = at
            try:
                row = _row(block, at)
                if row is not None:
                    at = row.end()
                    fields += self._rows.get(row[0]) or self._named(row[0])
                    continue
                first = block[at]
                at += 1
                most = 0x7F if first & 0x80 else 0x3F if first & 0x40 else 0x0F
                place = first & most
                if place == most:
                    place, at = _more(block, at, place)
                if first == 0x80 or (most == 0x0F and first & 0x20):
                    raise _Odd
                if place:
                    pair = _STATIC[place - 1] if place < _FIRST else entries[place - _FIRST]
                    if most == 0x7F:
                        fields.append(pair)
                        continue
                    name = pair[0]
                else:
                    name, at = _string(block, at)
                value, at = _string(block, at)
            except (_Odd, IndexError):
                return self._by_hpack(block, begin, fields)
            fields.append((name, value))
            if most == 0x3F:
                self.header_table.add(name, value)
                self._rows.clear()
        self._judge(fields, end)
        return fields

    def _named(self, row: bytes) -> list[Pair]:
        """Return the fields at the places of *row*. Raises IndexError."""
        entries = self.header_table.dynamic_entries
        places = [octet & 0x7F for octet in row]
        named = [_STATIC[at - 1] if at < _FIRST else entries[at - _FIRST] for at in places]
        if len(self._rows) >= _MOST_ROWS:
            del self._rows[next(iter(self._rows))]
        self._rows[row] = named
        return named

    def _judge(self, fields: list[Pair], size: int) -> None:
        """Raise what hpack would, of *fields* that came in a block of *size* bytes."""
        table = self.header_table.maxsize
        # No field is larger than the table, or else it came whole: at most 8 bits for 5.
        if len(fields) * (table + 2 * _FIELD + 64) + 2 * size > self.max_header_list_size:
            self._weigh(fields)
        if table > self.max_allowed_table_size:
            self._assert_valid_table_size()

    def _weigh(self, fields: list[Pair]) -> int:
        size = sum(len(name) + len(value) + _FIELD for name, value in fields)
        if size > self.max_header_list_size:
            raise OversizedHeaderListError(f"a header list of more than {size} bytes")
        return size

    def _by_hpack(self, block: bytes, at: int, fields: list[Pair]) -> list[Pair]:
        """Have hpack read on *at* a place of *block*, after *fields*."""
        self._rows.clear()
        size, most = self._weigh(fields), self.max_header_list_size
        if fields and block[at] & 0xE0 == 0x20:
            raise HPACKDecodingError("a change of the table's size behind a field")
        self.max_header_list_size = most - size
        try:
            rest = super().decode(block[at:], raw=True)
        finally:
            self.max_header_list_size = most
        return fields + cast(list[Pair], rest)


def _more(block: bytes, at: int, number: int) -> tuple[int, int]:
    """Return *number* and what one more byte adds to it, and where that ends (5.1)."""
    more = block[at]
    if more & 0x80:
        raise _Odd
    return number + more, at + 1


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """Return the string that begins *at* a place of *block*, and where it ends (5.2)."""
    first = block[at]
    at += 1
    size = first & 0x7F
    if size == 0x7F:
        size, at = _more(block, at, size)
    end = at + size
    text: bytes | None = block[at:end]
    if end > len(block):
        raise _Odd
    if first & 0x80:
        text = read_huffman(block[at:end])
        if text is None:
            raise _Odd
    return cast(bytes, text), end
