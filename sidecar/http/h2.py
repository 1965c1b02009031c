"""One HTTP/2 connection, of either side: bytes in, events out, frames written within the windows.

hyper-h2 judges frames and keeps the windows, the ordinary ones by its fast lane;
what it leaves open is bounded here: the work of one turn, the glitches of a
connection, the order in which streams may write. It does no I/O and is told the
time. (RFC 9113.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

import h2.events
from h2.config import H2Configuration
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError as H2ProtocolError
from h2.exceptions import StreamClosedError, TooManyStreamsError
from h2.settings import SettingCodes, Settings

from ..errors import ProtocolError
from .field import Pair
from .h2_budget import RESET, SENT, Budget
from .h2_encoder import write_reply, write_request
from .h2_frames import (
    FRAME_HEAD,
    FrameCutter,
    GoAway,
    Miscut,
    Turn,
    write_goaway,
    write_reset,
)
from .h2_head import reply_fields, request_fields
from .h2_lane import DATA, END_STREAM, HEADERS, WINDOW_UPDATE, Lane
from .h2_outgoing import Queue
from .h2_plain import Plain, strange
from .head import ReplyHead
from .trailers import Trailed

NO_ERROR: Final = ErrorCodes.NO_ERROR
PROTOCOL: Final = ErrorCodes.PROTOCOL_ERROR
INTERNAL: Final = ErrorCodes.INTERNAL_ERROR
REFUSED: Final = ErrorCodes.REFUSED_STREAM
CANCEL: Final = ErrorCodes.CANCEL
CALM: Final = ErrorCodes.ENHANCE_YOUR_CALM

_FRAME: Final = 16_384  # bytes of a DATA frame at most, whatever the peer would take
_HEADER_LIST: Final = 65_536  # bytes of a decoded header block; above it nothing is told
_STREAM_WINDOW: Final = 65_535  # bytes of a body that wait on one stream at most
_TINY: Final = 64  # a caller's DATA frame with less is a glitch, unless it ends its stream


class Head(NamedTuple):
    """A message's header fields; on a caller's connection that opens the stream."""

    stream: int
    fields: Sequence[Pair]
    ended: bool


class Interim(NamedTuple):
    """The header fields of an interim reply."""

    stream: int
    fields: Sequence[Pair]


class Data(NamedTuple):
    """A piece of a body; `size` is what `taken` gives back to the window."""

    stream: int
    data: bytes
    size: int
    ended: bool


class Trailers(NamedTuple):
    """What ends a message after its body."""

    stream: int
    fields: Sequence[Pair]


class Reset(NamedTuple):
    """A stream is no more."""

    stream: int
    code: int


_BY: Final[type[Plain]] = Plain if strange() else Lane

Event: TypeAlias = Head | Interim | Data | Trailers | Reset | GoAway


class Http2:
    """`feed` what came, `turn` until nothing is `ready`; `out` is what is to be sent.

    As a server it takes at most *streams* at a time.
    """

    __slots__ = (
        "_budget",
        "_cutter",
        "_debt",
        "_extra",
        "_h2",
        "_outgoing",
        "_tiny",
        "broken",
    )

    def __init__(self, now: float, *, server: bool, streams: int = 100) -> None:
        self._h2 = _BY(
            H2Configuration(
                client_side=not server,
                # Ours judge the fields, once for both protocols.
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        values: dict[SettingCodes, int] = {
            SettingCodes.MAX_CONCURRENT_STREAMS: streams,
            SettingCodes.MAX_HEADER_LIST_SIZE: _HEADER_LIST,
        }
        if not server:
            values[SettingCodes.ENABLE_PUSH] = 0
        self._h2.local_settings = Settings(client=not server, initial_values=values)
        self._h2.initiate_connection()
        if not server:
            # One stream whose body nobody takes must not keep the others' from coming.
            self._h2.increment_flow_control_window(streams * _STREAM_WINDOW)
        self._tiny = _TINY if server else 1  # a server's events are as small as they are
        self._cutter = FrameCutter(preface=server)
        self._budget = Budget(now)
        self._debt = 0.0
        self._outgoing = Queue()
        self._extra = b""
        self.broken = False

    # -- in

    @property
    def waiting(self) -> int:
        """Bytes that have come and were not looked at."""
        return self._cutter.waiting

    @property
    def slow(self) -> bool:
        """Whether a preface, a frame or a header block has begun and is not whole."""
        return self._cutter.began

    @property
    def in_block(self) -> bool:
        """Whether a header block has begun and is not whole."""
        return self._cutter.in_block

    @property
    def last(self) -> int:
        """The highest stream that the peer has opened."""
        return self._h2.highest_inbound_stream_id

    def feed(self, data: bytes) -> None:
        """Take what came."""
        self._cutter.feed(data)

    def turn(self, now: float) -> tuple[list[Event], bool]:
        """Return what a bounded part of it means, and whether there is more to look at.

        Raises ProtocolError where the connection can't go on: `out` then ends with GOAWAY.
        """
        events: list[Event] = []
        try:
            turn = self._cutter.turn()
            cost = self._hear(turn, events)
        except Miscut as fault:
            raise self._break(str(fault), fault.code) from None
        except H2ProtocolError as error:
            self.broken = True  # hyper-h2 has written its GOAWAY
            raise ProtocolError(f"HTTP/2: {error or type(error).__name__}") from None
        cost += self._debt
        self._debt = 0.0
        if turn.goaway is not None:
            events.append(turn.goaway)
        if cost > 0 and not self._budget.spend(cost, now):
            raise self._break("too many frames that ask for nothing", CALM)
        return events, turn.more

    def _hear(self, turn: Turn, events: list[Event]) -> float:
        """Add what the frames of *turn* mean to *events*; return what they cost."""
        cost: float = turn.frames
        lane, data = self._h2, turn.data
        quick = lane.ordinary
        judged = 0  # bytes of *data* that were judged, by whichever way
        for kind, flags, number, begin, end in turn.cuts:
            if kind != HEADERS and kind != DATA and kind != WINDOW_UPDATE:
                continue
            if judged < begin - FRAME_HEAD:
                cost += self._judge(data[judged : begin - FRAME_HEAD], events)
                judged = begin - FRAME_HEAD
                quick = lane.ordinary
            if not quick:
                continue
            if kind == DATA:
                if flags > END_STREAM or not lane.data_came(number, flags, end - begin):
                    continue
                size = end - begin
                events.append(Data(number, data[begin:end], size, bool(flags)))
                cost -= 1 if flags or size >= self._tiny else 0
            elif kind == HEADERS:
                fields = lane.head_came(number, flags, data[begin:end])
                if fields is None:
                    continue
                events.append(Head(number, fields, bool(flags & END_STREAM)))
                cost -= 1
            elif lane.window_came(number, data[begin:end]):
                self._outgoing.opened(number)
            else:
                continue
            judged = end
        return cost + self._judge(data[judged:], events) if judged < len(data) else cost

    def _judge(self, data: bytes, events: list[Event]) -> float:
        """Have hyper-h2 judge what is not ordinary."""
        return sum(self._read(one, events) for one in self._h2.judge(data))

    def _read(self, event: h2.events.Event, events: list[Event]) -> float:
        """Translate one event; return what it costs beside its frame, which is counted as one."""
        match event:
            case h2.events.RequestReceived() | h2.events.ResponseReceived():
                events.append(Head(event.stream_id, event.headers, event.stream_ended is not None))
                return -1
            case h2.events.DataReceived():
                ended = event.stream_ended is not None
                size = event.flow_controlled_length
                events.append(Data(event.stream_id, event.data, size, ended))
                return -1 if ended or len(event.data) >= self._tiny else 0
            case h2.events.TrailersReceived():
                events.append(Trailers(event.stream_id, event.headers))
                return -1
            case h2.events.InformationalResponseReceived():
                events.append(Interim(event.stream_id, event.headers))
            case h2.events.StreamReset():
                self._outgoing.drop(event.stream_id)
                events.append(Reset(event.stream_id, int(event.error_code or 0)))
                return RESET
            case h2.events.WindowUpdated():
                self._outgoing.opened(event.stream_id)
            case h2.events.RemoteSettingsChanged():
                self._outgoing.opened(0)
        return 0

    def _break(self, why: str, code: int) -> ProtocolError:
        self.goaway(code)
        self.broken = True
        return ProtocolError(f"HTTP/2: {why}")

    def taken(self, stream: int, size: int) -> None:
        """Let *size* bytes more come on *stream*: as many were taken off it."""
        if size and not self.broken:
            self._h2.taken(stream, size)

    def charge(self, cost: float) -> None:
        """The peer made us do something for nothing: its next turn pays."""
        self._debt += cost

    def earn(self, gain: float) -> None:
        """Something useful was done for this peer."""
        self._budget.earn(gain)

    # -- out

    def open(self) -> int:
        """Return the number of a new stream of ours. Raises ProtocolError if there is none left."""
        try:
            return self._h2.get_next_available_stream_id()
        except H2ProtocolError as error:
            raise ProtocolError(str(error)) from None

    @property
    def room(self) -> int:
        """How many streams the peer takes from us at a time."""
        return self._h2.remote_settings.max_concurrent_streams

    def ask(self, stream: int, request: bytes, scheme: bytes) -> None:
        """Open *stream* with the *request* that we wrote for HTTP/1.

        Raises ProtocolError if it is one stream too many.
        """
        asked = write_request(request, scheme)
        trailers = request.trailers if type(request) is Trailed else ()
        end = not asked.body and not trailers
        if not self.broken and not self._h2.ask(stream, asked, end=end):
            self.head(stream, request_fields(request, scheme)[0], end=end)
        self.body(stream, asked.body, end=not end and not trailers)
        if trailers:
            self.trail(stream, trailers)

    def answer(self, stream: int, head: ReplyHead, length: int, *, end: bool) -> None:
        """Send a final reply's *head*; *length* of its body is announced unless below 0."""
        if self.broken or self._h2.answer(stream, write_reply(head, length), end=end):
            return
        self.head(stream, reply_fields(head, length), end=end)

    def head(self, stream: int, fields: Sequence[Pair], *, end: bool = False) -> None:
        """Send a message's head. Raises ProtocolError if it would open one stream too many."""
        if self.broken:
            return
        try:
            self._h2.head(stream, fields, end=end)
        except StreamClosedError:
            self._outgoing.drop(stream)  # closed by the peer's fault: nobody hears it
        except TooManyStreamsError as error:
            raise ProtocolError(str(error)) from None

    def body(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send more of a body as the windows allow; what they don't waits."""
        if self.broken or not (data or end):
            return
        self._outgoing.put(stream, data, end=end)

    def trail(self, stream: int, trailers: Sequence[Pair]) -> None:
        """End a body with *trailers*, which may not be none."""
        if not self.broken:
            self._outgoing.put(stream, b"", end=True, trailers=trailers)

    def unsent(self, stream: int) -> int:
        """Return the bytes that wait on *stream*; its end counts as one."""
        return self._outgoing.unsent(stream)

    def reset(self, stream: int, code: int) -> None:
        """Break *stream* off; what waits on it is dropped."""
        self._outgoing.drop(stream)
        if not self.broken:
            try:
                self._h2.reset(stream, code)
            except H2ProtocolError:
                # Closed on both sides: hyper-h2 has nothing more to say, we may (RFC 9113 5.1).
                self._extra += write_reset(stream, code)

    def goaway(self, code: int, last: int | None = None) -> None:
        """Tell the peer that no stream above *last* is served; those below go on."""
        self._extra += write_goaway(self.last if last is None else last, code)

    def ping(self) -> None:
        """Ask for a sign of life."""
        if not self.broken:
            self._h2.ping(b"sidecar ")

    @property
    def writing(self) -> bool:
        """Whether a stream has something unsent that its window lets through."""
        return self._outgoing.ready

    def out(self) -> bytes:
        """Return what is to be sent now; call again until it is nothing."""
        if self._outgoing.ready and not self.broken:
            most = min(_FRAME, self._h2.max_outbound_frame_size)
            self._budget.earn(self._outgoing.write(self._h2, most) * SENT)
        data = self._h2.data_to_send()
        if self._extra:
            data, self._extra = data + self._extra, b""
        return data

    def written(self) -> Iterable[int]:
        """Return the streams of whose bodies something was sent since the last call."""
        return self._outgoing.written()
