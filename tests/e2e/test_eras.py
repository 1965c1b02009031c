"""Both eras on one endpoint: what passes is not touched, and a refusal is right for its era."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.e2e import Daemon, Mesh
from support.wire import Caller, Headers, Recorder, Reply, reply, rpc

MODERN, LEGACY = "2026-07-28", "2025-11-25"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}
POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: agents, namespace: mcp-prod}
spec:
  rules:
  - from: [{source: {namespaces: [agent]}}]
    to:
    - operation: {paths: [/mcp], tools: [search]}
    - operation: {paths: [/mcp], mcpMethods: ["no/*"]}
---
apiVersion: sidecar/v1
kind: Inspection
metadata: {name: injections, namespace: mcp-prod}
spec:
  patterns: [{id: ignore, text: "ignore previous instructions"}]
  action: DENY
"""
# Given up by the stateless era: whoever got one would take us for a server of the older one.
GIVEN_UP = {-32002, -32042}


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def daemon(server: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    mesh = Mesh(tmp_path_factory.mktemp("eras"))
    mesh.write("policy.yaml", POLICY)
    inbound = {
        "mcp": {"to": server.url},
        "open": {"to": server.url, "allowedOrigins": ["*"]},
        "app": {"to": server.url, "allowedOrigins": ["https://app.example"]},
    }
    with mesh.run(inbound) as running:
        yield running


@pytest.fixture
def alice(daemon: Daemon) -> Iterator[Caller]:
    with daemon.caller("agent/alice") as caller:
        yield caller


def modern(method: str, name: str = "", **params: Any) -> tuple[bytes, Headers]:
    """One request of the stateless era, body and headers."""
    mirrors = [("mcp-protocol-version", MODERN), ("mcp-method", method)]
    if name:
        params["name"] = name
        mirrors.append(("mcp-name", name))
    body = rpc(method, {**params, "_meta": META}, number=7)
    return body, [("content-type", "application/json"), *mirrors]


def legacy(method: str, **params: Any) -> tuple[bytes, Headers]:
    """One request of a session, body and headers."""
    session = [("mcp-session-id", "s-1"), ("mcp-protocol-version", LEGACY)]
    return rpc(method, params, number=7), [("content-type", "application/json"), *session]


# -- what passes


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", [("accept", "text/event-stream"), ("mcp-session-id", "s-1")]),
        ("GET", [("accept", "text/event-stream"), ("last-event-id", "e-9")]),
        ("DELETE", [("mcp-session-id", "s-1"), ("mcp-protocol-version", LEGACY)]),
    ],
)
def test_what_only_sessions_have_passes_with_its_headers(
    alice: Caller, server: Recorder, method: str, headers: Headers
) -> None:
    before = len(server)
    assert alice.ask(method, "/mcp", headers=headers).status == 200
    [heard] = server.since(before)
    assert heard.start == f"{method} /mcp HTTP/1.1"
    assert all(heard.get(name) == value for name, value in headers)


def test_what_mirrors_a_body_passes_as_it_came(alice: Caller, server: Recorder) -> None:
    before = len(server)
    body, headers = modern("tools/call", "search", arguments={"region": "eu"})
    headers = [*headers, ("mcp-param-region", "eu"), ("mcp-param-unknown", "x")]
    assert alice.ask("POST", "/mcp", body, headers).status == 200
    [heard] = server.since(before)
    assert heard.body == body
    assert all(heard.get(name) == value for name, value in headers)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("404 Not Found", -32601),
        ("400 Bad Request", -32020),
        ("400 Bad Request", -32021),
        ("400 Bad Request", -32022),
        ("200 OK", -32002),
    ],
)
@pytest.mark.parametrize("era", [modern, legacy])
def test_what_a_server_says_no_with_passes_unchanged(
    alice: Caller, server: Recorder, era: Any, status: str, code: int
) -> None:
    said = json.dumps({"jsonrpc": "2.0", "id": 7, "error": {"code": code, "message": "no"}})
    server.answer = lambda _: reply(said.encode(), status)
    try:
        answer = alice.ask("POST", "/mcp", *era("no/such"))
    finally:
        server.answer = lambda _: reply()
    assert (answer.start, answer.body) == (f"HTTP/1.1 {status}", said.encode())


def test_a_lost_session_is_told_as_the_server_tells_it(alice: Caller, server: Recorder) -> None:
    server.answer = lambda _: reply(b"no such session", "404 Not Found", ())
    try:
        answer = alice.ask("POST", "/mcp", *legacy("tools/list"))
    finally:
        server.answer = lambda _: reply()
    assert (answer.status, answer.body) == (404, b"no such session")


# -- what is refused


