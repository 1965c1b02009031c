"""Requests made to be read in two ways, over sockets: none is, over HTTP/1.1 and over HTTP/2.

What must be refused is, and its server hears nothing of it; what must pass, passes once and
cleanly; and what may go either way goes cleanly, with nothing odd of it in what is forwarded.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.e2e import Daemon, Mesh
from support.speaker import Speaker
from support.wire import Heard, Recorder

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors" / "smuggling.json"
CASES: list[dict[str, Any]] = (
    json.loads(VECTORS.read_text())["vectors"] if VECTORS.is_file() else []
)
ANYBODY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: anybody, namespace: mcp-prod}
spec: {rules: [{}]}
"""
QUIET = 0.3  # seconds without a byte after which nothing more is said
PATIENCE = 6.0  # the same while what must come has not: longer than any limit of time below
LIMITS = {"requestHeadTimeout": "2s", "requestBodyTimeout": "2s"}
# What an HTTP/1 request is made of, once it was read and written anew.
CLEAN = re.compile(r"[A-Z]+ /[\x21-\x7e]* HTTP/1\.1")
NAME = re.compile(r"[!#$%&'*+.^`|~0-9a-z-]+")  # no underscore: some read `_` as `-`

pytestmark = pytest.mark.skipif(not CASES, reason="vectors/smuggling.json is not here")


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    mesh = Mesh(tmp_path_factory.mktemp("smuggling"))
    mesh.write("anybody.yaml", ANYBODY)
    return mesh


@pytest.fixture(scope="module")
def daemon(server: Recorder, mesh: Mesh) -> Iterator[Daemon]:
    inbound = {"mcp": {"to": server.url, "host": "preserve"}}
    with mesh.run(inbound, limits=LIMITS) as daemon:
        yield daemon


def raw(case: dict[str, Any]) -> bytes:
    if "raw_b64" in case:
        return base64.b64decode(case["raw_b64"])
    return b"".join(base64.b64decode(piece) * count for piece, count in case["raw_parts"])


def told(
    daemon: Daemon, mesh: Mesh, case: dict[str, Any], protocol: str, enough: Callable[[bytes], bool]
) -> bytes:
    """Send the case as it stands and return all that is said to it, which is to be *enough*."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    files = mesh.mint.leaf("agent/alice")
    context.load_verify_locations(files.bundle)
    context.load_cert_chain(files.cert, files.key)
    context.set_alpn_protocols([protocol])
    with context.wrap_socket(daemon.dial(), server_hostname="127.0.0.1") as sock:
        assert sock.selected_alpn_protocol() == protocol
        with suppress(OSError):
            sock.sendall(raw(case))
        return listened(sock, enough)


def listened(sock: socket.socket, enough: Callable[[bytes], bool]) -> bytes:
    said = b""
    sock.settimeout(PATIENCE)
    with suppress(OSError):
        while data := sock.recv(65_536):
            said += data
            sock.settimeout(QUIET if enough(said) else PATIENCE)
    return said


def of(protocol: str) -> list[Any]:
    return [pytest.param(one, id=one["id"]) for one in CASES if one["proto"] == protocol]


def hold_against(case: dict[str, Any], heard: list[Heard], refused: bool) -> None:
    """Assert that *heard*, what reached the server, is what the case may lead to."""
    for one in heard:
        assert CLEAN.fullmatch(one.start), one.start
        assert all(NAME.fullmatch(name) for name, _ in one.headers), one.headers
        lines = [one.start, *(f"{name}: {value}" for name, value in one.headers)]
        for absent in case.get("absent_upstream", ()):
            assert not any(absent in line.lower() for line in lines), (absent, lines)
        assert len(one.all("host")) == 1
        assert not one.all("transfer-encoding")
    match case["expect"]:
        case "reject":
            assert (len(heard), refused) == (case["n_upstream"], True)
        case "forward":
            assert len(heard) == case["n_upstream"]
            if "body_b64" in case:
                assert heard[0].body == base64.b64decode(case["body_b64"])
        case "either":
            assert heard or refused
            assert len(heard) <= max(case["n_upstream"], 1)


@pytest.mark.parametrize("case", of("h1"))
def test_over_http1(daemon: Daemon, mesh: Mesh, server: Recorder, case: dict[str, Any]) -> None:
    before = len(server)

    def refused(said: bytes) -> bool:
        return any(status in case.get("status", ()) for status in statuses(said))

    def enough(said: bytes) -> bool:
        answered = len(statuses(said)) >= case.get("n_upstream", 1)
        return refused(said) or (answered and case["expect"] != "reject")

    said = told(daemon, mesh, case, "http/1.1", enough)
    hold_against(case, server.since(before), refused(said))
    assert daemon.process.is_alive()


@pytest.mark.parametrize("case", of("h2"))
def test_over_http2(daemon: Daemon, mesh: Mesh, server: Recorder, case: dict[str, Any]) -> None:
    before = len(server)

    def refused(said: bytes) -> bool:
        frames = list(cut(said))
        return any(kind in (3, 7) for kind, _, _ in frames) or 400 <= status_of(frames) < 500

    def enough(said: bytes) -> bool:
        answered = bool(status_of(list(cut(said))))
        return refused(said) or (answered and case["expect"] != "reject")

    said = told(daemon, mesh, case, "h2", enough)
    hold_against(case, server.since(before), refused(said))
    assert daemon.process.is_alive()


def statuses(said: bytes) -> list[int]:
    return [int(one) for one in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]


def cut(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the kind, the flags and the payload of each whole frame."""
    while len(data) >= 9 and len(data) >= (end := 9 + int.from_bytes(data[:3])):
        yield data[3], data[4], data[9:end]
        data = data[end:]


def status_of(frames: list[tuple[int, int, bytes]]) -> int:
    """Return the status in the first head, 0 if there is none."""
    decoder = Speaker().h2.decoder
    for kind, _, payload in frames:
        if kind == 1:
            return int(dict(decoder.decode(payload))[":status"])
    return 0
