"""What HTTP/2 asks of a server, frame by frame against a running sidecar, with TLS and without."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Set
from contextlib import closing

import pytest
from support.e2e import Daemon, Mesh
from support.floods import DATA, END_STREAM, GOAWAY, GREETING, HEADERS, PING, RESET, SETTINGS
from support.http2_blocks import BLOCKS
from support.http2_cases import CASES, PROTOCOL, Case
from support.http2_steps import STEPS
from support.wire import Heard, Recorder, reply

ANYBODY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: anybody, namespace: mcp-prod}
spec: {rules: [{}]}
"""
PATIENCE = 20.0
ACK = 1
NO_PREFACE = b"INVALID CONNECTION PREFACE\r\n\r\n"
Dial = Callable[[], socket.socket]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    mesh = Mesh(tmp_path_factory.mktemp("conformance"))
    mesh.write("anybody.yaml", ANYBODY)

    def answer(heard: Heard) -> bytes:
        return reply(b"" if heard.start.startswith("HEAD") else b'{"ok": true}')

    with Recorder(answer) as server:
        inbound = {"mcp": {"to": server.url, "h2c": True}}
        with mesh.run(inbound, mtls="PERMISSIVE") as daemon:
            yield daemon


def over_tls(daemon: Daemon) -> socket.socket:
    context = daemon.mesh.context("agent/alice")
    context.set_alpn_protocols(["h2"])
    sock = context.wrap_socket(daemon.dial(), server_hostname="127.0.0.1")
    assert sock.selected_alpn_protocol() == "h2"
    return sock


@pytest.fixture(params=["over TLS", "without TLS"])
def dial(daemon: Daemon, request: pytest.FixtureRequest) -> Dial:
    return lambda: over_tls(daemon) if request.param == "over TLS" else daemon.dial()


def outcomes(sock: socket.socket) -> Iterator[str]:
    """Yield what comes back, frame by frame, and how it ends."""
    told, body, acks = b"", 0, [0, 0]
    sock.settimeout(PATIENCE)
    try:
        while data := sock.recv(65_536):
            told += data
            while len(told) >= 9 and len(told) >= 9 + int.from_bytes(told[:3]):
                end = 9 + int.from_bytes(told[:3])
                kind, flags, payload = told[3], told[4], told[9:end]
                told = told[end:]
                body += len(payload) if kind == DATA else 0
                if kind == SETTINGS:
                    acks[flags & ACK] += 1
                yield from named(kind, flags, payload, body, acks)
    except TimeoutError:
        yield "SILENCE"
    except OSError:
        yield "BROKEN"
    else:
        yield "CLOSED" if not told else "CUT OFF"


def named(kind: int, flags: int, payload: bytes, body: int, acks: list[int]) -> Iterator[str]:
    if kind == GOAWAY:
        yield f"GOAWAY {int.from_bytes(payload[4:8])}"
    elif kind == RESET:
        yield f"RESET {int.from_bytes(payload)}"
    elif kind == HEADERS:
        yield "REPLY"
    elif kind == DATA:
        yield f"DATA {body}"
    elif kind == PING and flags & ACK and payload == b"12345678":
        yield "PONG"
    elif kind == SETTINGS:
        yield f"{'ACK' if flags & ACK else 'SETTINGS'} {acks[flags & ACK]}"
    if kind in (HEADERS, DATA) and flags & END_STREAM:
        yield "END"


@pytest.mark.parametrize("case", [*CASES, *BLOCKS, *STEPS], ids=lambda case: case.name)
def test_a_server_does_as_it_is_asked(dial: Dial, case: Case) -> None:
    with closing(dial()) as sock:
        sock.sendall(GREETING + case.sent)
        seen: list[str] = []
        heard = outcomes(sock)
        for awaited, more in case.then:
            until({awaited}, heard, seen)
            sock.sendall(more)
        if until(case.wanted, heard, seen).startswith("GOAWAY"):
            until({"CLOSED"}, heard, seen)


def until(wanted: Set[str], heard: Iterator[str], seen: list[str]) -> str:
    """Return which of what is *wanted* comes first; what comes is noted in *seen*."""
    for outcome in heard:
        seen.append(outcome)
        if outcome in wanted:
            return outcome
    pytest.fail(f"one of {sorted(wanted)} was to come, and {seen} did")


def test_a_connection_that_begins_otherwise_is_told_so(dial: Dial) -> None:
    with closing(dial()) as sock:
        sock.sendall(NO_PREFACE)
        assert list(outcomes(sock)) == ["SETTINGS 1", f"GOAWAY {PROTOCOL}", "CLOSED"]


def test_without_tls_a_bad_request_of_http1_is_answered_as_one(daemon: Daemon) -> None:
    with daemon.plain() as caller:
        caller.send(b"GET /a b HTTP/1.1\r\n\r\n")
        assert caller.reply().status == 400
        assert caller.ended()


def test_no_bug_was_met(daemon: Daemon) -> None:
    assert "a fault in" not in daemon.said()
