"""A server's reply on one HTTP/2 stream: its head, then its body as it comes, `whole` at its end.

It is read like a reply over HTTP/1 and by the same validator. Its body is held
against its `content-length` here: one that is shorter or longer never ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..errors import ProtocolError
from .field import Pair
from .h1 import Bounds
from .h2_head import judge_trailers, reply_head
from .head import ReplyHead, framing
from .lines import LineTable

_MOST_INTERIM: Final = 8
_NO_BODY: Final = (204, 304)


class StreamReply:
    """What has come of the reply; `take` gives the body."""

    __slots__ = (
        "_bounds",
        "_come",
        "_pieces",
        "_table",
        "head",
        "informational",
        "length",
        "method",
        "owed",
        "trailers",
        "waiting",
        "whole",
    )

    def __init__(self, table: LineTable, bounds: Bounds) -> None:
        self._table = table
        self._bounds = bounds
        self._pieces: list[bytes] = []
        self.method = "GET"
        self.head: ReplyHead | None = None
        self.informational: list[ReplyHead] = []
        self.length = 0  # of the body as announced, or CHUNKED
        self.waiting = 0  # bytes of body that `take` would give
        self.owed = 0  # bytes of the window that are given back once the body is taken
        self.whole = False
        self.trailers: Sequence[Pair] = ()  # judged; see `trailers.passing`
        self._come = 0  # bytes of body

    def inform(self, fields: Sequence[Pair]) -> None:
        """An interim reply has come. Raises ProtocolError."""
        head = reply_head(fields, self._table, self._bounds)
        if head.status == 101:
            raise ProtocolError("101 has no meaning in HTTP/2", 502)
        if len(self.informational) >= _MOST_INTERIM:
            raise ProtocolError("too many interim replies", 502)
        self.informational.append(head)

    def begin(self, fields: Sequence[Pair], *, ended: bool) -> None:
        """The head has come; *ended*: it is the whole reply. Raises ProtocolError."""
        head = reply_head(fields, self._table, self._bounds)
        bodiless = self.method == "HEAD" or head.status in _NO_BODY
        if ended and not bodiless:
            if head.length > 0:
                raise ProtocolError("the body is shorter than its `content-length`", 502)
            head.length = 0  # to be said where the end of a stream can't be seen
        self.length = framing(head, self.method)
        self.whole = ended
        self.head = head

    def add(self, data: bytes, size: int, *, ended: bool) -> None:
        """A piece of the body has come, which took *size* off the window. Raises ProtocolError."""
        self.owed += size
        if data:
            if self.length == 0:
                raise ProtocolError("a body where there is none", 502)
            self._come += len(data)
            if self._come > self.length >= 0:
                raise ProtocolError("the body is longer than its `content-length`", 502)
            self._pieces.append(data)
            self.waiting += len(data)
        if ended:
            self._end()

    def end(self, fields: Sequence[Pair]) -> None:
        """Trailers have come. Raises ProtocolError."""
        self.trailers = judge_trailers(fields, self._bounds)
        self._end()

    def _end(self) -> None:
        # An end that comes too early is none (RFC 9113 8.1.1).
        if self._come < self.length:
            raise ProtocolError("the body is shorter than its `content-length`", 502)
        self.whole = True

    def take(self) -> bytes:
        """Return the body that has come since the last call."""
        pieces, self._pieces = self._pieces, []
        self.waiting = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
