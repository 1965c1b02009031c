"""The load over HTTP/2: the same process and the same figures, another protocol.

It saturates: each connection has a fixed number of requests on the way, and sends
the next as soon as the reply to one is whole. Frames are cut by hand, and of a reply's
header block only the status is read, so that the load costs about what it does over
HTTP/1.1. It keeps to both flow-control windows of its peer (RFC 9113, 5.2).
"""

from __future__ import annotations

import ssl
from struct import Struct
from time import perf_counter

from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from race.generator import Connection, Load, Order, TooManyErrors, main
from race.h2_payload import DATA, END_STREAM, HEADERS, Calls, frame

_RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 3, 4, 6, 7, 8
_ACK = 1
_PADDED, _PRIORITY = 0x08, 0x20
_ENABLE_PUSH, _INITIAL_WINDOW_SIZE = 2, 4

_HEAD = Struct(">BHBBI")  # the length in 8 and 16 bits, the type, the flags, the stream
_SETTING = Struct(">HI")
_NUMBER = Struct(">I")
_GOAWAY_HEAD = Struct(">II")  # the last stream, the error code
_HEAD_BYTES = 9
_READ_BYTES = 65536
_DEFAULT_WINDOW = 65_535
_MOST_WINDOW = (1 << 31) - 1

_GREETING = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + frame(
        _SETTINGS,
        0,
        0,
        _SETTING.pack(_ENABLE_PUSH, 0) + _SETTING.pack(_INITIAL_WINDOW_SIZE, 1 << 20),
    )
    + frame(_WINDOW_UPDATE, 0, 0, _NUMBER.pack(_MOST_WINDOW - _DEFAULT_WINDOW))
)
_STATUS = range(8, 15)  # the places of `:status` in the static table


class H2Load(Load):
    """All connections over HTTP/2, and what is counted of them."""

    def __init__(self, order: Order) -> None:
        super().__init__(order)
        self.context.set_alpn_protocols(["h2"])
        self.calls = Calls(order.body_bytes, all_new=order.all_new)

    def connect(self) -> Connection:
        """Return a new connection, on its way to be opened."""
        return H2Connection(self)


