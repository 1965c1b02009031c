"""What a peer over HTTP/2 may send: mostly what is ordinary, now and then anything at all.

peer = Frames(Random(1), server=True)
peer.more()     # bytes that a caller says next; with server=False, what a server says
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from hpack import Encoder

from .floods import frame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
END_STREAM, END_HEADERS, PADDED, PRIORITY = 1, 4, 8, 0x20
SIZES = (0, 1, 4, 63, 64, 64, 65, 300, 300, 1_000, 1_000, 1_000, 9_000, 16_384)
LARGE = (1_000, 9_000, 9_000, 16_384)
STEPS = (1, 2, 70, 1_000, 40_000, 0x7FFF_0000, 0x7FFF_FFFF)
BAD_BLOCKS = (b"\x80", b"\xff\xff\xff", b"\x40\x05ab", b"\x3f\xff\xff\x7f", b"\0\x81\xff\0")
VALUES = {1: (0, 1, 100, 4_096, 8_192), 2: (0, 1), 3: (0, 1, 3, 100), 6: (0, 65_536), 99: (5,)}
WINDOWS = (0, 1, 100, 1_000, 65_535, 65_536, 0x7FFF_FFFF)
MOST_FRAMES = (16_384, 16_385, 20_000)
BAD = {2: 2, 4: 1 << 31, 5: 16_383, 8: 2}

Fields = list[tuple[bytes, bytes]]
Say = Callable[[], bytes]


class Frames:
    """The frames of one peer, which keeps to the rules as a rule."""

    def __init__(self, random: Random, *, server: bool, oddity: float = 0.03) -> None:
        self._random = random
        self._server = server  # whether what it speaks to is a server
        self._oddity = oddity
        self._encoder = Encoder()
        self._last = -1 if server else 0  # the last stream that was begun
        self._sizes = random.choice([SIZES, SIZES, LARGE])
        self.room = 1  # streams that it may begin
        self.window: Callable[[int], int] = lambda number: 65_535  # how much it may send
        self.known: dict[int, bool] = {}  # streams that it may send on, and whether a head was
        self._left: dict[int, int] = {}  # what a content-length says is still to come

    def greeting(self) -> bytes:
        return (PREFACE if self._server else b"") + self._settings()

    def opened(self, number: int) -> None:
        """The other side has begun a stream."""
        self._last = number
        self.known[number] = False

    def more(self) -> bytes:
        """Return a frame, or a few that belong together."""
        random = self._random
        kinds: list[Say] = [self._head, self._body, self._body, self._window, self._control]
        said: bytes = random.choices(kinds, (4, 3, 3, 2, 1))[0]()
        said = said or self._control()
        if said and random.random() < self._oddity / 3:
            at = random.randrange(len(said))
            said = said[:at] + random.randbytes(1) + said[at + 1 :]
        return said

    def _odd(self) -> bool:
        return self._random.random() < self._oddity

    # -- heads

    def _head(self) -> bytes:
        random = self._random
        number = self._stream_of_head()
        if number < 0:
            return b""
        first = not self.known.get(number, False)
        ended = random.random() < 0.3 if first else not self._odd()
        fields = self._fields(first=first)
        lengths = [value for name, value in fields if name == b"content-length"]
        if not self._server and first and random.random() < 0.1:
            ended = ended and self._odd()
            fields[0] = (b":status", b"103")
        else:
            self.known[number] = True
            if first and lengths and lengths[-1].isdigit():
                self._left[number] = int(lengths[-1][:15])
                ended = ended and (not self._left[number] or self._odd())
        if ended:
            self._end(number)
        block = self._encoder.encode(fields, huffman=random.random() < 0.7)
        if self._odd():
            block = random.choice(BAD_BLOCKS)
        return self._block_frames(number, block, END_STREAM if ended else 0)

    def _end(self, number: int) -> None:
        self.known.pop(number, None)
        self._left.pop(number, None)

    def _stream_of_head(self) -> int:
        random = self._random
        if self._odd():
            return random.choice([0, 1, 2, 3, abs(self._last), self._last + 1, 2**31 - 1])
        if self._server:
            if self.known and random.random() < 0.1:
                return self._for_trailers()
            if self.room <= 0 and not self._odd():
                return -1
            self.room -= 1
            self._last += random.choice([2, 2, 2, 2, 4])
            return self._last
        waiting = [number for number, head in self.known.items() if not head]
        return random.choice(waiting) if waiting else self._for_trailers()

    def _for_trailers(self) -> int:
        done = [number for number in self.known if not self._left.get(number)]
        return self._random.choice(done) if done else -1

    def _fields(self, *, first: bool) -> Fields:
        random = self._random
        fields: Fields = []
        if first and self._server:
            fields = [(b":method", random.choice([b"POST", b"GET", b"HEAD"]))]
            fields += [(b":scheme", b"https"), (b":path", b"/mcp"), (b":authority", b"a.test")]
        elif first:
            fields = [(b":status", random.choice([b"200", b"404", b"304"]))]
        else:
            return [(b"x-sum", b"%d" % random.randrange(3))]
        fields += [(b"accept", b"*/*"), (b"trace", b"%d" % random.randrange(5))]
        for _ in range(random.choice([0, 0, 1, 1, 2])):
            length = random.choice([b"0", b"64", b"1000", b"1000"])
            if self._odd():
                length = random.choice([b"", b"x", b"+5", b"9" * 16, b"9" * 5_000, b"\xb2"])
            fields.append((b"content-length", length))
            if not self._odd():
                break
        if self._odd():
            fields.insert(0, random.choice([(b":status", b"100"), (b"x", b"y"), (b":path", b"/")]))
        return fields

    def _block_frames(self, number: int, block: bytes, flags: int) -> bytes:
        random = self._random
        if random.random() < 0.08:
            block, flags = self._priority(number) + block, flags | PRIORITY
        if random.random() < 0.05:
            block, flags = self._padded(block), flags | PADDED
        if self._odd():
            flags |= random.choice([2, 0x10, 0x20, 0x20, 0x40, 0x80])
        if random.random() < 0.9:
            return frame(1, block, flags | END_HEADERS, number)
        cuts = sorted(random.randrange(len(block) + 1) for _ in range(random.choice([1, 2])))
        pieces = [block[a:b] for a, b in zip([0, *cuts], [*cuts, len(block)], strict=True)]
        said = frame(1, pieces[0], flags, number)
        for piece in pieces[1:-1]:
            said += frame(9, piece, 0, number)
        if self._odd():
            said += self._control()
        return said + frame(9, pieces[-1], 0 if self._odd() else END_HEADERS, number)

    def _priority(self, number: int) -> bytes:
        on = number if self._odd() or self._odd() else self._random.choice([0, number + 2, 1 << 31])
        return on.to_bytes(4) + b"\x10"

    def _padded(self, content: bytes) -> bytes:
        size = self._random.choice([0, 1, 100])
        return bytes((255 if self._odd() else size,)) + content + bytes(size)

    # -- bodies and windows

    def _body(self) -> bytes:
        random = self._random
        number = self._some_stream()
        if number < 0:
            return b""
        size, ended = random.choice(self._sizes), random.random() < 0.3
        window, left = self.window(number), self._left.get(number)
        if left is None and window <= 16_384:  # that much, and not a byte more
            size = window + random.choice([0, 0, 0, -1, int(self._oddity > 0)])
            size = max(0, min(16_384, size))
        if left is not None and not self._odd():
            size = min(size, left)
            ended = ended and size == left
        if left is not None:
            self._left[number] = max(0, left - size)
        if ended:
            self._end(number)
        content, flags = b"x" * size, int(ended)
        if random.random() < 0.08:
            content, flags = self._padded(content)[:16_384], flags | PADDED
        if self._odd():
            flags |= random.choice([2, 4, 0x40])
        return frame(0, content, flags, number)

    def _some_stream(self) -> int:
        random = self._random
        told = [number for number, head in self.known.items() if head]
        if self._odd():
            return random.choice([random.randrange(min(300, max(4, self._last + 3))), 2**31 - 1])
        return random.choice([told[0], *told]) if told else -1

    def _window(self) -> bytes:
        random = self._random
        number = max(0, random.choice([0, self._some_stream(), self._last]))
        step = random.choice([0, 1 << 31, *STEPS]) if self._odd() else random.choice(STEPS[:5])
        return frame(8, step.to_bytes(4)[: 3 if self._odd() else 4], 0, number)

    # -- the rest

    def _control(self) -> bytes:
        random = self._random
        number = max(1, self._last, self._some_stream())
        kinds: list[Say] = [
            self._settings,
            lambda: frame(4, b"\0" * 6 if self._odd() else b"", 1, 1 if self._odd() else 0),
            lambda: frame(6, b"12345678"[: 7 if self._odd() else 8], random.randrange(2), 0),
            self._reset,
            lambda: frame(2, self._priority(number), 0, number),
            lambda: frame(random.choice([10, 12, 0xFA]), b"\0\0any", 0, number),
        ]
        if self._odd():
            return self._rare()
        return random.choices(kinds, (4, 2, 3, 4, 2, 2))[0]()

    def _reset(self) -> bytes:
        number = max(1, self._some_stream())
        if number > self._last and not self._odd():
            return b""
        self._end(number)
        return frame(3, b"\0\0\0\x08", 0, number)

    def _rare(self) -> bytes:
        random = self._random
        number = max(0, self._some_stream())
        return random.choice(
            [
                frame(7, b"\0\0\0\x01\0\0\0\0", 0, 1 if self._odd() else 0),
                frame(9, b"\x82", END_HEADERS, number),
                frame(5, b"\0\0\0\x02\x82\x84", END_HEADERS, number or 1),
                frame(random.randrange(12), random.randbytes(random.randrange(12)), 0, number),
                frame(0, b"x" * 16_385, 0, number or 1),
                frame(3, b"\0\0\0\x08", 0, number),
                frame(10, b"\0\x06a.test" + b'h2=":1"', 0, number),
            ]
        )

    def _settings(self) -> bytes:
        random = self._random
        content = b""
        for _ in range(random.randrange(4)):
            key = random.choice([1, 2, 3, 4, 4, 5, 6, 99])
            if not self._server and key == 2:
                continue
            values = {4: WINDOWS, 5: MOST_FRAMES}.get(key) or VALUES[key]
            value = random.choice(values)
            if self._odd():
                value = BAD.get(key, value)
            content += key.to_bytes(2) + value.to_bytes(4)
        if self._odd():
            content += b"\0"
        return frame(4, content)
