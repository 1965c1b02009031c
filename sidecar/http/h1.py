"""HTTP/1 on both sides: bytes from a caller to whole requests, bytes from a server to a reply.

A request is given out whole, its body bounded. A reply is given out as it
comes, and `whole` once its end was seen. Nothing is read twice and nothing
behind a message is taken for part of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..errors import ProtocolError, UpstreamError
from .chunks import ChunkReader
from .field import Pair
from .head import CHUNKED, UNTIL_CLOSE, ReplyHead, RequestHead, framing
from .lines import LineTable
from .reading import read_reply, read_request, recall_reply, recall_request

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Sizes in bytes, and a count of fields; `buffer` is what may wait for a slow reader."""

    head: int = 16_384
    fields: int = 100
    body: int = 65_536
    buffer: int = 65_536


@dataclass(slots=True)
class Request:
    """A request as it came. With a `fault`, what came is no request, and nothing follows it.

    Its `trailers` are judged and nothing else: see `trailers.passing`.
    """

    head: RequestHead | None
    body: bytes = b""
    fault: ProtocolError | None = None
    trailers: Sequence[Pair] = ()


class RequestReader:
    """A caller's bytes in, whole requests out, one after the other."""

    __slots__ = ("_bounds", "_chunks", "_head", "_parts", "_size", "_table", "broken", "waiting")

    def __init__(self, table: LineTable, bounds: Bounds) -> None:
        self._table = table
        self._bounds = bounds
        self._parts: list[bytes] = []
        self.waiting = 0  # bytes that have come and belong to no request given out
        self._head: RequestHead | None = None
        self._size = 0  # of the head before the body, or of the chunked data so far
        self._chunks: ChunkReader | None = None
        self.broken = False

    @property
    def began(self) -> bool:
        """Whether a request has begun and is not whole."""
        return self._head is not None or self.waiting > 0

    @property
    def in_body(self) -> bool:
        """Whether a head is whole and its body is not."""
        return self._head is not None

    def wants_continue(self) -> bool:
        """Tell once whether the caller waits for leave to send its body (RFC 9110 10.1.1)."""
        head = self._head
        if head is None or not head.expects:
            return False
        head.expects = False
        return True

    def take(self, data: bytes) -> Request | None:
        """Take what came from the caller; return the next whole request, if there is one.

        Most often *data* is exactly one request, which is cut here and kept nowhere.
        """
        if not self.waiting and self._head is None and not self.broken:
            try:
                known = self._next_head(data)
            except ProtocolError as fault:
                self.broken = True
                return Request(None, fault=fault)
            if known is not None:
                head, end = known
                if 0 <= head.length <= self._bounds.body and len(data) == end + head.length:
                    return Request(head, data[end:])
        self.feed(data)
        return self.next()

    def feed(self, data: bytes) -> None:
        """Take what came from the caller."""
        self._parts.append(data)
        self.waiting += len(data)

    def next(self) -> Request | None:
        """Return the next whole request, or None if more must come."""
        if self.broken:
            return None
        try:
            if self._head is None and not self._read_head():
                return None
            return self._read_body()
        except ProtocolError as fault:
            self.broken = True
            return Request(self._head, fault=fault)

    def _joined(self) -> bytes:
        if len(self._parts) != 1:
            self._parts = [b"".join(self._parts)]
        return self._parts[0]

    def _keep(self, rest: bytes) -> None:
        self._parts = [rest] if rest else []
        self.waiting = len(rest)

    def _read_head(self) -> bool:
        if not self.waiting:
            return False
        known = self._next_head(data := self._joined())
        if known is None:
            return False
        self._head, end = known
        self._size = end
        if self._head.length > self._bounds.body:
            raise self._too_large()
        if self._head.length == CHUNKED:
            self._chunks = ChunkReader(self._bounds.head, self._bounds.fields)
            self._size = 0
            self._keep(data[end:])
        return True

    def _next_head(self, data: bytes) -> tuple[RequestHead, int] | None:
        """Return the head that *data* begins with and where it ends, if it is whole."""
        bounds = self._bounds
        known = recall_request(data, self._table)
        if known is not None and known[1] <= bounds.head and len(known[0].pairs) <= bounds.fields:
            return known
        end = data.find(b"\r\n\r\n") + 4
        if end > bounds.head or (end == 3 and len(data) > bounds.head):
            raise ProtocolError(f"the head is over {bounds.head} bytes", 431)
        if end == 3:
            if _BARE_LF.search(data):
                raise ProtocolError("a line ends without CR")
            return None
        return read_request(data[:end], self._table, bounds.fields), end

    def _read_body(self) -> Request | None:
        head = self._head
        assert head is not None
        if self._chunks is not None:
            return self._read_chunks(head, self._chunks)
        start, end = self._size, self._size + head.length
        if self.waiting < end:
            return None
        data = self._joined()
        self._keep(data[end:])
        self._head = None
        return Request(head, data[start:end])

    def _read_chunks(self, head: RequestHead, chunks: ChunkReader) -> Request | None:
        # Decoded data is held in the parts' place: `_size` counts it, `waiting` what is raw.
        raw = b"".join(self._parts[1:]) if self._size else b"".join(self._parts)
        decoded = self._parts[0] if self._size else b""
        data = chunks.feed(raw)
        self._size += len(data)
        if self._size + chunks.awaited > self._bounds.body:
            raise self._too_large()
        body = decoded + data
        if not chunks.done:
            self._parts = [body] if body else []
            self.waiting = 0
            return None
        self._chunks = self._head = None
        self._size = 0
        self._keep(chunks.rest)
        return Request(head, body, trailers=chunks.trailers)

    def _too_large(self) -> ProtocolError:
        return ProtocolError(f"the body is over {self._bounds.body} bytes", 413)


