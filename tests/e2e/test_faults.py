"""A server that fails, in every way one can: the caller is told, and is never told half a truth."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from support.daemon import BOOTSTRAP, Sidecar, free_port, sidecar
from support.raw_caller import Broken, Caller, stats
from support.raw_upstream import Connection, RawUpstream, Script, chunk, head, reply

ALL_OF_ALICE = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: alice, namespace: mcp-prod}
spec:
  rules:
  - from: [{source: {principals: ["cluster.local/ns/agent/sa/alice"]}}]
"""
SHORT = "  limits: {{callTimeout: 1s}}\n"


def raw(data: bytes, *, closes: bool = True) -> Script:
    def script(connection: Connection) -> None:
        connection.send(data)
        if closes:
            connection.close()

    return script


def resets_after(data: bytes) -> Script:
    def script(connection: Connection) -> None:
        connection.send(data)
        time.sleep(0.2)  # a reset overtakes what the other side has not read
        connection.reset()

    return script


def silent(connection: Connection) -> None:
    connection.is_left()


EVENT = b'data: {"jsonrpc":"2.0","method":"notifications/message"}\n\n'
CHUNKED = head(200, "content-type: text/plain", "transfer-encoding: chunked")
EVENTS = head(200, "content-type: text/event-stream", "transfer-encoding: chunked")

# path: what the server says before it is gone, and what of the body may reach the caller
DYING: dict[str, tuple[bytes, bytes]] = {
    "/length": (head(200, "content-length: 100") + b"ten bytes.", b"ten bytes."),
    "/length-no-body": (head(200, "content-length: 100"), b""),
    "/chunked": (CHUNKED + chunk(b"ten bytes."), b"ten bytes."),
    "/chunked-no-chunk": (CHUNKED, b""),
    "/half-a-chunk": (CHUNKED + b"a\r\nhalf", b"half"),
    "/half-a-size": (CHUNKED + chunk(b"one") + b"1", b"one"),
    "/no-last-crlf": (CHUNKED + chunk(b"one") + b"0\r\n", b"one"),
    "/events": (EVENTS + chunk(EVENT), EVENT),
}

OK = b"content-length: 2\r\n\r\nno"
GARBAGE: dict[str, bytes] = {
    "no-http": b"220 mail.example ready\r\n\r\n",
    "no-status": b"HTTP/1.1 abc\r\n" + OK,
    "version": b"HTTP/2.0 200 OK\r\n" + OK,
    "bare-lf": b"HTTP/1.1 200 OK\ncontent-length: 2\n\nno",
    "nul": b"HTTP/1.1 200 OK\r\nx: a\0b\r\n" + OK,
    "fold": b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\n" + OK,
    "space-before-colon": b"HTTP/1.1 200 OK\r\nx : a\r\n" + OK,
    "length-and-coding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n" + OK,
    "two-lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n" + OK,
    "two-different-lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n" + OK,
    "signed-length": b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nno",
    "negative-length": b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nno",
    "other-coding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "upgrade": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n",
    "interim-flood": b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 100,
    "endless-head": b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000 + b"\r\n" + OK,
    "many-fields": b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + OK,
    "half-a-head": b"HTTP/1.1 200 OK\r\ncontent-le",
}

POISON = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"


def late_poison(connection: Connection) -> None:
    reply(b"right")(connection)
    time.sleep(0.05)
    connection.send(POISON)


