"""HTTP/1 as callers and servers speak it, byte by byte, through a running sidecar."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from support.e2e import Daemon, Mesh
from support.wire import JSON, Caller, Heard, Recorder, Reply, eventually, reply, request, rpc, tool

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
LIMITS = {"requestBodyBytes": "8KiB"}
PLAIN = [f"/plain/{number}" for number in range(8)]
CALL = tool("read_file", path="/srv/a")


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def daemon(server: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    mesh = Mesh(tmp_path_factory.mktemp("door"))
    mesh.write("policy.yaml", POLICY)
    inbound = {"mcp": {"to": server.url, "plainPaths": ["/plain", *PLAIN]}}
    with mesh.run(inbound, limits=LIMITS) as running:
        yield running


@pytest.fixture
def alice(daemon: Daemon, server: Recorder) -> Iterator[Caller]:
    server.answers.clear()
    with daemon.caller("agent/alice") as caller:
        yield caller


def expect_refusal(answer: Reply, status: int, code: int | None = None) -> None:
    """A refusal is JSON-RPC whatever it refuses, and says its length."""
    assert answer.status == status
    assert answer.get("content-type") == "application/json"
    error = answer.json()["error"]
    assert error["data"]["requestId"] == answer.get("x-request-id")
    assert code is None or error["code"] == code


# -- one connection, many requests


def test_a_connection_is_kept_for_the_next_request(alice: Caller, server: Recorder) -> None:
    for number in range(5):
        assert alice.ask("POST", "/mcp", rpc("ping", number=number)).status == 200
    heard = server.heard[-5:]
    assert [one.body for one in heard] == [rpc("ping", number=number) for number in range(5)]
    assert len({one.connection for one in heard}) == 1


def test_five_requests_in_one_write_are_answered_in_their_order(
    alice: Caller, server: Recorder
) -> None:
    server.answers["/plain"] = lambda heard: reply(heard.body)
    bodies = [rpc("ping", number=number) for number in range(5)]
    alice.send(b"".join(request("POST", "/plain", body) for body in bodies))
    assert [alice.reply().body for _ in bodies] == bodies


def test_a_refused_request_among_five_holds_nothing_up(alice: Caller, server: Recorder) -> None:
    before = len(server)
    names = ["read_a", "read_b", "drop_c", "read_d", "read_e"]
    alice.send(b"".join(request("POST", "/mcp", tool(name)) for name in names))
    assert [alice.reply().status for _ in names] == [200, 200, 403, 200, 200]
    assert len(server) - before == 4


def test_requests_cut_anywhere_are_the_same_requests(alice: Caller, server: Recorder) -> None:
    before = len(server)
    for at in range(1, 200, 23):
        data = request("POST", "/mcp", CALL)
        alice.send(data[:at])
        alice.send(data[at:])
        assert alice.reply().status == 200
    assert {heard.body for heard in server.since(before)} == {CALL}


# -- bodies


@pytest.mark.parametrize("sizes", [[1] * len(CALL), [7, 20, len(CALL) - 27], [len(CALL)]])
def test_a_chunked_request_goes_on_with_its_length(
    alice: Caller, server: Recorder, sizes: list[int]
) -> None:
    rest = CALL
    alice.send(request("POST", "/mcp", headers=[*JSON, ("Transfer-Encoding", "chunked")]))
    for size in sizes:
        piece, rest = rest[:size], rest[size:]
        alice.send(b"%x;extension=1\r\n%b\r\n" % (len(piece), piece))
    alice.send(b"0\r\nx-trailer: dropped\r\n\r\n")
    assert alice.reply().status == 200
    heard = server.heard[-1]
    assert heard.body == CALL
    assert heard.get("content-length") == str(len(CALL))
    assert heard.all("transfer-encoding") == []
    assert heard.all("x-trailer") == []


def test_the_way_is_free_for_the_body_once(alice: Caller, server: Recorder) -> None:
    alice.send(
        request(
            "POST",
            "/mcp",
            headers=[*JSON, ("content-length", str(len(CALL))), ("expect", "100-continue")],
        )
    )
    assert alice.head() is not None
    for at in range(0, len(CALL), 20):
        alice.send(CALL[at : at + 20])
    answer = alice.reply()
    assert (answer.status, answer.interim) == (200, ())
    assert server.heard[-1].all("expect") == []
    assert alice.ask("POST", "/mcp", CALL).interim == ()


def test_who_expects_to_be_told_but_sends_at_once_is_answered(alice: Caller) -> None:
    alice.send(request("POST", "/mcp", CALL, [*JSON, ("expect", "100-continue")]))
    answer = alice.reply()
    assert answer.status == 200
    assert len(answer.interim) <= 1


def test_a_body_that_will_be_refused_is_not_asked_for(alice: Caller, server: Recorder) -> None:
    before = len(server)
    fields = [*JSON, ("content-length", "9000"), ("expect", "100-continue")]
    alice.send(request("POST", "/mcp", headers=fields))
    answer = alice.reply()
    expect_refusal(answer, 413, -32006)
    assert answer.interim == ()
    assert alice.ended()
    assert len(server) == before


def test_any_other_expectation_fails(alice: Caller) -> None:
    alice.send(request("POST", "/mcp", CALL, [*JSON, ("expect", "a miracle")]))
    expect_refusal(alice.reply(), 417)


# -- replies without a body


@pytest.mark.parametrize(
    ("method", "status", "fields"),
    [
        ("HEAD", "200 OK", [("content-length", "1234"), *JSON]),
        ("GET", "204 No Content", []),
        ("GET", "304 Not Modified", [("content-length", "1234"), ("etag", '"a"')]),
    ],
)
def test_a_reply_without_a_body_ends_with_its_head(
    alice: Caller, server: Recorder, method: str, status: str, fields: list[tuple[str, str]]
) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    server.answers["/plain/1"] = lambda _: f"HTTP/1.1 {status}\r\n{lines}\r\n".encode()
    for _ in range(2):  # and the next reply on this connection is read from its beginning
        answer = alice.ask(method, "/plain/1", headers=())
        assert answer.status == int(status[:3])
        assert answer.get("content-length") == dict(fields).get("content-length", "")
        assert answer.all("transfer-encoding") == []
    assert alice.ask("POST", "/mcp", CALL).status == 200


def test_a_refusal_of_head_has_no_body(alice: Caller) -> None:
    answer = alice.ask("HEAD", "/elsewhere", headers=())
    assert answer.status == 403
    assert int(answer.get("content-length")) > 0
    assert alice.ask("POST", "/mcp", CALL).status == 200


def test_early_hints_go_on_before_the_reply(alice: Caller, server: Recorder) -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n"
    server.answers["/plain/2"] = lambda _: hint + hint + reply()
    answer = alice.ask("GET", "/plain/2", headers=())
    assert answer.status == 200
    assert [head.start for head in answer.interim] == ["HTTP/1.1 103 Early Hints"] * 2
    assert answer.interim[0].get("link") == "</a>; rel=preload"


def test_a_servers_100_is_not_passed_on(alice: Caller, server: Recorder) -> None:
    server.answers["/plain/2"] = lambda _: b"HTTP/1.1 100 Continue\r\n\r\n" + reply()
    answer = alice.ask("GET", "/plain/2", headers=())
    assert (answer.status, answer.interim) == (200, ())


def test_an_upgrade_that_nobody_asked_for_is_a_broken_reply(
    alice: Caller, server: Recorder
) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"
    server.answers["/plain/3"] = lambda _: switch + b"anything at all"
    fields = [("connection", "upgrade"), ("upgrade", "x")]
    answer = alice.ask("GET", "/plain/3", headers=fields)
    expect_refusal(answer, 502, -32009)
    heard = server.heard[-1]
    assert heard.all("upgrade") == heard.all("connection") == []
    assert alice.ask("POST", "/mcp", CALL).status == 200


# -- how replies are framed


def chunked(pieces: list[bytes]) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(x), x) for x in pieces) + b"0\r\n\r\n"


def test_a_chunked_reply_stays_chunked(alice: Caller, server: Recorder) -> None:
    server.answers["/plain/4"] = lambda _: chunked([b"one ", b"two ", b"three"])
    answer = alice.ask("GET", "/plain/4", headers=())
    assert answer.body == b"one two three"
    assert answer.get("transfer-encoding") == "chunked"
    assert alice.ask("POST", "/mcp", CALL).status == 200


def test_a_caller_of_http_1_0_gets_no_chunks_and_the_end_of_the_connection(
    alice: Caller, server: Recorder
) -> None:
    server.answers["/plain/4"] = lambda _: chunked([b"one ", b"two ", b"three"])
    alice.send(b"GET /plain/4 HTTP/1.0\r\nhost: files.test\r\n\r\n")
    head = alice.head()
    assert head is not None
    assert head.all("transfer-encoding") == []
    assert head.get("connection") == "close"
    assert alice.rest() == b"one two three"


def test_an_old_caller_without_host_is_served_and_left(alice: Caller, server: Recorder) -> None:
    alice.send(b"GET /plain HTTP/1.0\r\n\r\n")
    answer = alice.reply()
    assert (answer.status, answer.get("connection")) == (200, "close")
    assert alice.ended()
    assert server.heard[-1].start == "GET /plain HTTP/1.1"


def test_a_reply_that_ends_with_its_connection_has_an_end_for_the_caller(
    alice: Caller, server: Recorder
) -> None:
    def until_close(heard: Heard) -> bytes:
        heard.socket.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nall ")
        heard.socket.sendall(b"of it")
        return b""

    server.answers["/plain/5"] = until_close
    assert alice.ask("GET", "/plain/5", headers=()).body == b"all of it"
    assert alice.ask("POST", "/mcp", CALL).status == 200


@pytest.mark.parametrize(
    "cut",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\ncontent-type: text/plain\r\n\r\nonly a part",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/plain\r\n\r\n"
        b"b\r\nonly a part\r\n",
    ],
)
def test_a_reply_that_breaks_off_never_looks_whole(
    alice: Caller, server: Recorder, cut: bytes
) -> None:
    def break_off(heard: Heard) -> bytes:
        heard.socket.sendall(cut)
        return b""

    server.answers["/plain/5"] = break_off
    alice.send(request("GET", "/plain/5", headers=()))
    said = alice.rest()
    assert not said.endswith(b"0\r\n\r\n")
    assert b"content-length: 11\r\n" not in said


# -- who closes


def test_a_caller_that_asks_to_close_is_closed(alice: Caller, server: Recorder) -> None:
    answer = alice.ask("POST", "/mcp", CALL, [*JSON, ("connection", "close")])
    assert (answer.status, answer.get("connection")) == (200, "close")
    assert alice.ended()
    assert server.heard[-1].all("connection") == []


def test_a_server_that_closes_is_called_anew_and_the_caller_stays(
    alice: Caller, server: Recorder
) -> None:
    fields = [*JSON, ("Connection", "close")]
    server.answers["/plain/6"] = lambda _: reply(headers=fields)
    first = alice.ask("GET", "/plain/6", headers=())
    assert (first.status, first.all("connection")) == (200, [])
    second = alice.ask("GET", "/plain/6", headers=())
    assert second.status == 200
    assert len({heard.connection for heard in server.heard[-2:]}) == 2


def test_a_server_that_closed_an_idle_connection_costs_no_call(
    daemon: Daemon, alice: Caller, server: Recorder
) -> None:
    assert alice.ask("POST", "/mcp", CALL).status == 200
    active = "cluster.127.0.0.1.upstream_cx_active"
    server.hang_up()
    eventually(lambda: daemon.stats()[active] == 0, "idle connections seen as closed")
    assert alice.ask("POST", "/mcp", CALL).status == 200


# -- what the server is sent


def test_the_server_sees_its_own_host_and_no_field_of_the_hop(
    alice: Caller, server: Recorder
) -> None:
    fields = [
        *JSON,
        ("Connection", "keep-alive, X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "trailers"),
        ("Proxy-Authorization", "secret"),
        ("Accept-Encoding", "gzip"),
        ("X-Kept", "yes"),
    ]
    assert alice.ask("POST", "/mcp", CALL, fields).status == 200
    heard = server.heard[-1]
    assert heard.get("host") == server.url.removeprefix("http://")
    assert heard.get("x-kept") == "yes"
    gone = {"connection", "x-hop", "keep-alive", "te", "proxy-authorization", "accept-encoding"}
    assert gone & {name for name, _ in heard.headers} == set()


@pytest.mark.parametrize("listed", ["host", "content-length", "content-type"])
def test_what_makes_a_message_is_not_hop_by_hop(alice: Caller, listed: str) -> None:
    fields = [*JSON, ("connection", listed)]
    expect_refusal(alice.ask("POST", "/mcp", CALL, fields), 400)


def test_a_server_that_cannot_be_reached_is_told_as_such(
    daemon: Daemon, tmp_path_factory: pytest.TempPathFactory
) -> None:
    mesh = Mesh(tmp_path_factory.mktemp("nobody"))
    mesh.write("policy.yaml", POLICY)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        with (
            mesh.run({"mcp": {"to": f"http://127.0.0.1:{port}"}}) as lonely,
            lonely.caller("agent/alice") as alice,
        ):
            answer = alice.ask("POST", "/mcp", CALL)
            expect_refusal(answer, 503, -32009)
            assert alice.ask("POST", "/mcp", CALL).status == 503


def test_two_listeners_before_two_servers_of_one_address_never_mix_them_up(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    mesh = Mesh(tmp_path_factory.mktemp("two"))
    mesh.write("policy.yaml", POLICY)
    with (
        Recorder() as first,
        Recorder() as second,
        mesh.run({"first": {"to": first.url}, "second": {"to": second.url}}) as daemon,
    ):
        for inbound, heard in (("first", (1, 0)), ("second", (1, 1)), ("first", (2, 1))):
            with daemon.caller("agent/alice", inbound) as alice:
                assert alice.ask("POST", "/mcp", CALL).status == 200
            assert (len(first), len(second)) == heard
        assert len([name for name in daemon.stats() if name.endswith("upstream_rq_2xx")]) == 2