def error(answer: Reply) -> dict[str, Any]:
    """Return the error of a refusal; fail if it is not one of JSON-RPC."""
    assert answer.get("content-type") == "application/json"
    message = answer.json()
    assert set(message) == {"jsonrpc", "id", "error"}
    assert message["error"]["code"] not in GIVEN_UP
    return {**message["error"], "id": message["id"]}


@pytest.mark.parametrize("era", [modern, legacy])
@pytest.mark.parametrize(
    ("params", "status", "code"),
    [
        ({"name": "drop"}, 403, -32004),
        ({"name": "search", "arguments": {"q": "Ignore previous instructions"}}, 403, -32005),
        ({"name": ["search"]}, 400, -32602),
    ],
)
def test_a_refusal_answers_the_call_as_a_server_would(
    alice: Caller, server: Recorder, era: Any, params: dict[str, Any], status: int, code: int
) -> None:
    before = len(server)
    body, headers = era("tools/call", **params)
    answer = alice.ask("POST", "/mcp", body, headers)
    refused = error(answer)
    assert (answer.status, refused["code"], refused["id"]) == (status, code, 7)
    assert len(server) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mcp-protocol-version", LEGACY),
        ("mcp-method", "tools/list"),
        ("mcp-name", "drop"),
        ("mcp-name", "=?base64?ZHJvcA==?="),
        ("mcp-name", None),
        ("mcp-method", None),
        ("mcp-protocol-version", None),
        ("mcp-param-region", "us"),
    ],
)
def test_headers_that_say_something_else_than_the_body_are_a_mismatch(
    alice: Caller, server: Recorder, name: str, value: str | None
) -> None:
    before = len(server)
    body, headers = modern("tools/call", "search", arguments={"region": "eu"})
    headers = [(known, said) for known, said in headers if known != name]
    if value is not None:
        headers.append((name, value))
    answer = alice.ask("POST", "/mcp", body, headers)
    assert (answer.status, error(answer)["code"], error(answer)["id"]) == (400, -32020, 7)
    assert len(server) == before


# -- pages in browsers


@pytest.mark.parametrize(
    ("inbound", "origin", "status"),
    [
        ("mcp", "http://evil.example.com", 403),
        ("mcp", "null", 403),
        ("mcp", "http://localhost.evil.example", 403),
        ("mcp", "http://localhost:3000", 200),
        ("mcp", "http://127.0.0.1", 200),
        ("mcp", "http://[::1]:80", 200),
        ("mcp", None, 200),
        ("app", "https://app.example", 200),
        ("app", "https://app.example:443", 200),
        ("app", "http://localhost:3000", 403),
        ("app", None, 200),
        ("open", "http://evil.example.com", 200),
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_pages_of_other_origins_may_not_call(
    daemon: Daemon, server: Recorder, method: str, inbound: str, origin: str | None, status: int
) -> None:
    body, headers = modern("tools/call", "search") if method == "POST" else (b"", ())
    before = len(server)
    if origin is not None:
        headers = [*headers, ("origin", origin)]
    with daemon.caller("agent/alice", inbound) as caller:
        # Once as a line that was never seen, once as one that is remembered.
        for _ in range(2):
            answer = caller.ask(method, "/mcp", body, headers)
            assert answer.status == status
            if status == 403:
                assert error(answer)["data"]["reason"] == "denied"
            elif origin is not None:
                assert server.heard[-1].get("origin") == origin
    assert len(server) == before + (2 if status == 200 else 0)


def test_two_origins_are_none(alice: Caller) -> None:
    twice = [("origin", "http://localhost"), ("origin", "http://localhost")]
    assert alice.ask("GET", "/mcp", headers=twice).status == 403


def test_who_refuses_a_page_writes_down_which(daemon: Daemon, alice: Caller) -> None:
    headers = [("origin", "http://page.example")]
    answer = alice.ask("GET", "/mcp", headers=headers)
    line = daemon.event(request_id=error(answer)["data"]["requestId"])
    assert (line["reason"], line["upstream"]) == ("denied", "")
    assert "http://page.example" in line["detail"]


def test_over_plaintext_pages_may_not_call_either(server: Recorder, tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    mesh.write(
        "policy.yaml",
        POLICY.replace("  - from: [{source: {namespaces: [agent]}}]\n    to:", "  - to:"),
    )
    with mesh.run({"mcp": {"to": server.url}}, mtls="DISABLE") as plain, plain.plain() as caller:
        for origin, status in (("http://evil.example", 403), ("http://localhost:1", 200)):
            body, headers = modern("tools/call", "search")
            answer = caller.ask("POST", "/mcp", body, [*headers, ("origin", origin)])
            assert answer.status == status
