"""Rows 27 to 31: servers that go away over HTTP/2, and callers that flood."""

from __future__ import annotations

import select
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from support import floods
from support.floods import Pieces
from support.raw_caller import Broken, Caller
from support.raw_upstream import Connection, RawUpstream
from support.server2 import Server2
from support.wire import tool

from sidecar.http.h2_frames import FrameCutter

from .world import JSON, MIB, World, started

UPGRADE = """\
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: framed, namespace: mcp-prod}
spec:
  host: framed
  trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}
"""
PROTOCOL, COMPRESSION, CALM = 1, 9, 11  # GOAWAY says why
LONGEST = 10.0  # seconds of one flood
MOST = 16 * MIB  # bytes of one flood


class GoesAway(RawUpstream):
    """Over HTTP/2: its first connection hears three calls, answers two, and goes away.

    With `dies` it does not even answer the two. Later connections answer all they hear.
    """

    def __init__(self) -> None:
        super().__init__(greet=self._speak)
        self.heard: list[tuple[int, bytes]] = []  # connection, body
        self.dies = False
        self.first = 1

    def _speak(self, connection: Connection) -> None:
        framed, answered = Server2(), set[int]()
        while data := connection.hear():
            out = framed.hear(data)
            whole = [number for number, asked in framed.asked.items() if asked.whole]
            if connection.number == self.first:
                out += self._go_away(framed, whole, answered)
            else:
                out += answer(framed, whole, answered)
            self.heard += [  # before it is answered: who gets the answer looks at once
                (connection.number, framed.asked[number].body)
                for number in whole
                if (connection.number, framed.asked[number].body) not in self.heard
            ]
            connection.send(out)
            if self.dies and connection.number == self.first and len(whole) == 3:
                break
        connection.close()

    def _go_away(self, framed: Server2, whole: list[int], answered: set[int]) -> bytes:
        if len(whole) < 3 or answered:
            return b""
        last = whole[1]
        said = floods.frame(floods.GOAWAY, last.to_bytes(4, "big") + bytes(4))
        return said if self.dies else said + answer(framed, whole[:2], answered)


def answer(framed: Server2, whole: list[int], answered: set[int]) -> bytes:
    """Return the replies to those of *whole* that have none."""
    out = b""
    for number in whole:
        if number not in answered:
            answered.add(number)
            out += framed.reply(number, framed.asked[number].body)
    return out


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    servers = {"mcp": RawUpstream(), "framed": GoesAway()}
    inbound = {"framed": {"h2c": True}}
    limits = {"idleTimeout": "3s", "requestBodyTimeout": "5s"}
    folder = tmp_path_factory.mktemp("http2")
    with started(folder, servers, UPGRADE, inbound, limits=limits) as running:
        yield running


# -- 27


