"""The reply's half of the flow: what comes from the server, reviewed and passed on.

A permit's duties decide how: unread, as one JSON body, event by event, or as a
stream that is scanned while it passes. At most one buffer's worth waits here: a
caller that does not read stops the server from being read. Once a head is out,
a reply that can't be finished is broken off, never ended as if it were whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from .config.limits import Limits
from .errors import CallerGone, MessageError
from .http.field import Pair
from .http.head import ReplyHead
from .http.trailers import passing
from .mcp.sse import Event, EventSplitter, write_event
from .net.caller import UNKNOWN, Caller
from .net.lease import Lent
from .observe.record import Record
from .policy.call import Call
from .policy.decide import reads_as_json, review
from .policy.verdict import Finding, Permit, Reason, Refusal, Verdict
from .replies import refusal_message

if TYPE_CHECKING:
    from .trip import Trip

_PLAIN: Final = (b"", b"identity")


def begun(up: Lent, down: Caller) -> bool:
    """Whether the server's reply has begun; what comes before it is passed on.

    Raises the fault that the connection met first.
    """
    reply = up.reply
    if reply.informational:
        _pass_interim(up, down)
    if reply.head is not None:
        return True
    if up.fault is not None:
        raise up.fault
    return False


def relay_whole(
    up: Lent, head: ReplyHead, permit: Permit, call: Call, down: Caller, record: Record, most: int
) -> Verdict | None:
    """Pass on what nearly all replies are: one JSON message, of at most *most* bytes, which has
    come in one piece. None if this one is another, and nothing was done."""
    reply = up.reply
    if (
        reply.whole
        and 0 < reply.length <= most
        and head.content_type == b"application/json"
        and not head.content_encoding
        and not permit.duties.none
    ):
        return _reviewed(up.take(), head, permit, call, down, record)
    return None


def _pass_interim(up: Lent, down: Caller) -> None:
    """Pass interim replies on as they come, but for 100, which is ours (RFC 9110 15.2)."""
    for interim in up.reply.informational:
        if interim.status != 100:
            down.interim(interim)
    up.reply.informational.clear()


def _reviewed(
    body: bytes, head: ReplyHead, permit: Permit, call: Call, down: Caller, record: Record
) -> Verdict:
    """Pass a whole JSON *body* on, less what the caller may not see, or refuse it."""
    passes = review(body, permit, call, record.note)
    if type(passes) is not bytes:
        assert isinstance(passes, Refusal)
        return passes
    record.status = head.status
    down.reply(head, len(passes), passes)
    return permit


class Reply:
    """One reply on its way to the caller, with *head*; *trip* knows what was edited in that."""

    __slots__ = (
        *("call", "changed", "down", "head", "limits", "now", "permit", "record", "trip", "up"),
        "verdict",
    )

    def __init__(
        self,
        up: Lent,
        head: ReplyHead,
        permit: Permit,
        call: Call,
        down: Caller,
        record: Record,
        now: Callable[[], float],
        limits: Limits,
        trip: Trip | None,
    ) -> None:
        self.up = up
        self.head = head
        self.permit = permit
        self.call = call
        self.down = down
        self.record = record
        self.now = now
        self.limits = limits
        self.trip = trip
        self.changed = False  # the body is not what the server sent
        self.verdict: Verdict = permit

    async def run(self) -> Verdict:
        """Choose the way by the permit's duties and the content's type."""
        duties, limits = self.permit.duties, self.limits
        if self.up.reply.length == 0:
            return self._bodiless()
        if duties.none:
            return await self._unread()
        if self.head.content_encoding not in _PLAIN:
            return _unreadable("it is compressed")
        kind = self._kind
        if kind == b"application/json" or kind.endswith(b"+json") or not kind:
            if self.up.reply.whole and self.up.reply.waiting <= limits.reply_body_bytes:
                return self._reviewed(self.up.take())
            return await self._json()
        if kind == b"text/event-stream":
            return await self._events()
        return await self._scanned()

    @property
    def _kind(self) -> bytes:
        if self.head.content_type == b"application/json":
            return b"application/json"
        return self.head.content_type.partition(b";")[0].strip().lower()

    # -- the ways

    def _bodiless(self) -> Verdict:
        # To HEAD, and in 304, `Content-Length` speaks of a body that does not come
        # (RFC 9110 8.6); in 204 it must not stand.
        head = self.head
        length = head.length if head.length >= 0 and head.status != 204 else UNKNOWN
        self._whole(length)
        return self.permit

    async def _unread(self) -> Verdict:
        reply = self.up.reply
        if reply.whole and reply.length > 0 and not reply.trailers:
            self._whole(reply.length, self.up.take())
            return self.permit
        self._check()  # broken already: an answer can still be given
        self._begin(reply.length)
        return await self._pump(None)

    async def _json(self) -> Verdict:
        """Wait for the whole body, up to a limit, and review it."""
        limit = self.limits.reply_body_bytes
        body = await self._collect(limit)
        if body is None:
            return _unreadable(f"it is over {limit} bytes")
        self.record.answered = self.now()
        return self._reviewed(body)

    def _reviewed(self, body: bytes) -> Verdict:
        return _reviewed(body, self.head, self.permit, self.call, self.down, self.record)

    async def _events(self) -> Verdict:
        """Pass an event stream on, each event once it is whole and reviewed."""
        splitter = EventSplitter(self.limits.event_bytes)
        self._check()
        self._begin(UNKNOWN)

        def reviewed(piece: bytes) -> bytes:
            events = splitter.feed(piece) if piece else splitter.finish()
            return b"".join([self._event(event) for event in events])

        return await self._pump(reviewed)

    async def _scanned(self) -> Verdict:
        """Pass other content on as it comes, through a scan that keeps its state."""
        duties = self.permit.duties
        scan = duties.inspect.stream() if duties.inspect is not None else None
        watch = duties.watch.stream() if duties.watch is not None else None

        def look(piece: bytes) -> Finding | None:
            if watch is not None and self.record.finding is None:
                self.record.finding = watch.feed(piece)
            return scan.feed(piece) if scan is not None else None

        while not self.up.reply.waiting and not self.up.reply.whole:
            self._check()
            await self.down.wake
        first = self.up.take()
        if 0 <= self.up.reply.length <= self.limits.reply_body_bytes and _opens_json(first):
            # JSON under another name: some client may read it, so it is reviewed as JSON.
            first += await self._collect(self.limits.reply_body_bytes) or b""
            if reads_as_json(first):
                return self._reviewed(first)
        finding = look(first)
        if finding is not None:
            return _injection(finding)
        self._begin(self.up.reply.length, first)

        def scanned(piece: bytes) -> bytes:
            finding = look(piece)
            if finding is not None:
                self._break(_injection(finding))
            return piece

        return await self._pump(scanned)

    # -- the parts

    def _whole(self, length: int, body: bytes = b"") -> None:
        """Send the head with its whole body."""
        self.record.status = self.head.status
        self.down.reply(self.head, length, body)

    def _begin(self, length: int, body: bytes = b"") -> None:
        """Send the head, and what there is of the body with it."""
        self.record.status = self.head.status
        self.down.begin(self.head, length, body)

    async def _collect(self, limit: int) -> bytes | None:
        """Return the whole body, or None if it is over *limit* bytes."""
        reply = self.up.reply
        if reply.length > limit:
            return None
        held = bytearray()  # not a list: tiny pieces would weigh many times what they hold
        while True:
            piece = self.up.take()
            if len(held) + len(piece) > limit:
                return None
            if reply.whole:
                return bytes(held) + piece if held else piece
            held += piece
            self._check()
            await self.down.wake

    async def _pump(self, through: Callable[[bytes], bytes] | None) -> Verdict:
        """Pass the body on, piece by piece, never faster than the caller takes it.

        *through* is given each piece, and nothing at the end; what it returns goes on.
        """
        up, down, reply = self.up, self.down, self.up.reply
        idle, most = self.limits.stream_idle_timeout, self.limits.write_buffer_bytes
        down.streaming = self.call
        while True:
            down.allow(idle)
            piece = up.take()
            if piece and through is not None:
                piece = self._through(through, piece)
            held = False
            for at in range(0, len(piece), most):
                down.send(piece[at : at + most])
                if down.paused:
                    up.hold()
                    held = True
                while down.paused:
                    await down.wake
            if held or reply.waiting:
                continue
            if reply.whole:
                break
            self._check()
            if down.half_closed and self._kind == b"text/event-stream":
                raise CallerGone("nobody reads the stream any more")
            await down.wake
        if through is not None:
            piece = self._through(through, b"")
            if piece:
                down.send(piece)
        down.end(self._trailers() if reply.trailers else ())
        return self.verdict

    def _trailers(self) -> Sequence[Pair]:
        """Return the reply's trailers that go on: none behind a body that was changed here."""
        reply, trip = self.up.reply, self.trip
        if self.changed or reply.head is None:
            return ()
        edited = trip.edited if trip is not None else frozenset()
        return passing(reply.trailers, reply.head.pairs, request=False, besides=edited)

    def _through(self, through: Callable[[bytes], bytes], piece: bytes) -> bytes:
        try:
            return through(piece)
        except MessageError as error:
            self._break(_unreadable(str(error)))
            raise

    def _check(self) -> None:
        if self.up.fault is not None:
            raise self.up.fault

    def _break(self, refusal: Refusal) -> None:
        """Break a reply off that has begun; the record says why."""
        self.record.verdict = refusal
        self.record.broken = refusal.detail
        self.down.abort()
        raise CallerGone(refusal.detail)

    def _event(self, event: Event) -> bytes:
        if not event.data:
            return event.raw
        reviewed = review(event.data, self.permit, self.call, self.record.note)
        if type(reviewed) is Refusal:
            # Now, and not only at the end: the caller may leave with what it got.
            self.verdict = self.record.verdict = reviewed
            self.changed = True
            return write_event(refusal_message(reviewed, self.record), like=event)
        assert isinstance(reviewed, bytes)
        if reviewed is event.data:
            return event.raw
        self.changed = True
        return write_event(reviewed, like=event)


def _opens_json(body: bytes) -> bool:
    return body.lstrip()[:1] in (b"{", b"[")


def _unreadable(why: str) -> Refusal:
    return Refusal(Reason.UPSTREAM, "the server's reply cannot be inspected", detail=why)


def _injection(finding: Finding) -> Refusal:
    return Refusal(
        Reason.INJECTION,
        "the content was refused by an inspection",
        rule=finding.rule,
        detail=f"pattern `{finding.pattern}`",
    )
