"""The fast lane accepts what hyper-h2 accepts, reads it as hyper-h2 does and leaves its state.

Two connections are told the same, one with the lane and one without: after every
step they have heard the same, said the same, and noted the same of everything.
SIDECAR_LONG_TESTS=1 asks for two hundred times as many conversations.
"""

from __future__ import annotations

from random import Random

import pytest
from support.floods import frame
from support.frames2 import Frames
from support.judge2 import Unbounded, by_hyper_h2, by_lane, state
from support.long import times

from sidecar.errors import ProtocolError
from sidecar.http.h2 import CANCEL, PROTOCOL, Data, Event, Head, Http2, Reset, Trailers
from sidecar.http.h2_lane import Lane
from sidecar.http.head import ReplyHead
from sidecar.http.trailers import Trailed

RUNS = times(500, 100_000)
PARTS = 4
STEPS = 40
OK = [b"Server: x\r\n", b"Content-Type: application/json\r\n", b"X-Odd: 1\r\n"]
OWN = b"Accept: */*\r\nx-odd: 1\r\nauthorization: t\r\ncontent-length: 7\r\n"
LARGE = [b"X-Large: " + b"v" * 17_000 + b"\r\n"]
REPLIES = [ReplyHead(status, b"", (), OK) for status in (200, 202, 404, 299)]
Outcome = tuple[object, str]
Heard = tuple[list[tuple[object, ...]], str]


class Twins:
    """The same connection twice, told the same and asked the same."""

    def __init__(self, random: Random, *, server: bool) -> None:
        self._random = random
        self._server = server
        self._streams = streams = random.choice([2, 5, 100, 100])
        self.ours: Http2 = by_lane(server=server, streams=streams)
        self.judge: Http2 = by_hyper_h2(server=server, streams=streams)
        self.apart = random.random() < 0.3  # the judge gets in one piece what ours gets in two
        if self.apart or random.random() < 0.8:
            self.ours._budget = self.judge._budget = Unbounded()  # type: ignore[assignment]
        self._takes = random.choice([0.8, 0.8, 0.3, 0.05])
        self.now = 0.0
        self.owed: list[tuple[int, int]] = []
        self.asked: list[int] = []
        self.events: list[Event] = []

    def both(self, what: str, *given: object, **named: object) -> object:
        """Ask the same of both; what they say or raise must be the same."""
        ours = outcome(self.ours, what, *given, **named)
        assert ours == outcome(self.judge, what, *given, **named)
        return ours[0]

    @property
    def room(self) -> int:
        """How many streams the peer, or we, may begin."""
        most = self._streams if self._server else self.judge.room
        return most - sum(one.open for one in self.judge._h2.streams.values())

    def agree(self) -> None:
        said: list[Outcome] = [outcome(one, "out") for one in (self.ours, self.judge)]
        if self.apart and self.judge.broken:  # what came before the fault may have been answered
            assert self.ours.broken
            return
        assert said[0] == said[1]
        assert state(self.ours) == state(self.judge)

    def hear(self, data: bytes) -> bool:
        """Have both hear *data*; False once that is the end."""
        at = self._random.randrange(len(data) + 1)
        pieces = [data[:at], data[at:]] if self._random.random() < 0.7 else [data]
        ours = self._heard(self.ours, pieces)
        theirs = self._heard(self.judge, [data] if self.apart else pieces)
        if self.apart and theirs[1]:  # which of two faults is found first is a matter of turns
            assert ours[1]
        else:
            assert ours == theirs
        self._note()
        return not ours[1]

    def _heard(self, http2: Http2, pieces: list[bytes]) -> Heard:
        heard: list[Event] = []
        fault = ""
        for piece in pieces:
            http2.feed(piece)
            more = not fault
            while more:
                try:
                    events, more = http2.turn(self.now)
                except ProtocolError as error:
                    fault, more = str(error).partition("header block")[0], False
                else:
                    heard += events
        if http2 is self.ours:
            self.events = heard
        return [plain(event) for event in heard], fault

    def _note(self) -> None:
        for event in self.events:
            if isinstance(event, Data) and event.size:
                self.owed.append((event.stream, event.size))
            if isinstance(event, Head) and self._server:
                self.asked.append(event.stream)

    def act(self, peer: Frames) -> None:
        """Do something on our side."""
        random = self._random
        if self._server or random.random() < 0.5:
            self._go_on()
        else:
            self._ask(peer)
        while self.owed and random.random() < self._takes:
            stream, size = self.owed.pop(random.randrange(len(self.owed)))
            part = random.choice([size, size, self._to_half()])
            if 0 < part < size:
                self.owed.append((stream, size - part))
                size = part
            self.both("taken", stream, size)
        if random.random() < 0.03:
            self.both("ping")
        if random.random() < 0.3:
            self.now += random.choice([0.0, 0.1, 3.0])

    def _to_half(self) -> int:
        """Return how much is to be taken until half of the connection's window is."""
        window = self.judge._h2._inbound_flow_control_window_manager
        return window.max_window_size // 2 - window._bytes_processed

    def window(self, number: int) -> int:
        """Return how much the peer may send on stream *number*."""
        known = number in self.judge._h2.streams
        return self.judge._h2.remote_flow_control_window(number) if known else 65_535

    def _ask(self, peer: Frames) -> None:
        random = self._random
        number = self.both("open")
        if not isinstance(number, int):
            return
        body = random.choice([b"", b"", b"y", b"y" * 30_000])
        more = b"x-large: " + b"v" * 20_000 + b"\r\n" if random.random() < 0.03 else b""
        method, host = random.choice([b"POST", b"HEAD", b"GET"]), random.choice([b"a.test", b""])
        head = b"%b /%b HTTP/1.1\r\nhost: %b\r\n" % (method, random.choice([b"", b"mcp"]), host)
        room = self.room
        whole = head + OWN + more + b"\r\n" + body
        if random.random() < 0.1:
            whole = Trailed.of(whole, [(b"x-sum", b"1")])
        self.both("ask", number, whole, b"http")
        if room > 0:
            peer.opened(number)
            self.asked.append(number)

    def _go_on(self) -> None:
        if not self.asked:
            return
        random = self._random
        stream = random.choice(self.asked)
        weights = (4, 5, 1, 0.5, 1) if self._server else (0, 0, 1, 0, 0)
        if not self._server and random.random() < 0.8:
            return
        match random.choices(["head", "body", "reset", "interim", "trail"], weights)[0]:
            case "head":
                reply = random.choice(REPLIES)
                if random.random() < 0.02:
                    reply = ReplyHead(200, b"", (), LARGE)
                end = random.random() < 0.2
                self.both("answer", stream, reply, random.choice([-1, 0, 1_000]), end=end)
                if end:
                    self.asked.remove(stream)
            case "interim":
                self.both("head", stream, [(b":status", b"103")])
            case "trail":
                self.both("trail", stream, [(b"x-sum", b"1"), (b"grpc-status", b"0")])
                self.asked.remove(stream)
            case "reset":
                self.both("reset", stream, random.choice([CANCEL, PROTOCOL]))
                self.asked.remove(stream)
            case _:
                end = random.random() < 0.4
                size = random.choice([0, 1, 64, 1_000, 30_000])
                self.both("body", stream, b"y" * size, end=end)
                if end:
                    self.asked.remove(stream)


