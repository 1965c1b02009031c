"""Other ids in a message's bytes: what tells apart those who share one server.

Callers choose ids and progress tokens, and two may choose the same. On the way in they
become numbers of our own, on the way back what they were. Nothing else of a message
changes, not even how a number is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from .cursor import Cursor, Cut, splice
from .message import Message

Path: TypeAlias = tuple[str, ...]

ID: Final[Path] = ("id",)
TOKEN: Final[Path] = ("params", "_meta", "progressToken")
PROGRESS: Final[Path] = ("params", "progressToken")
CANCELLED: Final[Path] = ("params", "requestId")
_SUBSCRIPTION: Final = "io.modelcontextprotocol/subscriptionId"
SUBSCRIPTION: Final[Path] = ("params", "_meta", _SUBSCRIPTION)
SUBSCRIBED: Final[Path] = ("result", "_meta", _SUBSCRIPTION)  # in the answer that ends it


def found(message: Message, path: Path) -> object:
    """Return what stands at *path* in *message*, None if nothing does."""
    value: object = message.value
    for key in path:
        value = value.get(key) if type(value) is dict else None
    return value


def span(body: bytes, path: Path) -> str:
    """Return the JSON text of the value at *path* of *body*, as it is written; empty if none is."""
    text = body.decode()
    return next((text[cut.start : cut.end] for cut in _cuts(_begun(text), {path: ""})), "")


def renamed(body: bytes, instead: Mapping[Path, str]) -> bytes:
    """Return *body*, a message, with the values at some paths replaced by JSON texts.

    A path that leads nowhere is passed over. *body* is what `message.parse` has accepted.
    """
    text = body.decode()
    return splice(body, text, list(_cuts(_begun(text), instead)))


def _begun(text: str) -> Cursor:
    cursor = Cursor(text)
    cursor.skip_space()
    return cursor


def _cuts(cursor: Cursor, instead: Mapping[Path, str], within: Path = ()) -> Iterator[Cut]:
    for key in cursor.members():
        path, start = (*within, key), cursor.at
        if path in instead:
            cursor.step()
            yield Cut(start, cursor.at, instead[path])
        elif cursor.text[start] == "{" and any(one[: len(path)] == path for one in instead):
            yield from _cuts(cursor, instead, path)
        else:
            cursor.step()
