"""Where HTTP/2's frames begin and end: what came is cut into turns of whole frames.

A turn is bounded in bytes and in frames, so that one connection can't keep the
others waiting. Every frame is counted, also those that cause no event. GOAWAY
is read here: it ends what is new and leaves what runs (RFC 9113 6.8). Of the
others no more is looked at than how long they may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final, TypeAlias

from h2.errors import ErrorCodes

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

FRAME_HEAD: Final = 9  # bytes before a frame's payload
_MAX_PAYLOAD: Final = 16_384  # SETTINGS_MAX_FRAME_SIZE as we leave it
_TURN_BYTES: Final = 16_384
_TURN_FRAMES: Final = 64

_HEADERS: Final = 1
_SETTINGS: Final = 4
_PUSH_PROMISE: Final = 5
_GOAWAY: Final = 7
_CONTINUATION: Final = 9
_ACK: Final = 1
_END_HEADERS: Final = 4
_STREAM: Final = 0x7FFFFFFF  # the bits of a stream's number

# The length in 8 and 16 bits, the type, the flags, the stream.
_read_head: Final = Struct(">BHBBI").unpack_from

Cut: TypeAlias = tuple[int, int, int, int, int]
"""A frame: its type, its flags, its stream, where its payload begins and where it ends."""


class Miscut(Exception):
    """What came can't be cut: no preface stands before it, or a frame has a size it can't have.

    `code` is what the peer is told.
    """

    def __init__(self, why: str, code: int) -> None:
        super().__init__(why)
        self.code = code


@dataclass(frozen=True, slots=True)
class GoAway:
    """The peer opens, or takes, no stream above *last*."""

    last: int
    code: int


@dataclass(slots=True)
class Turn:
    """What one turn works on: `data` of whole frames, how many, and the GOAWAY behind them.

    `cuts` are the frames of `data`, in order.
    """

    data: bytes
    frames: int
    goaway: GoAway | None = None
    more: bool = False  # another turn has something to do
    cuts: Sequence[Cut] = ()


class FrameCutter:
    """Bytes in, turns out; before the first frame stands the *preface*, if the peer sends one."""

    __slots__ = ("_data", "_preface", "in_block")

    def __init__(self, *, preface: bool) -> None:
        self._data = b""
        self._preface = len(PREFACE) if preface else 0
        self.in_block = False  # a header block has begun and CONTINUATION must follow

    @property
    def waiting(self) -> int:
        """Bytes that have come and were in no turn."""
        return len(self._data)

    @property
    def began(self) -> bool:
        """Whether a preface, a frame or a header block has begun and is not whole."""
        return bool(self._data or self._preface or self.in_block)

    def feed(self, data: bytes) -> None:
        """Take what came."""
        self._data = self._data + data if self._data else data

    def turn(self) -> Turn:
        """Return the next whole frames. Raises Miscut."""
        data = self._data
        at, frames, goaway = self._take_preface(), 0, None
        begin, size = at, len(data)
        cuts: list[Cut] = []
        more = False
        while size - at >= FRAME_HEAD:
            high, low, kind, flags, number = _read_head(data, at)
            length = high << 16 | low
            if length > _MAX_PAYLOAD:
                raise Miscut("a frame is too long", ErrorCodes.FRAME_SIZE_ERROR)
            end = at + FRAME_HEAD + length
            if end > size:
                break
            if frames and (frames == _TURN_FRAMES or end - begin > _TURN_BYTES):
                more = True
                break
            frames += 1
            if kind == _GOAWAY and not self.in_block and length >= 8:
                goaway = _goaway(data[at:end])
                if goaway is not None:
                    more = end < size
                    break
            elif kind in (_HEADERS, _PUSH_PROMISE, _CONTINUATION):
                self.in_block = not flags & _END_HEADERS
            elif kind == _SETTINGS and flags & _ACK and length and not self.in_block:
                raise Miscut("an acknowledgement says more", ErrorCodes.FRAME_SIZE_ERROR)
            cuts.append((kind, flags, number & _STREAM, at + FRAME_HEAD, end))
            at = end
        self._data = data[end:] if goaway is not None else data[at:]
        return Turn(data if at == size else data[:at], frames, goaway, more, cuts)

    def _take_preface(self) -> int:
        left = self._preface
        if not left:
            return 0
        taken = min(left, len(self._data))
        if not PREFACE.startswith(self._data[:taken], -left):
            raise Miscut("no preface", ErrorCodes.PROTOCOL_ERROR)
        self._preface = left - taken
        return taken


def _goaway(frame: bytes) -> GoAway | None:
    """Return what a GOAWAY *frame* says; None if it is not well-formed, for hyper-h2 to judge."""
    if int.from_bytes(frame[5:9]) & _STREAM:
        return None
    return GoAway(int.from_bytes(frame[9:13]) & _STREAM, int.from_bytes(frame[13:17]))


def write_reset(stream: int, code: int) -> bytes:
    """Return a RST_STREAM frame (RFC 9113 6.4)."""
    return b"\x00\x00\x04\x03\x00" + stream.to_bytes(4) + code.to_bytes(4)


def write_goaway(last: int, code: int) -> bytes:
    """Return a GOAWAY frame (RFC 9113 6.8)."""
    return b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + last.to_bytes(4) + code.to_bytes(4)
