"""What is no request, or too much of one, is refused before it reaches the server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.e2e import Daemon, Mesh
from support.wire import JSON, Caller, Recorder, Reply, request, tool

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: agents, namespace: mcp-prod}
spec:
  rules:
  - from: [{source: {principals: ["cluster.local/ns/agent/sa/alice"]}}]
    to:
    - operation: {paths: [/mcp], tools: ["read_*"]}
    - operation: {paths: ["/plain*"]}
"""
LIMITS = {
    "requestHeadTimeout": "1s",
    "requestBodyTimeout": "1s",
    "requestBodyBytes": "8KiB",
}
CALL = tool("read_file", path="/srv/a")


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def daemon(server: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    mesh = Mesh(tmp_path_factory.mktemp("door"))
    mesh.write("policy.yaml", POLICY)
    inbound = {"mcp": {"to": server.url, "plainPaths": ["/plain"]}}
    with mesh.run(inbound, limits=LIMITS) as running:
        yield running


@pytest.fixture
def alice(daemon: Daemon) -> Iterator[Caller]:
    with daemon.caller("agent/alice") as caller:
        yield caller


def expect_refusal(answer: Reply, status: int, code: int | None = None) -> None:
    """A refusal is JSON-RPC whatever it refuses, and says its length."""
    assert answer.status == status
    assert answer.get("content-type") == "application/json"
    error = answer.json()["error"]
    assert error["data"]["requestId"] == answer.get("x-request-id")
    assert code is None or error["code"] == code


# -- what takes too long, or is too much


def test_a_head_that_never_ends_is_given_up(alice: Caller, server: Recorder) -> None:
    before = len(server)
    alice.send(b"POST /mcp HTTP/1.1\r\nhost: files.test\r\nx-slow: ")
    answer = alice.reply()
    expect_refusal(answer, 408)
    assert answer.get("connection") == "close"
    assert alice.ended()
    assert len(server) == before


def test_a_trickle_does_not_renew_the_limit(alice: Caller) -> None:
    alice.sock.settimeout(0.3)
    alice.send(b"POST /mcp HTTP/1.1\r\nhost: files.test\r\nx-slow: ")
    for _ in range(20):
        alice.send(b"a")
        try:
            answer = alice.reply()
        except TimeoutError:
            continue
        expect_refusal(answer, 408)
        return
    raise AssertionError("the trickle was listened to for six seconds")


def test_a_body_that_never_comes_is_given_up(alice: Caller, server: Recorder) -> None:
    before = len(server)
    alice.send(request("POST", "/mcp", headers=[*JSON, ("content-length", "100")]) + b"{")
    expect_refusal(alice.reply(), 408)
    assert alice.ended()
    assert len(server) == before


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([(f"x-{number}", "a") for number in range(99)], 200),  # and Host is the hundredth
        ([(f"x-{number}", "a") for number in range(100)], 431),
        ([("x-long", "a" * 16_000)], 200),
        ([("x-long", "a" * 16_384)], 431),
        ([("x-long", "a" * 60_000)], 431),
    ],
)
def test_a_head_has_at_most_100_fields_and_16_kib(
    alice: Caller, server: Recorder, fields: list[tuple[str, str]], status: int
) -> None:
    before = len(server)
    alice.send(request("GET", "/plain", headers=fields))
    answer = alice.reply()
    assert answer.status == status
    assert len(server) - before == (status == 200)
    if status == 431:
        expect_refusal(answer, 431)
        assert alice.ended()


@pytest.mark.parametrize(("size", "status"), [(8192, 200), (8193, 413)])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_over_the_limit_is_refused(
    alice: Caller, server: Recorder, size: int, status: int, framing: str
) -> None:
    before = len(server)
    body = b"a" * size
    if framing == "length":
        alice.send(request("POST", "/plain", body, ()))
    else:
        alice.send(request("POST", "/plain", headers=[("transfer-encoding", "chunked")]))
        alice.send(b"%x\r\n%b\r\n0\r\n\r\n" % (size, body))
    answer = alice.reply()
    assert answer.status == status
    assert len(server) - before == (status == 200)
    if status == 413:
        expect_refusal(answer, 413, -32006)
        assert alice.ended()


# -- what cannot be read


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n", 501),
        ("POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n", 501),
        ("POST /mcp HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("POST /mcp HTTP/1.1\r\n\r\n", 400),
        ("POST /mcp HTTP/1.1\nhost: a\n\n", 400),
        ("POST /mcp HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n", 400),
        ("POST /mcp HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n", 400),
        ("POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n", 400),
        ("POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\n", 400),
        ("POST http://b/mcp HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", 405),
        ("POST /mcp HTTP/2.0\r\nhost: a\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("hello\r\n\r\n", 400),
    ],
)
def test_a_head_that_is_none_is_refused_and_nothing_follows_it(
    alice: Caller, server: Recorder, head: str, status: int
) -> None:
    before = len(server)
    alice.send(head.encode() + request("POST", "/mcp", CALL))
    answer = alice.reply()
    expect_refusal(answer, status)
    assert answer.get("connection") == "close"
    assert alice.ended()
    assert len(server) == before


def test_length_and_chunks_together_are_refused(alice: Caller, server: Recorder) -> None:
    before = len(server)
    fields = [*JSON, ("content-length", "5"), ("transfer-encoding", "chunked")]
    alice.send(request("POST", "/mcp", headers=fields) + b"0\r\n\r\n" + request("GET", "/plain"))
    expect_refusal(alice.reply(), 400)
    assert alice.ended()
    assert len(server) == before


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=UTF-8", 200),
        ("text/plain", 415),
        ("application/json; charset=utf-16", 415),
        ("application/jsonx", 415),
        ("", 415),
    ],
)
def test_a_message_says_that_it_is_json_where_a_rule_asks_about_mcp(
    alice: Caller, server: Recorder, content_type: str, status: int
) -> None:
    before = len(server)
    fields = [("content-type", content_type)] if content_type else []
    answer = alice.ask("POST", "/mcp", CALL, fields)
    assert answer.status == status
    assert len(server) - before == (status == 200)
    if status != 200:
        expect_refusal(answer, 415, -32600)


def test_two_content_types_are_none(alice: Caller) -> None:
    fields = [("content-type", "application/json"), ("content-type", "text/plain")]
    expect_refusal(alice.ask("POST", "/mcp", CALL, fields), 415)


def test_a_compressed_body_cannot_be_judged(alice: Caller) -> None:
    expect_refusal(alice.ask("POST", "/mcp", CALL, [*JSON, ("content-encoding", "gzip")]), 415)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"not json",
        b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}',
        b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}',
        b"\xef\xbb\xbf" + CALL,
        b'{"jsonrpc":"2.0","id":1,"method":"\xff"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":%b}'
        % (b'{"a":' * 99 + b"1" + b"}" * 99),
    ],
)
def test_what_is_no_json_is_told_so_and_the_connection_stays(
    alice: Caller, server: Recorder, body: bytes
) -> None:
    before = len(server)
    answer = alice.ask("POST", "/mcp", body)
    expect_refusal(answer, 400, -32700)
    assert len(server) == before
    assert alice.ask("POST", "/mcp", CALL).status == 200


def test_other_bodies_pass_on_plain_paths(alice: Caller, server: Recorder) -> None:
    body = bytes(range(256))
    assert alice.ask("POST", "/plain", body, [("content-type", "image/x")]).status == 200
    assert server.heard[-1].body == body
