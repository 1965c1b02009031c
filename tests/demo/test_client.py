"""The demo's client reads every kind of reply, and tells a handshake that fails from one."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.mint import LOCAL, Mint

from sidecar.demo.client import Caller, NoConnection


@dataclass
class Script:
    """What the server answers, and what it was asked."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    port: int = 0
    bundle: Path = Path()
    certs: Path = Path()


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    script = Script()
    mint = Mint(tmp_path)
    server, alice = mint.leaf("server/files", dns=LOCAL), mint.leaf("agent/alice")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(server.bundle))
    context.load_cert_chain(server.cert, server.key)
    context.verify_mode = ssl.CERT_REQUIRED
    script.bundle, script.certs = alice.bundle, alice.folder

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            script.asked.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(script.status)
            self.send_header("content-length", str(len(script.body)))
            for name, value in script.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(script.body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(HTTPServer):
        def handle_error(self, *_: object) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as listening:
        listening.socket = context.wrap_socket(
            listening.socket, server_side=True, do_handshake_on_connect=False
        )
        script.port = listening.server_address[1]
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield script
        listening.shutdown()
        thread.join()


@pytest.fixture
def caller(script: Script) -> Iterator[Caller]:
    caller = Caller(script.port, script.bundle, script.certs)
    yield caller
    caller.close()


def test_a_call_is_a_stateless_request_with_its_mirrors(script: Script, caller: Caller) -> None:
    script.body = json.dumps({"result": {"content": [{"text": "hello"}]}}).encode()
    script.headers["x-request-id"] = "r1"
    reply = caller.call("read_file", path="notes.txt")
    assert (reply.status, reply.text, reply.request_id, reply.reason) == (200, "hello", "r1", "")
    assert reply.ms > 0
    [(headers, body)] = script.asked
    assert headers["mcp-method"] == body["method"] == "tools/call"
    assert headers["mcp-name"] == body["params"]["name"] == "read_file"
    assert headers["mcp-protocol-version"] == "2026-07-28"
    assert body["params"]["arguments"] == {"path": "notes.txt"}


def test_a_refusal_is_a_reply_with_a_reason(script: Script, caller: Caller) -> None:
    script.status = 403
    script.body = json.dumps({"error": {"code": -32004, "data": {"reason": "denied"}}}).encode()
    reply = caller.tools()
    assert (reply.status, reply.reason, reply.result) == (403, "denied", None)


@pytest.mark.parametrize("body", [b"", b"oops", b"[1]", b'{"error": {}}', b'{"result": 3}'])
def test_a_body_that_is_no_message_has_no_result(
    script: Script, caller: Caller, body: bytes
) -> None:
    script.body = body
    reply = caller.tools()
    assert (reply.result, reply.reason, reply.text) == (None, "", "")


def test_without_a_certificate_there_is_no_connection(script: Script) -> None:
    caller = Caller(script.port, script.bundle, None)
    with pytest.raises(NoConnection):
        caller.tools()
    assert script.asked == []


def test_a_server_of_another_mesh_is_not_talked_to(script: Script, tmp_path: Path) -> None:
    other = Mint(tmp_path / "other").leaf("server/files")
    caller = Caller(script.port, other.bundle, script.certs)
    with pytest.raises(NoConnection, match=r"(?i)certificate"):
        caller.connect()
    assert script.asked == []