def plain(event: Event) -> tuple[object, ...]:
    """Return *event* with its fields as they are, whoever made them."""
    if isinstance(event, Head | Trailers):
        fields = [(bytes(name), bytes(value)) for name, value in event.fields]
        return type(event), event.stream, fields, getattr(event, "ended", None)
    if isinstance(event, Data | Reset):
        return type(event), *event
    return type(event), repr(event)


def outcome(http2: Http2, what: str, *given: object, **named: object) -> Outcome:
    try:
        return getattr(http2, what)(*given, **named), ""
    except Exception as fault:  # whatever it is, it must be the same
        return None, f"{type(fault).__name__}: {fault}"


def talk(random: Random, *, server: bool) -> None:
    """Hold one conversation."""
    twins = Twins(random, server=server)
    peer = Frames(random, server=server, oddity=random.choice([0.0, 0.002, 0.01, 0.05, 0.2]))
    peer.window = twins.window
    twins.agree()
    said = peer.greeting()
    for _ in range(STEPS):
        for _ in range(random.choice([0, 0, 1, 3])):
            said += peer.more()
        if not twins.hear(said):
            twins.agree()
            break
        twins.agree()
        for _ in range(random.choice([0, 1, 3])):
            twins.act(peer)
        twins.agree()
        peer.room = twins.room
        said = peer.more()


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("server", [True, False], ids=["as server", "as client"])
def test_what_comes_and_goes_leaves_what_hyper_h2_leaves(server: bool, part: int) -> None:
    for run in range(RUNS // PARTS // 2):
        seed = part * RUNS + run
        try:
            talk(Random(seed), server=server)
        except AssertionError as fault:
            raise AssertionError(f"talk(Random({seed}), server={server})") from fault


BODY = b"\x83\x86\x84\x41\x01a"


@pytest.mark.parametrize("server", [True, False], ids=["as server", "as client"])
@pytest.mark.parametrize("more", [0, 1])
def test_a_body_may_fill_its_window_and_have_not_a_byte_more(server: bool, more: int) -> None:
    twins = Twins(Random(1), server=server)
    twins.apart = False
    assert twins.hear(Frames(Random(0), server=server).greeting())
    head = BODY
    if not server:
        twins.both("ask", 1, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"http")
        head = b"\x88"
    assert twins.hear(frame(1, head, 4, 1))
    for _ in range(3):
        assert twins.hear(frame(0, b"x" * 16_384, 0, 1))
    assert twins.hear(frame(0, b"x" * (16_383 + more), 0, 1)) is (more == 0)
    twins.agree()


def test_most_of_what_is_ordinary_takes_the_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    http2 = by_lane(server=True, streams=100)
    http2.feed(Frames(Random(0), server=True).greeting() + frame(1, BODY, 5, 1))
    http2.turn(0.0)
    monkeypatch.setattr(Lane, "judge", None)  # whoever asks hyper-h2 fails
    for stream in range(3, 203, 2):
        http2.feed(frame(1, BODY, 4, stream) + frame(0, b"body", 1, stream))
        http2.feed(frame(8, b"\0\0\0\1", 0, stream) + frame(8, b"\0\0\0\1"))
        events, _ = http2.turn(0.0)
        assert [type(event) for event in events] == [Head, Data]
        http2.answer(stream, REPLIES[0], 4, end=False)
        http2.body(stream, b"told", end=True)
        assert http2.out()
        http2.taken(stream, 4)
    assert http2._h2.open_inbound_streams == 1
