"""Arrays of messages, which only version 2025-03-26 has: cut into the messages they hold.

Each piece is the bytes of one message as they stand in the array, so that it can be
read and judged as if it had come alone. What an array must not hold is refused
here; headers and rules are not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from json import JSONDecoder
from typing import Final

from ..errors import MessageError
from .message import MAX_DEPTH, NOT_A_MESSAGE, REQUEST, parse, parse_value

MAX_BATCH: Final = 64

# It says where a value ends. Numbers, which it must not convert, stay text.
_scan: Final = JSONDecoder(parse_int=str, parse_float=str).raw_decode
_BETWEEN: Final = " \t\r\n,"


def split(body: bytes, max_depth: int = MAX_DEPTH) -> list[bytes]:
    """Return the messages in the array that *body* is, each as the bytes it stands there as.

    Raises `MessageError` as `parse` does for any of them, and with -32600 for an array
    that is empty, longer than `MAX_BATCH` or nested, for `initialize` (2025-03-26,
    "Initialization") and for two requests of one id, whose answers nobody could tell apart.
    """
    value = parse_value(body, max_depth)
    if type(value) is not list or not 0 < len(value) <= MAX_BATCH:
        raise MessageError(f"a batch is an array of 1 to {MAX_BATCH} messages", NOT_A_MESSAGE)
    if any(type(one) is not dict for one in value):
        raise MessageError("a batch holds something else than objects", NOT_A_MESSAGE)
    pieces = list(_pieces(body.decode()))
    messages = [parse(piece, max_depth) for piece in pieces]
    asked = [message.id for message in messages if message.kind == REQUEST]
    if len(set(asked)) < len(asked):
        raise MessageError("two requests of a batch have one `id`", NOT_A_MESSAGE)
    if any(message.method == "initialize" for message in messages):
        raise MessageError("`initialize` may not stand in a batch", NOT_A_MESSAGE)
    return pieces


def _pieces(text: str) -> Iterator[bytes]:
    """Yield the bytes of each element of the sound array *text*."""
    at = _skip(text, text.index("[") + 1)
    while text[at] != "]":
        end = _scan(text, at)[1]
        yield text[at:end].encode()
        at = _skip(text, end)


def _skip(text: str, at: int) -> int:
    while text[at] in _BETWEEN:
        at += 1
    return at
