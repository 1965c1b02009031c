"""Changes to a message's bytes: shorter lists, private results, error replies.

An edit splices: the bytes that are not cut out are the bytes that came, numbers
and white space included. It takes bodies that `message.parse` has accepted and
nothing laxer. Whether an item may be seen is asked of whoever calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

import orjson

from ..errors import MessageError
from .cursor import Cursor, Cut, splice
from .message import NOT_A_MESSAGE, Id, parse_value
from .twins import MESSAGE, RESULT, VERSION, Words

Visible: TypeAlias = Callable[[str], bool]

# In ASCII without a backslash every key stands as it is, and so does every twin of the
# keys that matter: in some case, with or without a `_` between its words. Without any of
# these words, in whatever case, there is nothing to edit.
CONCERNS: Final = (b"tools", b"prompts", b"resource", b"cache")
_PRIVATE: Final = '"private"'
# What items usually hold, so that only unusual keys are compared with the guarded one.
_USUAL: Final = frozenset(
    {
        *("_meta", "annotations", "arguments", "description", "execution", "icons"),
        *("inputSchema", "mimeType", "name", "outputSchema", "size", "title", "uri"),
    }
)


@dataclass(frozen=True, slots=True)
class Listing:
    """One kind of list: the member of `result` that holds it and what names an item."""

    member: str
    key: str
    words: Words

    @classmethod
    def of(cls, member: str, key: str) -> Listing:
        """Return the listing of the items of *member*, named by *key*."""
        return cls(member, key, Words(f"an item of `{member}`", frozenset({key}), _USUAL - {key}))


# The methods whose results are lists that rules can shorten.
LISTINGS: Final[Mapping[str, Listing]] = MappingProxyType(
    {
        "tools/list": Listing.of("tools", "name"),
        "prompts/list": Listing.of("prompts", "name"),
        "resources/list": Listing.of("resources", "uri"),
        "resources/templates/list": Listing.of("resourceTemplates", "uriTemplate"),
    }
)


def may_concern(body: bytes) -> bool:
    """Whether JSON in *body* might hold what an edit changes; a no is sure, without parsing."""
    if b"\\" in body or not body.isascii():
        return True
    plain = body.lower()
    return any(word in plain for word in CONCERNS)


def filter_tools(body: bytes, visible: Visible, value: object = None) -> bytes:
    """Return *body*, the answer to `tools/list`, without the tools that are not *visible*."""
    return filter_list(body, LISTINGS["tools/list"], visible, value)


def filter_list(body: bytes, listing: Listing, visible: Visible, value: object = None) -> bytes:
    """Return *body* without the items of *listing* whose name is not *visible*.

    An item without a name that is a string goes too, and so does one that some
    reader could name differently. What is left depends on who asked, so
    `result.cacheScope` becomes "private" even where every item is left. In an array
    each element is treated so. The same object is returned if nothing changes.

    *body* is strict JSON, though it need not be a message; *value* is what it was
    parsed to, where the caller has that. Raises `MessageError` if there is a list
    that cannot be judged, because it is none or because a look-alike stands beside it.
    """
    return _edit(body, listing, visible, value)


def make_private(body: bytes, value: object = None) -> bytes:
    """Return *body* with `result.cacheScope`, if it has one, set to "private".

    For a result that a rule allowed to this caller alone: a shared cache would hand
    it to callers whom the rule refuses.
    """
    return _edit(body, None, _nothing, value)


def error_reply(id: Id, code: int, message: str, data: object = None) -> bytes:
    """Return the bytes of a JSON-RPC error to *id*; `data` is left out if None."""
    error: dict[str, object] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return b'{"jsonrpc":"2.0","id":' + _id_bytes(id) + b',"error":' + orjson.dumps(error) + b"}"


def _id_bytes(id: Id) -> bytes:
    # By hand for numbers: orjson refuses those beyond 64 bits, which ids may be.
    return str(id).encode() if isinstance(id, int) else orjson.dumps(id)


def _nothing(name: str) -> bool:
    return False


def _edit(body: bytes, listing: Listing | None, visible: Visible, value: object) -> bytes:
    if not _concerns(parse_value(body) if value is None else value, listing):
        return body
    cursor = Cursor(body.decode())
    cursor.skip_space()
    return splice(body, cursor.text, sorted(_cuts(cursor, listing, visible)))


def _concerns(value: object, listing: Listing | None) -> bool:
    """Whether there may be something to edit; refuse what cannot be judged."""
    if type(value) is list:
        # All of them: each may have to be refused.
        return True in [_concerns(item, listing) for item in value]
    if type(value) is not dict:
        return False
    # Without a version this is a message to nobody, and its keys are its own business.
    if "jsonrpc" in value or VERSION.twin(value) is not None:
        MESSAGE.refuse_twins(value)
    result = value.get("result")
    if type(result) is not dict:
        return False
    RESULT.refuse_twins(result)
    shared: bool = result.get("cacheScope", "private") != "private"
    if listing is None or result.get(listing.member) is None:
        return shared
    if type(result[listing.member]) is not list:
        raise MessageError(f"`{listing.member}` in `result` is not an array", NOT_A_MESSAGE)
    return True


def _cuts(cursor: Cursor, listing: Listing | None, visible: Visible) -> Iterator[Cut]:
    """Find what to cut in the message here, or in each message of the array here."""
    if cursor.text[cursor.at] == "[":
        for _ in cursor.elements():
            yield from _cuts(cursor, listing, visible)
    elif cursor.text[cursor.at] == "{":
        for key in cursor.members():
            if key == "result" and cursor.text[cursor.at] == "{":
                yield from _cuts_in_result(cursor, listing, visible)
            else:
                cursor.step()
    else:
        cursor.step()


def _cuts_in_result(cursor: Cursor, listing: Listing | None, visible: Visible) -> Iterator[Cut]:
    for key in cursor.members():
        start = cursor.at
        if listing is not None and key == listing.member and cursor.text[start] == "[":
            yield from _cuts_in_list(cursor, listing, visible)
        elif cursor.step() != "private" and key == "cacheScope":
            yield Cut(start, cursor.at, _PRIVATE)


def _cuts_in_list(cursor: Cursor, listing: Listing, visible: Visible) -> Iterator[Cut]:
    """Cut a refused item and the comma behind it; behind the last one kept, everything."""
    spans: list[tuple[int, int]] = []
    kept: list[bool] = []
    for _ in cursor.elements():
        start = cursor.at
        kept.append(_is_visible(cursor.step(), listing, visible))
        spans.append((start, cursor.at))
    last = len(kept) - 1
    while last >= 0 and not kept[last]:
        last -= 1
    for index in range(last):
        if not kept[index]:
            yield Cut(spans[index][0], spans[index + 1][0])
    if last + 1 < len(spans):
        yield Cut(spans[last][1] if last >= 0 else spans[0][0], spans[-1][1])


def _is_visible(item: object, listing: Listing, visible: Visible) -> bool:
    if type(item) is not dict:
        return False
    name = item.get(listing.key)
    return type(name) is str and listing.words.twin(item) is None and visible(name)
