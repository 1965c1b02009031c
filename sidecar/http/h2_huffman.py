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

Step: TypeAlias = tuple[int, bytes]
"""The state after a byte, and what it says."""

_LOST: Final = -1  # the state of a string that means nothing; there is no way out of it
# A string may end where it begins, and in whatever state hpack lets it end.
_ENDS: Final = {0} | {state for state, flags, _ in HUFFMAN_TABLE if flags & HUFFMAN_COMPLETE}


class _Rows(dict[int, list[Step]]):
    """The steps from each state, by the next byte."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[bytes, bytes] = {}

    def __missing__(self, state: int) -> list[Step]:
        row = self[state] = [self._step(state, byte) for byte in range(256)]
        return row

    def _step(self, state: int, byte: int) -> Step:
        said = b""
        for half in (byte >> 4, byte & 0x0F):
            if state == _LOST:
                break
            state, flags, symbol = HUFFMAN_TABLE[state * 16 + half]
            if flags & HUFFMAN_FAIL:
                state = _LOST
            elif flags & HUFFMAN_EMIT_SYMBOL:
                said += bytes((symbol,))
        return state, self._said.setdefault(said, said)


_ROWS: Final = _Rows()


def read_huffman(code: bytes) -> bytes | None:
    """Return what *code* says; None if it is no string in the code."""
    rows = _ROWS
    said = bytearray()
    state = 0
    for byte in code:
        state, piece = rows[state][byte]
        said += piece
    return bytes(said) if state in _ENDS else None
