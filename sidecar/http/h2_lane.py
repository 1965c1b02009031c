"""hyper-h2's connection, with a fast lane for the frames that most exchanges are made of.

A head in one frame, a body within its windows, a window that opens: these are
judged by hyper-h2's own state, and leave in it what hyper-h2 would have left. So
whatever comes next, by either way, finds one state. A frame that is not ordinary
is declined before anything is changed, and hyper-h2 has it. (RFC 9113.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from h2.config import H2Configuration
from h2.connection import AllowedStreamIDs, ConnectionState
from h2.errors import ErrorCodes
from h2.events import Event
from h2.settings import SettingCodes, Settings
from h2.stream import H2Stream, StreamClosedBy, StreamState
from h2.windows import WindowManager
from hpack import Encoder
from hpack.struct import Header

from .field import Pair
from .h2_decoder import BlockDecoder
from .h2_encoder import Asked, BlockEncoder
from .h2_plain import Plain

if TYPE_CHECKING:
    from hyperframe.frame import Frame, HeadersFrame

DATA: Final = 0
HEADERS: Final = 1
WINDOW_UPDATE: Final = 8

END_STREAM: Final = 0x1
_HEAD_FLAGS: Final = (0x4, 0x5, 0x24, 0x25)  # END_HEADERS; with END_STREAM, with PRIORITY
_PRIORITY: Final = 0x20
_MOST_WINDOW: Final = (1 << 31) - 1
_STREAM: Final = 0x7FFFFFFF  # the bits of a stream's number

_OPEN: Final = StreamState.OPEN
_HALF_LOCAL: Final = StreamState.HALF_CLOSED_LOCAL
_HALF_REMOTE: Final = StreamState.HALF_CLOSED_REMOTE
_CLOSED: Final = StreamState.CLOSED
_LIVE: Final = (_OPEN, _HALF_LOCAL, _HALF_REMOTE)
_SAYS: Final = (_OPEN, _HALF_REMOTE)


class Terms(NamedTuple):
    """What both sides have settled on: a new stream's windows, and how many there may be."""

    inbound: int
    outbound: int
    streams: int


class UnmeasuredStream(H2Stream):
    """An H2Stream that leaves a body's length to whoever reads the message.

    A wrong one is the fault of one stream (RFC 9113 8.1.1); hyper-h2 would end them all.
    """

    def _initialize_content_length(self, headers: Iterable[Header]) -> None:
        pass

    def _track_content_length(self, length: int, end_stream: bool) -> None:
        pass


class Unmeasured(Plain):
    """hyper-h2's connection with such streams, which refuses one too many by itself.

    hyper-h2 would end them all for it; and a caller may not have heard yet how many we
    take. (RFC 9113 5.1.2.)
    """

    def __init__(self, config: H2Configuration) -> None:
        super().__init__(config)
        self._most = 0  # streams of a caller's at a time, as we told it

    def initiate_connection(self) -> None:
        """Say our settings."""
        super().initiate_connection()
        if not self.config.client_side:
            self._most = self.local_settings.max_concurrent_streams
            values = {SettingCodes(code): value for code, value in self.local_settings.items()}
            # One more than was told: it is let in to be refused, and only then another.
            values[SettingCodes.MAX_CONCURRENT_STREAMS] = self._most + 1
            self.local_settings = Settings(client=False, initial_values=values)

    def _receive_headers_frame(self, frame: HeadersFrame) -> tuple[list[Frame], list[Event]]:
        begins = not self.config.client_side and frame.stream_id not in self.streams
        frames, events = super()._receive_headers_frame(frame)
        if begins and self.open_inbound_streams > self._most:
            self.reset_stream(frame.stream_id, ErrorCodes.REFUSED_STREAM)
            events = []
        return frames, events

    def _begin_new_stream(self, stream_id: int, allowed_ids: AllowedStreamIDs) -> H2Stream:
        super()._begin_new_stream(stream_id, allowed_ids)
        windows = self.local_settings, self.remote_settings
        sizes = [one.initial_window_size for one in windows]
        stream = self.streams[stream_id] = UnmeasuredStream(stream_id, self.config, *sizes)
        stream.max_outbound_frame_size = self.max_outbound_frame_size
        return stream