class H2Connection(Connection):
    """One connection with several requests on the way."""

    __slots__ = (
        "_calls",
        "_held",
        "_leaving",
        "_received",
        "_since",
        "_stream",
        "_stream_window",
        "_taken",
        "_window",
    )

    def __init__(self, load: H2Load) -> None:
        self._calls = load.calls
        super().__init__(load)

    def _ready(self, now: float) -> None:
        """Greet, and send the first requests; comes after each handshake."""
        if self._socket.selected_alpn_protocol() != "h2":
            raise TooManyErrors("the proxy does not speak HTTP/2")
        self._received = b""
        self._taken = 0  # bytes of replies that no window update has given back
        self._since: dict[int, float] = {}  # the streams on the way, and when each was begun
        self._stream = 1
        self._held = 0  # requests that wait for the connection's window
        self._window = self._stream_window = _DEFAULT_WINDOW
        self._leaving = False
        self._out = _GREETING
        for _ in range(self._load.order.streams):
            self._begin(now)
        self._send_out()

    def _begin(self, now: float) -> None:
        """Put the next request in line, or hold it until there is a window for it."""
        if self._leaving:
            return
        if self._stream_window < self._calls.most_bytes:
            raise TooManyErrors(f"a body does not fit its window of {self._stream_window} bytes")
        if self._window < self._calls.most_bytes:
            self._held += 1
            return
        octets, size = self._calls.following(self._stream, opens=self._stream == 1)
        self._out += octets
        self._window -= size
        self._since[self._stream] = now
        self._stream += 2

    def _send_out(self) -> None:
        self._flush()
        if self._out:
            self._wait_for_room()

    def _receive(self) -> None:
        try:
            received = self._socket.recv(_READ_BYTES)
        except ssl.SSLWantReadError:
            return
        except OSError as error:
            self._reopen(f"receive: {error}")
            return
        if not received:
            self._reopen("closed by the proxy")
            return
        self._take(self._received + received, perf_counter())
        if self._leaving and not self._since:
            self._reopen("")
        elif self._out:
            self._send_out()

    def _take(self, octets: bytes, now: float) -> None:
        """Take all whole frames of *octets*, and keep the rest."""
        at, end = 0, len(octets)
        while end - at >= _HEAD_BYTES:
            high, low, kind, flags, stream = _HEAD.unpack_from(octets, at)
            stop = at + _HEAD_BYTES + (high << 16 | low)
            if stop > end:
                break
            self._frame(kind, flags, stream, octets[at + _HEAD_BYTES : stop], now)
            at = stop
        self._received = octets[at:]

    def _frame(self, kind: int, flags: int, stream: int, content: bytes, now: float) -> None:
        if kind == DATA:
            self._give_back(len(content))
        elif kind == HEADERS:
            self._judge(flags, content)
        else:
            self._control(kind, flags, stream, content, now)
            return
        if flags & END_STREAM:
            self._finish(stream, now)

    def _give_back(self, size: int) -> None:
        self._taken += size
        if self._taken > _MOST_WINDOW // 2:
            self._out += frame(_WINDOW_UPDATE, 0, 0, _NUMBER.pack(self._taken))
            self._taken = 0

    def _judge(self, flags: int, content: bytes) -> None:
        status = status_of(_block(flags, content))
        if status != 200:
            load = self._load
            load.refused += 1
            load.fault = load.fault or f"HTTP/2 {status or 'status not understood'}"

    def _finish(self, stream: int, now: float) -> None:
        since = self._since.pop(stream, None)
        if since is not None:
            self._load.latencies.append(now - since)
            self._begin(now)

    def _control(self, kind: int, flags: int, stream: int, content: bytes, now: float) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            self._agree(content)
        elif kind == _PING and not flags & _ACK:
            self._out += frame(_PING, _ACK, 0, content)
        elif kind == _WINDOW_UPDATE and not stream:
            self._widen(_NUMBER.unpack(content)[0], now)
        elif kind == _RST_STREAM and self._since.pop(stream, None) is not None:
            self._load.failed(f"stream reset with code {_NUMBER.unpack(content)[0]}")
            self._begin(now)
        elif kind == _GOAWAY:
            self._leave(*_GOAWAY_HEAD.unpack_from(content))

    def _agree(self, content: bytes) -> None:
        settings = dict(_SETTING.iter_unpack(content))
        self._stream_window = settings.get(_INITIAL_WINDOW_SIZE, self._stream_window)
        self._out += frame(_SETTINGS, _ACK, 0)

    def _widen(self, size: int, now: float) -> None:
        self._window += size
        held, self._held = self._held, 0
        for _ in range(held):
            self._begin(now)

    def _leave(self, last: int, code: int) -> None:
        """Send no more; what the proxy will still answer is waited for."""
        self._leaving = True
        self._since = {stream: since for stream, since in self._since.items() if stream <= last}
        if code:
            self._load.failed(f"closed by the proxy with code {code}")


def _block(flags: int, content: bytes) -> bytes:
    """Return the header block in the *content* of a HEADERS frame."""
    begin, end = 0, len(content)
    if flags & _PADDED:
        begin, end = 1, end - content[0]
    return content[begin + 5 if flags & _PRIORITY else begin : end]


def status_of(block: bytes) -> int:
    """Return the status that *block* begins with; 0 where it stands only in a dynamic table.

    Changes of the table's size may come before it, as at the start of a connection.
    """
    at = 0
    while block[at] & 0xE0 == 0x20:
        at = _after_integer(block, at, 0x1F)
    first = block[at]
    if first & 0x80:
        place = first & 0x7F
        return int(HeaderTable.STATIC_TABLE[place - 1][1]) if place in _STATUS else 0
    name = first & (0x3F if first & 0x40 else 0x0F)
    return _text_number(block[at + 1 :]) if name in _STATUS else 0


def _after_integer(block: bytes, at: int, most: int) -> int:
    more = block[at] & most == most
    while more:
        at += 1
        more = block[at] & 0x80 != 0
    return at + 1


def _text_number(literal: bytes) -> int:
    text = literal[1 : 1 + (literal[0] & 0x7F)]
    return int(decode_huffman(text) if literal[0] & 0x80 else text)


if __name__ == "__main__":
    raise SystemExit(main(H2Load))