def hints(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")
    reply(b"after hints")(connection)


def until_close(connection: Connection) -> None:
    raw(head(200, "content-type: text/plain") + b"to the end")(connection)


SCRIPTS: dict[str, Script] = {
    **{path: raw(data) for path, (data, _) in DYING.items()},
    **{f"{path}/reset": resets_after(data) for path, (data, _) in DYING.items()},
    **{f"/garbage/{name}": raw(data) for name, data in GARBAGE.items()},
    "/silent": silent,
    "/closes": Connection.close,
    "/resets": Connection.reset,
    "/extra": raw(
        head(200, "content-length: 5") + b"right" + POISON,
        closes=False,
    ),
    "/extra-chunked": raw(CHUNKED + chunk(b"right") + b"0\r\n\r\n" + POISON, closes=False),
    "/extra-late": late_poison,
    "/no-content": raw(head(204) + POISON, closes=False),
    "/not-modified": raw(head(304, "content-length: 99") + POISON, closes=False),
    "/hints": hints,
    "/until-close": until_close,
    "/until-reset": resets_after(head(200, "content-type: text/plain") + b"to the end"),
}


@dataclass
class World:
    """A sidecar before three servers: one by script, and two that hang up at once."""

    sidecar: Sidecar
    server: RawUpstream
    ports: dict[str, int]

    def caller(self, name: str = "") -> Caller:
        port = self.ports[name] if name else self.sidecar.port
        return Caller(port, self.sidecar.identity("agent/alice"))

    def stats(self) -> dict[str, float]:
        return stats(self.sidecar.admin)


GREETINGS: dict[str, Script] = {
    "closing": Connection.close,
    "resetting": Connection.reset,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    ports = {name: free_port() for name in GREETINGS}
    greeting = {name: RawUpstream(greet=script) for name, script in GREETINGS.items()}
    lines = [
        f"  - {{{{listen: 127.0.0.1:{ports[name]}, to: {one.url}, service: {name}}}}}\n"
        for name, one in greeting.items()
    ]
    bootstrap = BOOTSTRAP.replace("  admin:", "".join(lines) + "  admin:") + SHORT
    folder = tmp_path_factory.mktemp("faults")
    with (
        RawUpstream(SCRIPTS) as server,
        greeting["closing"],
        greeting["resetting"],
        sidecar(folder, server.url, ALL_OF_ALICE, bootstrap) as running,
    ):
        yield World(running, server, ports)


@pytest.mark.parametrize("end", ["", "/reset"])
@pytest.mark.parametrize("path", DYING)
def test_a_reply_that_is_cut_off_never_looks_whole(world: World, path: str, end: str) -> None:
    with world.caller() as caller, pytest.raises(Broken) as broken:
        caller.ask("GET", path + end)
    if path.startswith(("/chunked", "/half", "/no", "/events")):
        assert DYING[path][1].startswith(broken.value.body)
        assert end or broken.value.body == DYING[path][1]


def test_a_reply_that_ends_with_its_connection_is_whole_when_the_server_closes(
    world: World,
) -> None:
    with world.caller() as caller:
        assert caller.ask("GET", "/until-close").body == b"to the end"


def test_a_reply_that_ends_with_its_connection_is_broken_when_the_server_resets(
    world: World,
) -> None:
    with world.caller() as caller, pytest.raises(Broken):
        caller.ask("GET", "/until-reset")


@pytest.mark.parametrize("path", ["/closes", "/resets"])
def test_no_reply_at_all_is_a_bad_gateway(world: World, path: str) -> None:
    before = len(world.server.seen)
    with world.caller() as caller:
        answer = caller.ask("POST", path, b'{"a": 1}', "content-type: text/plain")
        assert answer.status == 502
        assert b'"reason":"upstream"' in answer.body.replace(b" ", b"")
        assert caller.ask("GET", "/next").status == 200
    # What may have reached the server is not sent a second time.
    assert [one.target for one in world.server.seen[before:]] == [path, "/next"]


@pytest.mark.parametrize("name", GARBAGE)
def test_what_is_no_reply_is_a_bad_gateway(world: World, name: str) -> None:
    with world.caller() as caller:
        answer = caller.ask("GET", f"/garbage/{name}")
        while answer.status < 200:
            answer = caller.reply()
        assert answer.status == 502
        assert caller.ask("GET", "/next").body == b"ok"


def test_a_server_that_never_answers_is_let_go_at_the_limit(world: World) -> None:
    with world.caller() as caller:
        answer = caller.ask("GET", "/silent")
        assert answer.status == 504
        assert b"timeout" in answer.body
        assert caller.ask("GET", "/next").status == 200
    assert world.server.until(lambda: world.server.live <= 1)


@pytest.mark.parametrize("path", ["/extra", "/extra-chunked", "/extra-late", "/no-content"])
def test_bytes_behind_a_reply_never_become_the_next_one(world: World, path: str) -> None:
    for _ in range(3):
        with world.caller() as caller:
            try:
                body = caller.ask("GET", path).body
            except Broken as broken:
                body = broken.body
        assert b"poison" not in body
        time.sleep(0.2)
        with world.caller() as caller:
            answer = caller.ask("GET", "/next")
        assert (answer.status, answer.body) == (200, b"ok")


def test_bytes_behind_a_reply_to_head_never_become_the_next_one(world: World) -> None:
    with world.caller() as caller:
        try:
            answer = caller.ask("HEAD", "/extra")
        except Broken:
            return
        assert answer.body == b""
        assert caller.ask("GET", "/next").body == b"ok"


def test_interim_replies_are_never_taken_for_the_reply(world: World) -> None:
    with world.caller() as caller:
        caller.send("GET", "/hints")
        assert caller.head().status == 103
        assert caller.reply().body == b"after hints"


@pytest.mark.parametrize("name", ["closing", "resetting"])
def test_a_server_that_hangs_up_at_once_is_a_bad_gateway(world: World, name: str) -> None:
    with world.caller(name) as caller:
        answers = [caller.ask("GET", "/") for _ in range(30)]
    assert {answer.status for answer in answers} <= {502, 503}
    assert all(b'"upstream"' in answer.body for answer in answers)


def test_after_all_that_nothing_is_left_and_nothing_was_a_bug(world: World) -> None:
    def at_rest() -> bool:
        now = world.stats()
        return all(
            now[f"cluster.{name}.upstream_rq_active"] == 0
            for name in ("127.0.0.1", "closing", "resetting")
        )

    assert world.server.until(at_rest), world.stats()
    now = world.stats()
    assert now["server.internal_faults"] == 0, world.sidecar.process.said()
    for name in ("closing", "resetting"):
        assert now[f"cluster.{name}.upstream_cx_active"] == 0
    assert now["cluster.127.0.0.1.upstream_cx_active"] == world.server.live
