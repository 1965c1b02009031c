"""The kinds of header fields, and the shapes of heads: which kinds, in which order.

Most heads of a caller have one shape. What a shape means (where the host stands,
which fields go on) is worked out once; a head of that shape then costs a few
look-ups. A shape knows kinds alone, no bytes: whoever learns one learns nothing
of a message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final, TypeAlias

# What a field means to the frame around a message.
PASS: Final = 0  # forwarded as it stands
DROP: Final = 1  # hop-by-hop, or ours to set: never forwarded
LENGTH: Final = 2
HOST: Final = 3
CONNECTION: Final = 4  # `close` or `keep-alive` alone
TYPE: Final = 5  # Content-Type, forwarded
ENCODING: Final = 6  # Content-Encoding, forwarded
MIRROR: Final = 7  # what mirrors a message's body, forwarded
REQUEST_ID: Final = 8  # the caller's own, never forwarded
ORIGIN: Final = 9  # whose page a browser shows, forwarded
RARE: Final = 10  # from here on h11 reads the whole head
CODING: Final = 10  # Transfer-Encoding
EXPECT: Final = 11
OPTIONS: Final = 12  # Connection that lists fields
BAD_HOST: Final = 13  # Host that is not one host

FORWARDED: Final = frozenset({PASS, TYPE, ENCODING, MIRROR, ORIGIN})

_ONCE: Final = (HOST, LENGTH, TYPE, CONNECTION, ENCODING, REQUEST_ID)
_MAX_SHAPES: Final = 256
_MAX_FIELDS: Final = 32

Pick: TypeAlias = Callable[[Sequence[Any]], tuple[Any, ...]]


class Shape:
    """One order of kinds: where each single field stands (-1: nowhere), and what goes on.

    `ordinary`: no kind that may stand once stands twice, and none is rare or a browser's.
    """

    __slots__ = (
        "connection",
        "encoding",
        "forward",
        "host",
        "length",
        "mirrors",
        "ordinary",
        "request_id",
        "type",
    )

    def __init__(self, kinds: Sequence[int]) -> None:
        self.ordinary = all(kinds.count(kind) < 2 for kind in _ONCE) and max(kinds) < ORIGIN
        self.host, self.length, self.type, self.connection, self.encoding, self.request_id = (
            kinds.index(kind) if kind in kinds else -1 for kind in _ONCE
        )
        self.forward = _picker([at for at, kind in enumerate(kinds) if kind in FORWARDED])
        self.mirrors = _picker([at for at, kind in enumerate(kinds) if kind == MIRROR])


def _picker(places: Sequence[int]) -> Pick:
    """Return what takes the items at *places* out of a sequence."""
    if not places:
        return lambda _: ()
    if len(places) == 1:
        [place] = places
        return lambda items: (items[place],)
    return itemgetter(*places)


class Shapes:
    """The shapes that were met: a bounded number, and of heads that are not too long."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], Shape] = {}

    def __len__(self) -> int:
        return len(self._known)

    def of(self, kinds: tuple[int, ...]) -> Shape:
        """Return the shape of a head with fields of *kinds* (at least one), in their order."""
        shape = self._known.get(kinds)
        if shape is None:
            shape = Shape(kinds)
            if len(kinds) <= _MAX_FIELDS:
                if len(self._known) >= _MAX_SHAPES:
                    del self._known[next(iter(self._known))]
                self._known[kinds] = shape
        return shape
