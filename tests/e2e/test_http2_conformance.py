"""What HTTP/2 asks of a server, frame by frame against a running sidecar."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from support.e2e import Daemon, Mesh
from support.floods import DATA, GOAWAY, GREETING, HEADERS, PING, RESET, SETTINGS
from support.http2_cases import CASES, Case
from support.wire import Heard, Recorder, reply

ANYBODY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: anybody, namespace: mcp-prod}
spec: {rules: [{}]}
"""
PATIENCE = 20.0
ACK = 1


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    mesh = Mesh(tmp_path_factory.mktemp("conformance"))
    mesh.write("anybody.yaml", ANYBODY)

    def answer(heard: Heard) -> bytes:
        return reply(b"" if heard.start.startswith("HEAD") else b'{"ok": true}')

    with Recorder(answer) as server:
        inbound = {"mcp": {"to": server.url, "h2c": True}}
        with mesh.run(inbound, mtls="DISABLE") as daemon:
            yield daemon


def outcomes(sock: socket.socket) -> Iterator[str]:
    """Yield what comes back, frame by frame, and how it ends."""
    told, body = b"", 0
    sock.settimeout(PATIENCE)
    try:
        while data := sock.recv(65_536):
            told += data
            while len(told) >= 9 and len(told) >= 9 + int.from_bytes(told[:3]):
                end = 9 + int.from_bytes(told[:3])
                kind, flags, payload = told[3], told[4], told[9:end]
                told = told[end:]
                body += len(payload) if kind == DATA else 0
                yield from named(kind, flags, payload, body)
    except TimeoutError:
        yield "SILENCE"
    except OSError:
        yield "CLOSED"
    else:
        yield "CLOSED"


def named(kind: int, flags: int, payload: bytes, body: int) -> Iterator[str]:
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
    elif kind == SETTINGS and flags & ACK:
        yield "ACK"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_server_does_as_it_is_asked(daemon: Daemon, case: Case) -> None:
    with daemon.dial() as sock:
        sock.sendall((GREETING if case.greeted else b"") + case.sent)
        seen = []
        for outcome in outcomes(sock):
            seen.append(outcome)
            if outcome in case.wanted:
                return
    pytest.fail(f"one of {sorted(case.wanted)} was to come, and {seen} did")


def test_no_bug_was_met(daemon: Daemon) -> None:
    assert "a fault in" not in daemon.said()
