"""Heads of HTTP/1 messages, read by what was read before.

Three ways lead to the same head. h11 judges a whole head, and its verdict on each
line is remembered. A head is put together from lines that were judged before. And
a head like one before, but for some values, is recalled. Each falls back to the way
before it for whatever it has not seen or finds out of the ordinary; for every byte
string all agree on accept, refuse and meaning. (RFC 9112, RFC 9110.)
"""

from __future__ import annotations

from collections.abc import Sequence

from .field import Field, Pair
from .head import (
    UNTIL_CLOSE,
    Rare,
    ReplyHead,
    RequestHead,
    judge_reply,
    judge_request,
    reply_of,
    request_of,
)
from .judge import RequestLine, StatusLine, reply_by_h11, request_by_h11
from .lines import LineTable, Unseen
from .shapes import RARE


def recall_request(data: bytes, table: LineTable) -> tuple[RequestHead, int] | None:
    """Return the head that *data* begins with and where it ends, if it is like one before."""
    for template in table.templates.known:
        filled = template.fill(data)
        if filled is not None:
            end, pairs, wires = filled
            like: RequestHead = template.head
            mirrors: Sequence[Pair] | None = template.same_mirrors
            if mirrors is None:
                mirrors = [pairs[at] for at in template.mirrors]
            request = RequestHead(
                like.start,
                like.host,
                pairs,
                wires,
                mirrors,
                int(pairs[template.length][1]) if template.length >= 0 else like.length,
                like.content_type,
                b"",
                like.close,
                pairs[template.request_id][1] if template.request_id >= 0 else b"",
            )
            return request, end
    return None


def recall_reply(data: bytes, table: LineTable) -> tuple[ReplyHead, int] | None:
    """Return the reply head that *data* begins with and where it ends, if it is like another."""
    for template in table.templates.known:
        filled = template.fill(data)
        if filled is not None:
            end, pairs, wires = filled
            like: ReplyHead = template.head
            length = int(pairs[template.length][1]) if template.length >= 0 else like.length
            reply = ReplyHead(
                like.status, like.start, pairs, wires, length, like.close, like.content_type
            )
            return reply, end
    return None


def read_request(head: bytes, table: LineTable, max_fields: int) -> RequestHead:
    """Return the head in *head* (its empty line included) by remembered lines.

    Raises ProtocolError with the status that the caller is told.
    """
    lines = head.split(b"\r\n")
    start = table.starts.get(lines[0])
    if type(start) is not RequestLine or not 0 <= len(lines) - 4 < max_fields:
        return _learn_request(head, lines, table, max_fields)
    try:
        fields = list(map(table.fields.__getitem__, lines[1:-2]))
    except Unseen:
        return _learn_request(head, lines, table, max_fields)
    kinds, _, values, wires, pairs = zip(*fields, strict=True)
    shape = table.shapes.of(kinds)
    at_host, at_length = shape.host, shape.length
    if not shape.ordinary or at_host < 0 or not start.origin:
        try:
            return request_of(start, fields)
        except Rare:
            return judge_request(head, max_fields)
    request = RequestHead(
        start,
        values[at_host],
        pairs,
        shape.forward(wires),
        shape.mirrors(pairs),
        int(values[at_length]) if at_length >= 0 else 0,
        values[shape.type] if shape.type >= 0 else b"",
        values[shape.encoding].lower() if shape.encoding >= 0 else b"",
        start.http10 or (shape.connection >= 0 and values[shape.connection].lower() == b"close"),
        values[shape.request_id] if shape.request_id >= 0 else b"",
    )
    if shape.encoding < 0 and not start.http10:
        table.templates.missed(request, lines, fields)
    return request


def read_reply(head: bytes, table: LineTable, max_fields: int) -> ReplyHead:
    """Return the reply head in *head* by remembered lines. Raises ProtocolError."""
    lines = head.split(b"\r\n")
    start = table.starts.get(lines[0])
    if type(start) is not StatusLine or not 0 <= len(lines) - 4 < max_fields:
        return _learn_reply(head, lines, table, max_fields)
    try:
        fields = list(map(table.fields.__getitem__, lines[1:-2]))
    except Unseen:
        return _learn_reply(head, lines, table, max_fields)
    kinds, _, values, wires, pairs = zip(*fields, strict=True)
    shape = table.shapes.of(kinds)
    if not shape.ordinary:
        try:
            return reply_of(start, fields)
        except Rare:
            return judge_reply(head, max_fields)
    reply = ReplyHead(
        start.status,
        start.wire,
        pairs,
        shape.forward(wires),
        int(values[shape.length]) if shape.length >= 0 else UNTIL_CLOSE,
        start.http10 or (shape.connection >= 0 and values[shape.connection].lower() == b"close"),
        values[shape.type] if shape.type >= 0 else b"",
        values[shape.encoding].lower() if shape.encoding >= 0 else b"",
    )
    if shape.encoding < 0 and reply.status >= 200:
        table.templates.missed(reply, lines, fields)
    return reply


# -- learning: h11 has judged the whole head, so each of its lines is good -------------


def _learn_request(
    head: bytes, lines: list[bytes], table: LineTable, max_fields: int
) -> RequestHead:
    start, fields = request_by_h11(head, max_fields)
    request = request_of(start, fields, judged=True)
    if not start.http10:
        table.keep_start(lines[0], start)
    _keep(lines, fields, table)
    return request


def _learn_reply(head: bytes, lines: list[bytes], table: LineTable, max_fields: int) -> ReplyHead:
    start, fields = reply_by_h11(head, max_fields)
    reply = reply_of(start, fields, judged=True)
    table.keep_start(lines[0], start)
    _keep(lines, fields, table)
    return reply


def _keep(lines: list[bytes], fields: list[Field], table: LineTable) -> None:
    for line, field in zip(lines[1:-2], fields, strict=True):
        if field.kind < RARE:
            table.keep_field(line, field)