def ask_all(world: World, names: list[str]) -> list[bytes | None]:
    """Ask for the tools *names* at once; return the bodies, None where there was no good reply."""
    bodies: dict[str, bytes | None] = {}

    def ask(name: str) -> None:
        with world.caller("framed") as alice:
            try:
                answer = alice.ask("POST", "/mcp", tool(name), JSON)
            except Broken:
                bodies[name] = None
            else:
                bodies[name] = answer.body if answer.status == 200 else None

    threads = [threading.Thread(target=ask, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return [bodies[name] for name in names]


@pytest.fixture
def going(world: World) -> GoesAway:
    """The server over HTTP/2, whose next connection is the one that goes away."""
    server = world.servers["framed"]
    assert isinstance(server, GoesAway)
    server.heard.clear()
    server.first = server.connections + 1
    return server


def test_row_27_what_a_server_still_answers_is_passed_on_and_the_rest_goes_elsewhere(
    world: World, going: GoesAway
) -> None:
    going.dies = False
    names = ["one", "two", "three"]
    assert ask_all(world, names) == [tool(name) for name in names]
    by_connection = [number for number, _ in going.heard]
    assert by_connection.count(going.first) == 3
    assert by_connection.count(going.first + 1) == 1, "the third was never looked at"
    assert going.until(lambda: going.live == 1), "who goes away is left"
    assert ask_all(world, ["four"]) == [tool("four")]
    assert going.connections == going.first + 1


def test_row_27_a_server_that_goes_without_an_answer_is_called_again_for_what_it_never_saw(
    world: World, going: GoesAway
) -> None:
    going.hang_up()
    assert going.until(lambda: world.of("framed", "upstream_cx_active") == 0)
    going.dies = True
    bodies = ask_all(world, ["one", "two", "three"])
    assert bodies.count(None) == 2, "what may have been done is not done twice"
    assert [number for number, _ in going.heard if number != going.first] == [going.first + 1]


# -- 28 to 31


class Flood:
    """One connection that floods; `code` is GOAWAY's, -1 while there was none."""

    def __init__(self, world: World) -> None:
        context = world.daemon.mesh.context(world.daemon.mesh.mint.leaf("agent/mallory"))
        context.set_alpn_protocols(["h2"])
        self._sock = context.wrap_socket(world.daemon.dial(), server_hostname="127.0.0.1")
        self._sock.setblocking(False)
        self._cutter = FrameCutter(preface=False)
        self.closed = False
        self.code = -1

    def run(self, pieces: Iterator[bytes]) -> None:
        """Send *pieces* until GOAWAY comes, or the end, or enough was sent."""
        deadline, sent, waiting = time.monotonic() + LONGEST, 0, floods.GREETING
        with self._sock:
            while time.monotonic() < deadline and not self.closed and self.code < 0:
                if not waiting and sent < MOST:
                    waiting = next(pieces, b"")
                    sent += len(waiting)
                waiting = self._send(waiting)
                self._hear()

    def _send(self, data: bytes) -> bytes:
        try:
            return data[self._sock.send(data) :] if data else data
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            select.select([self._sock], [self._sock], [], 0.05)
        except OSError:
            self._hear()
            self.closed = True
        return data

    def _hear(self) -> None:
        try:
            while data := self._sock.recv(65_536):
                self._cutter.feed(data)
            self.closed = True
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            self.closed = True
        more = True
        while more:
            turn = self._cutter.turn()
            more = turn.more
            if turn.goaway is not None:
                self.code = turn.goaway.code


class Honest(threading.Thread):
    """A caller beside a flood; `worst` is how long it waited for an answer at most."""

    def __init__(self, caller: Caller) -> None:
        super().__init__(daemon=True)
        self._caller = caller
        self._done = threading.Event()
        self.worst = 0.0
        self.wrong: list[object] = []

    def run(self) -> None:
        while not self._done.is_set():
            begun = time.monotonic()
            try:
                answer = self._caller.ask("GET", "/")
            except (OSError, Broken) as error:
                self.wrong.append(error)
                return
            self.worst = max(self.worst, time.monotonic() - begun)
            if answer.status != 200:
                self.wrong.append(answer)
            time.sleep(0.005)

    def finish(self) -> None:
        self._done.set()
        self.join(20)


def expect_calm(world: World, codes: tuple[int, ...], *kinds: Callable[[], Pieces]) -> None:
    """Flood in each of these ways: it ends by one of *codes*, and costs neither others nor much."""
    for flood in kinds:
        before, busy = world.memory(), world.busy()
        with world.caller() as caller:
            honest = Honest(caller)
            honest.start()
            attack = Flood(world)
            attack.run(flood())
            honest.finish()
        name = flood.__name__
        assert not honest.wrong, name
        assert honest.worst < 2, f"{name}: the honest one had to wait"
        assert attack.code in codes, name
        assert world.busy() - busy < 3, name
        assert world.memory() - before < 16 * MIB, name


def test_row_28_a_flood_of_resets_ends_the_connection(world: World) -> None:
    expect_calm(
        world,
        (CALM,),
        floods.rapid_reset,
        floods.made_you_reset_by_window,
        floods.made_you_reset_by_data,
        floods.malformed_requests,
    )
    # What is no HTTP/2 ends it at once.
    expect_calm(world, (PROTOCOL,), floods.made_you_reset_by_no_increment)


def test_row_29_a_flood_of_control_frames_is_told_to_calm_down(world: World) -> None:
    expect_calm(
        world,
        (CALM,),
        floods.settings,
        floods.settings_that_change,
        floods.pings,
        floods.windows_of_the_connection,
        floods.windows_of_a_stream,
        floods.priorities,
        floods.unknown_frames,
    )


def test_row_30_header_blocks_that_grow_end_the_connection(world: World) -> None:
    expect_calm(
        world,
        (CALM, PROTOCOL, COMPRESSION),
        floods.continuations,
        floods.empty_continuations,
        floods.headers_without_end,
        floods.hpack_bomb,
        floods.huge_headers,
    )


def test_row_31_a_flood_of_data_that_is_none_is_told_to_calm_down(world: World) -> None:
    expect_calm(world, (CALM,), floods.empty_data, floods.data_of_one_byte, floods.data_of_padding)