class Lane(Unmeasured):
    """Such a connection; `head_came` and its like take a frame and say whether they did."""

    def __init__(self, config: H2Configuration) -> None:
        super().__init__(config)
        self._blocks = BlockEncoder()
        self._read = BlockDecoder(self.DEFAULT_MAX_HEADER_LIST_SIZE)
        self.encoder = cast(Encoder, self._blocks)
        self.decoder = self._read
        client = bool(config.client_side)
        self._serves = not client
        self._up = ConnectionState.CLIENT_OPEN if client else ConnectionState.SERVER_OPEN
        self._terms: Terms | None = None
        self._running = -1  # open streams; below 0, hyper-h2 has to count them
        self._over: list[int] = []  # streams that closed since they were counted

    # -- what came

    def judge(self, data: bytes) -> list[Event]:
        """Have hyper-h2 judge *data*; what the lane has noted of its state is noted anew."""
        self._running = -1
        self._terms = None
        return self.receive_data(data)

    @property
    def ordinary(self) -> bool:
        """Whether the lane may take a frame now: both sides speak, and no block has begun."""
        return self.state_machine.state is self._up and not self.incoming_buffer._headers_buffer

    def head_came(self, number: int, flags: int, block: bytes) -> Sequence[Pair] | None:
        """Take the HEADERS frame of a request or a final reply; None if hyper-h2 must.

        *block* is all of its payload. The fields are not judged beyond what hyper-h2 asks.
        """
        if flags not in _HEAD_FLAGS:
            return None
        if flags & _PRIORITY:
            itself = int.from_bytes(block[:4]) & _STREAM == number
            if len(block) < 5 or itself:
                return None
            block = block[5:]
        stream = self.streams.get(number)
        if not (self._may_open(number, stream) if self._serves else _may_be_told(stream)):
            return None
        fields = self._read.foretell(block)
        if fields is None:
            return None
        if _is_interim(fields):
            self._read.unsaid(fields)
            return None
        ended = flags & END_STREAM
        if stream is None:
            stream = self._begun(number)
            stream.state_machine.client = False
        machine = stream.state_machine
        machine.headers_received = True
        if ended:
            self._hears_no_more(number, stream)
        return fields

    def data_came(self, number: int, ended: int, size: int) -> bool:
        """Take a DATA frame of *size* bytes without padding; False if hyper-h2 must."""
        stream = self.streams.get(number)
        if stream is None:
            return False
        machine = stream.state_machine
        state = machine.state
        if not machine.headers_received or (state is not _OPEN and state is not _HALF_LOCAL):
            return False
        shared, own = self._inbound_flow_control_window_manager, stream._inbound_window_manager
        if size > shared.current_window_size or size > own.current_window_size:
            return False
        shared.current_window_size -= size
        own.current_window_size -= size
        if ended:
            self._hears_no_more(number, stream)
        return True

    def window_came(self, number: int, payload: bytes) -> bool:
        """Take a WINDOW_UPDATE frame; False if hyper-h2 must."""
        more = int.from_bytes(payload)
        if len(payload) != 4 or not 0 < more <= _MOST_WINDOW:
            return False
        if not number:
            window = self.outbound_flow_control_window + more
            if window > _MOST_WINDOW:
                return False
            self.outbound_flow_control_window = window
            return True
        stream = self.streams.get(number)
        if stream is None:
            return False
        window = stream.outbound_flow_control_window + more
        if window > _MOST_WINDOW or stream.state_machine.state not in _LIVE:
            return False
        stream.outbound_flow_control_window = window
        return True

    def taken(self, number: int, size: int) -> None:
        """Let *size* bytes more come; nothing is said before it is worth a frame."""
        stream = self.streams.get(number)
        shared = self._inbound_flow_control_window_manager
        if stream is None or not _may_wait(shared, size):
            self.acknowledge_received_data(size, number)
            return
        if stream.state_machine.state in _LIVE:
            own = stream._inbound_window_manager
            if not _may_wait(own, size):
                self.acknowledge_received_data(size, number)
                return
            own._bytes_processed += size
        shared._bytes_processed += size

    # -- what is said

    def head(self, number: int, fields: Sequence[Pair], *, end: bool) -> None:
        """Send any head, by hyper-h2. What it raises is hyper-h2's."""
        self._running = -1
        self.send_headers(number, fields, end_stream=end)

    def ask(self, number: int, asked: Asked, *, end: bool) -> bool:
        """Open a stream with the head of a request; False if hyper-h2 must."""
        block = self._blocks.opening(asked.block)
        if len(block) > self.max_outbound_frame_size or not self._may_ask(number):
            return False
        self._blocks.begun = True
        stream = self._begun(number)
        machine = stream.state_machine
        machine.client = machine.headers_sent = True
        if end:
            machine.state = _HALF_LOCAL
        stream.request_method = asked.method
        stream._authority = asked.authority
        self._write_head(number, block, end)
        return True

    def answer(self, number: int, block: bytes, *, end: bool) -> bool:
        """Send *block* as the head of a final reply; False if hyper-h2 must."""
        stream = self.streams.get(number)
        if stream is None or self.state_machine.state is not self._up or not self._serves:
            return False
        machine = stream.state_machine
        state = machine.state
        if machine.headers_sent or (state is not _HALF_REMOTE and state is not _OPEN):
            return False
        block = self._blocks.opening(block)
        if len(block) > self.max_outbound_frame_size:
            return False
        self._blocks.begun = True
        machine.headers_sent = True
        if end:
            self._says_no_more(number, stream)
        self._write_head(number, block, end)
        return True

    def room(self, number: int) -> int:
        """Return how much of a body may be sent now. What it raises is hyper-h2's."""
        stream = self.streams.get(number)
        if stream is None:
            return self.local_flow_control_window(number)
        return min(self.outbound_flow_control_window, stream.outbound_flow_control_window)

    def piece(self, number: int, data: bytes, *, end: bool) -> None:
        """Send a piece of a body. What it raises is hyper-h2's."""
        stream = self.streams.get(number)
        size = len(data)
        if (
            stream is None
            or self.state_machine.state is not self._up
            or stream.state_machine.state not in _SAYS
            or size > self.max_outbound_frame_size
            or (size and size > self.outbound_flow_control_window)
            or (size and size > stream.outbound_flow_control_window)
        ):
            self._running = -1
            self.send_data(number, data, end_stream=end)
            return
        self.outbound_flow_control_window -= size
        stream.outbound_flow_control_window -= size
        if end:
            self._says_no_more(number, stream)
        self._data_to_send += b"%b\0%c%b" % (size.to_bytes(3), end, number.to_bytes(4))
        self._data_to_send += data

    def reset(self, number: int, code: int) -> None:
        """Break a stream off. What it raises is hyper-h2's."""
        self._running = -1
        self.reset_stream(number, code)

    # -- the state, as hyper-h2 keeps it

    def _may_open(self, number: int, stream: H2Stream | None) -> bool:
        """Whether the peer may begin stream *number*, one more than there are."""
        if stream is not None or not number & 1 or number <= self.highest_inbound_stream_id:
            return False
        return self._count() < self._agreed().streams

    def _may_ask(self, number: int) -> bool:
        """Whether we may begin stream *number*, one more than there are."""
        if self._serves or self.state_machine.state is not self._up or not number & 1:
            return False
        return number > self.highest_outbound_stream_id and self._count() < self._agreed().streams

    def _agreed(self) -> Terms:
        if self._terms is None:
            ours, theirs = self.local_settings, self.remote_settings
            most = self._most if self._serves else theirs.max_concurrent_streams
            self._terms = Terms(ours.initial_window_size, theirs.initial_window_size, most)
        return self._terms

    def _count(self) -> int:
        """Return how many streams are open, and put those away that are not."""
        if self._running < 0:
            # All streams are the client's: nothing is pushed.
            counted = self.open_inbound_streams if self._serves else self.open_outbound_streams
            self._running = counted
        else:
            for number in sorted(self._over):
                self._closed_streams[number] = self.streams.pop(number).closed_by
        self._over.clear()
        return self._running

    def _begun(self, number: int) -> H2Stream:
        terms = self._agreed()
        stream = UnmeasuredStream(number, self.config, terms.inbound, terms.outbound)
        stream.max_outbound_frame_size = self.max_outbound_frame_size
        stream.state_machine.state = _OPEN
        self.streams[number] = stream
        if self._serves:
            self.highest_inbound_stream_id = number
        else:
            self.highest_outbound_stream_id = number
        self._running += 1
        return stream

    def _hears_no_more(self, number: int, stream: H2Stream) -> None:
        machine = stream.state_machine
        if machine.state is _OPEN:
            machine.state = _HALF_REMOTE
        else:
            machine.stream_closed_by = StreamClosedBy.RECV_END_STREAM
            self._close(number, stream)

    def _says_no_more(self, number: int, stream: H2Stream) -> None:
        machine = stream.state_machine
        if machine.state is _OPEN:
            machine.state = _HALF_LOCAL
        else:
            machine.stream_closed_by = StreamClosedBy.SEND_END_STREAM
            self._close(number, stream)

    def _close(self, number: int, stream: H2Stream) -> None:
        stream.state_machine.state = _CLOSED
        if self._running >= 0:
            self._running -= 1
            self._over.append(number)

    def _write_head(self, number: int, block: bytes, end: bool) -> None:
        self._data_to_send += b"%b\1%c%b" % (len(block).to_bytes(3), 4 | end, number.to_bytes(4))
        self._data_to_send += block


def _may_be_told(stream: H2Stream | None) -> bool:
    """Whether the server may send the final head on *stream*, and has not."""
    if stream is None or stream.state_machine.headers_received:
        return False
    return stream.state_machine.state in (_OPEN, _HALF_LOCAL)


def _may_wait(window: WindowManager, size: int) -> bool:
    """Whether hyper-h2 would not yet say that *size* more bytes were taken."""
    waits = window._bytes_processed + size < window.max_window_size // 2
    return waits and window.current_window_size > 0


def _is_interim(fields: Sequence[Pair]) -> bool:
    """Whether hyper-h2 takes *fields* for the head of an interim reply."""
    for name, value in fields:
        if name[:1] != b":":
            return False
        if name == b":status":
            return value[:1] == b"1"
    return False
