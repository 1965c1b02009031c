"""Strings in HPACK's Huffman code, a byte at a time.

The automaton is hpack's, which takes half a byte at a time; two of its steps make
one of ours. A row of steps is made when it is first needed, and there are not more
rows than the automaton has states. (RFC 7541 5.2.)
"""

from __future__ import annotations

from typing import Final, TypeAlias

from hpack.huffman_table import (
    HUFFMAN_COMPLETE,
    HUFFMAN_EMIT_SYMBOL,
    HUFFMAN_FAIL,
    HUFFMAN_TABLE,
)

Step: TypeAlias = tuple[int, bytes, bool]
"""The state after a byte, what it says, and whether the string may end there."""

_LOST: Final = -1  # the state of a string that means nothing; there is no way out of it


class _Rows(dict[int, list[Step]]):
    """The steps from each state, by the next byte."""

    def __missing__(self, state: int) -> list[Step]:
        row = self[state] = [_step(state, byte) for byte in range(256)]
        return row


def _step(state: int, byte: int) -> Step:
    said, complete = b"", False
    for half in (byte >> 4, byte & 0x0F):
        if state == _LOST:
            break
        state, flags, symbol = HUFFMAN_TABLE[state * 16 + half]
        complete = bool(flags & HUFFMAN_COMPLETE)
        if flags & HUFFMAN_FAIL:
            state, complete = _LOST, False
        elif flags & HUFFMAN_EMIT_SYMBOL:
            said += bytes((symbol,))
    return state, said, complete


_ROWS: Final = _Rows()


def read_huffman(code: bytes) -> bytes | None:
    """Return what *code* says; None if it is no string in the code."""
    rows = _ROWS
    said = bytearray()
    state, complete = 0, True
    for byte in code:
        state, piece, complete = rows[state][byte]
        said += piece
    return bytes(said) if complete else None