class ReplyReader:
    """A server's bytes in; the reply's head, then its body as it comes."""

    __slots__ = (
        "_bounds",
        "_buffer",
        "_chunks",
        "_left",
        "_pieces",
        "_table",
        "head",
        "informational",
        "length",
        "method",
        "trailers",
        "waiting",
        "whole",
    )

    def __init__(self, table: LineTable, bounds: Bounds) -> None:
        self._table = table
        self._bounds = bounds
        self.begin("GET")

    def begin(self, method: str) -> None:
        """Expect the reply to a request of *method*."""
        self.method = method
        self._buffer = b""
        self._chunks: ChunkReader | None = None
        self._left = 0
        self._pieces: list[bytes] = []
        self.head: ReplyHead | None = None
        self.informational: list[ReplyHead] = []
        self.waiting = 0  # bytes of body that `take` would give
        self.whole = False
        self.length = 0  # of the body as announced, or CHUNKED or UNTIL_CLOSE
        self.trailers: Sequence[Pair] = ()  # judged; see `trailers.passing`

    @property
    def silent(self) -> bool:
        """Whether nothing of it has come."""
        return self.head is None and not self._buffer and not self.informational

    def reusable(self) -> bool:
        """Whether the connection may carry another exchange."""
        head = self.head
        return self.whole and head is not None and not head.close and self.length != UNTIL_CLOSE

    def feed(self, data: bytes) -> None:
        """Take what came from the server. Raises UpstreamError if it is no reply."""
        try:
            if self.head is None:
                data = self._heads(self._buffer + data if self._buffer else data)
                if self.head is None:
                    return
            if data or self._chunks is not None:
                self._body(data)
        except ProtocolError as error:
            raise UpstreamError(f"the server's reply is broken: {error}", sent=True) from None

    def eof(self) -> None:
        """The server closed its side: the end of a body without length, else a fault."""
        if self.whole:
            return
        if self.head is not None and self.length == UNTIL_CLOSE:
            self.whole = True
            return
        raise UpstreamError("the server closed before its reply was whole", sent=True)

    def take(self) -> bytes:
        """Return the body that has come since the last call."""
        pieces, self._pieces = self._pieces, []
        self.waiting = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _heads(self, data: bytes) -> bytes:
        bounds = self._bounds
        known = recall_reply(data, self._table)
        if known is not None and known[1] <= bounds.head and len(known[0].pairs) <= bounds.fields:
            head, end = known
            body = data[end:]
            if head.status == 200 and self.method != "HEAD" and 0 < head.length == len(body):
                self._came_whole(head, body)  # as nearly always
                return b""
            self._begin_body(head)
            return body
        while True:
            end = data.find(b"\r\n\r\n") + 4
            if end == 3 or end > self._bounds.head:
                if len(data) > self._bounds.head:
                    raise ProtocolError(f"the head is over {self._bounds.head} bytes", 502)
                self._buffer = data
                return b""
            head = read_reply(data[:end], self._table, self._bounds.fields)
            data = data[end:]
            if head.status >= 200:
                self._begin_body(head)
                return data
            self._inform(head)

    def _inform(self, head: ReplyHead) -> None:
        if head.status == 101:
            raise ProtocolError("101 without an upgrade that we asked for", 502)
        if len(self.informational) >= 8:
            raise ProtocolError("too many interim replies", 502)
        self.informational.append(head)

    def _came_whole(self, head: ReplyHead, body: bytes) -> None:
        self.head = head
        self._buffer = b""
        self._left = 0
        self.length = self.waiting = head.length
        self._pieces.append(body)
        self.whole = True

    def _begin_body(self, head: ReplyHead) -> None:
        self.head = head
        self._buffer = b""
        length = self.length = framing(head, self.method)
        if length == CHUNKED:
            self._chunks = ChunkReader(self._bounds.head, self._bounds.fields)
        self._left = length
        self.whole = length == 0

    def _body(self, data: bytes) -> None:
        if self._chunks is not None:
            data = self._chunks.feed(data)
            if self._chunks.rest:
                raise ProtocolError("bytes behind the end of the reply", 502)
            self.whole = self._chunks.done
            self.trailers = self._chunks.trailers
        elif self._left >= 0:
            if len(data) > self._left:
                raise ProtocolError("the body is longer than its `Content-Length`", 502)
            self._left -= len(data)
            self.whole = self._left == 0
        if data:
            self.waiting += len(data)
            self._pieces.append(data)


def write_reply(
    head: ReplyHead, length: int, body: bytes = b"", close: bool = False, chunked: bool = False
) -> bytes:
    """Return *head* as the caller gets it, and *body* behind it.

    *length* -1 leaves Content-Length out.
    """
    parts = [head.start, *head.forward]
    if chunked:
        parts.append(b"transfer-encoding: chunked\r\n")
    elif length >= 0:
        parts.append(b"content-length: %d\r\n" % length)
    parts.append(b"connection: close\r\n\r\n" if close else b"\r\n")
    parts.append(body)
    return b"".join(parts)


def write_chunk(data: bytes) -> bytes:
    """Return *data* as one chunk (RFC 9112 7.1); empty data would be the end, so it is nothing."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


LAST_CHUNK: Final = b"0\r\n\r\n"
