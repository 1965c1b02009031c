"""Tokens through a real sidecar: good ones, bad ones, none, and keys that change."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.e2e import Daemon, Mesh
from support.tokens import Issuer, Signer
from support.wire import Headers, Heard, Recorder, Reply, eventually, reply, request, tool

pytestmark = pytest.mark.timeout(120)

WRITTEN = Issuer("https://written.test", Signer("written", "ES256"))
FETCHED = Issuer("https://fetched.test", Signer("fetched", "EdDSA"))
STRANGER = Issuer(WRITTEN.name, Signer("written", "ES256"))

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: people, namespace: mcp-prod}
spec:
  rules:
  - from: [{source: {requestPrincipals: ["https://written.test/*", "https://fetched.test/*"]}}]
    to: [{operation: {paths: ["/mcp", "/stream"]}}]
  - to: [{operation: {paths: ["/open"]}}]
"""


def tokens(uri: str, **more: Any) -> str:
    rules = [
        {
            "issuer": WRITTEN.name,
            "jwks": WRITTEN.jwks(),
            "audiences": ["files"],
            "fromHeaders": [{"name": "Authorization", "prefix": "Bearer "}],
            "fromParams": ["access_token"],
            "fromCookies": ["session"],
            "outputClaimToHeaders": [{"header": "x-user", "claim": "sub"}],
            "outputPayloadToHeader": "x-payload",
        },
        {"issuer": FETCHED.name, "jwksUri": uri, "timeout": "2s", **more},
    ]
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "tokens", "namespace": "mcp-prod"},
        "spec": {"jwtRules": rules},
    }
    return json.dumps(document)


class Site:
    """A sidecar, the server behind it, and a server of keys."""

    def __init__(self, mesh: Mesh, server: Recorder, keys: Recorder, daemon: Daemon) -> None:
        self.mesh = mesh
        self.server = server
        self.keys = keys
        self.daemon = daemon

    def ask(self, path: str = "/mcp", headers: Headers = ()) -> Reply:
        with self.daemon.caller("agent/alice") as caller:
            kind = ("content-type", "application/json")
            return caller.ask("POST", path, tool("read_file"), [kind, *headers])

    def bearing(self, token: str, path: str = "/mcp") -> Reply:
        return self.ask(path, [("authorization", f"Bearer {token}")])


def good(issuer: Issuer = WRITTEN, **claims: Any) -> str:
    return issuer.token(exp=int(time.time()) + 600, aud="files", **claims)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    mesh = Mesh(tmp_path_factory.mktemp("tokens"))
    mesh.write("policy.yaml", POLICY)
    with Recorder() as server, Recorder(lambda _: reply(FETCHED.jwks().encode())) as keys:
        mesh.write("tokens.yaml", tokens(f"{keys.url}/keys"))
        with mesh.run({"mcp": {"to": server.url}}) as daemon:
            yield Site(mesh, server, keys, daemon)


def test_a_good_token_is_let_through_and_not_passed_on(site: Site) -> None:
    before = len(site.server)
    token = good()
    assert site.bearing(token).status == 200
    (heard,) = site.server.since(before)
    assert heard.get("authorization") == ""
    assert heard.get("x-user") == "alice"
    assert heard.get("x-payload") == token.split(".")[1]


@pytest.mark.parametrize(
    ("path", "header", "left"),
    [
        ("/mcp?a=1&access_token={}&b=%20", (), "/mcp?a=1&b=%20"),
        ("/mcp?access_token={}", (), "/mcp"),
        ("/mcp", ("cookie", "a=1; session={}; b=2"), "/mcp"),
    ],
)
def test_a_token_is_taken_from_where_it_stands_and_out_of_it(
    site: Site, path: str, header: tuple[str, str], left: str
) -> None:
    before, token = len(site.server), good()
    headers = [(header[0], header[1].format(token))] if header else []
    assert site.ask(path.format(token), headers).status == 200
    (heard,) = site.server.since(before)
    assert heard.path == left
    assert heard.get("cookie") == ("a=1; b=2" if header else "")
    assert token not in repr(heard)


@pytest.mark.parametrize(
    ("token", "status", "message"),
    [
        (good(STRANGER), 401, "Jwt verification fails"),
        (WRITTEN.token(aud="files", exp=1), 401, "Jwt is expired"),
        (good(Issuer("https://other.test")), 401, "Jwt issuer is not configured"),
        (WRITTEN.token(aud="mail", exp=None), 403, "Audiences in Jwt are not allowed"),
        ("nonsense", 401, "Jwt is not in the form"),
    ],
    ids=["stranger", "expired", "other", "audience", "nonsense"],
)
def test_a_bad_token_is_refused_and_the_caller_told_why(
    site: Site, token: str, status: int, message: str
) -> None:
    before = len(site.server)
    for path in ("/mcp", "/open"):
        answer = site.bearing(token, path)
        assert answer.status == status
        error = answer.json()["error"]
        assert error["message"].startswith(message)
        assert error["data"]["reason"] == ("denied" if status == 403 else "unauthenticated")
        assert error["data"]["policy"] == "mcp-prod/tokens"
        challenge = f'Bearer realm="https://files.test{path}", error="invalid_token"'
        assert answer.get("www-authenticate") == challenge
    assert len(site.server) == before


def test_without_a_token_only_what_asks_for_none_is_open(site: Site) -> None:
    answer = site.ask("/mcp")
    assert (answer.status, answer.json()["error"]["message"]) == (403, "RBAC: access denied")
    assert answer.get("www-authenticate") == ""
    assert site.ask("/open").status == 200


@pytest.mark.parametrize("name", ["x-user", "X-User", "x_user", "X-USER"])
def test_nobody_but_the_sidecar_says_who_the_user_is(site: Site, name: str) -> None:
    for headers in ([], [("authorization", f"Bearer {good()}")]):
        before = len(site.server)
        assert site.ask("/open", [(name, "root"), *headers]).status == 200
        (heard,) = site.server.since(before)
        assert heard.get("x-user") == ("alice" if headers else "")
        assert "root" not in repr(heard)


def test_keys_that_are_fetched_change_without_a_restart(site: Site) -> None:
    assert site.bearing(good(FETCHED)).status == 200
    newer = Issuer(FETCHED.name, Signer("newer", "ES256"))
    assert site.bearing(good(newer)).status == 401
    site.keys.answer = lambda _: reply(newer.jwks().encode())
    eventually(lambda: site.bearing(good(newer)).status == 200, "the newer keys")
    assert site.bearing(good(FETCHED)).status == 401
    site.keys.answer = lambda _: reply(FETCHED.jwks().encode())
    eventually(lambda: site.bearing(good(FETCHED)).status == 200, "the old keys again")


def test_tokens_are_counted_and_never_shown(site: Site) -> None:
    mine, bad = good(sub="counted"), good(STRANGER)
    site.bearing(mine)
    site.bearing(bad)
    site.ask(f"/mcp?access_token={bad}")
    metrics = site.daemon.page("/metrics")[1]
    assert 'sidecar_token_checks_total{outcome="accepted"}' in metrics
    assert 'sidecar_token_checks_total{outcome="signature"}' in metrics
    eventually(
        lambda: any("header `authorization`" in x.get("detail", "") for x in site.daemon.records()),
        "the line of the bad one",
    )
    told = site.daemon.said() + (site.mesh.folder / "access.log").read_text() + metrics
    for token in (mine, bad):
        assert not any(part in told for part in token.split(".")[1:])


def streaming(heard: Heard) -> bytes:
    """Begin an event stream that does not end by itself."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    heard.socket.sendall(head + b"data: {}\n\n")
    heard.socket.recv(1)
    return b""


def test_a_stream_ends_with_its_token(site: Site) -> None:
    site.server.answers["/stream"] = streaming
    nearly = int(time.time()) - 57  # a minute is allowed for clocks that differ
    with site.daemon.caller("agent/alice") as caller, site.daemon.caller("agent/bob") as other:
        for one, exp in ((caller, nearly), (other, nearly + 600)):
            token = WRITTEN.token(aud="files", exp=exp)
            bearer = ("authorization", f"Bearer {token}")
            one.send(request("GET", "/stream", headers=[bearer]))
            assert one.head() is not None
        caller.rest()
        site.server.heard[-1].socket.sendall(b'data: {"more":1}\n\n')
        assert any(b"more" in other.line() for _ in range(20))


def test_a_stream_goes_on_while_its_token_is_good_and_ends_when_a_reload_says_no(
    site: Site,
) -> None:
    site.server.answers["/stream"] = streaming
    uri = f"{site.keys.url}/keys"
    with site.daemon.caller("agent/alice") as caller:
        bearer = ("authorization", f"Bearer {good(FETCHED)}")
        caller.send(request("GET", "/stream", headers=[bearer]))
        assert caller.head() is not None
        asked = len(site.keys)
        site.mesh.write("tokens.yaml", tokens(uri, forwardOriginalToken=True))
        assert "configuration reloaded" in site.daemon.reload()
        assert len(site.keys) == asked, "the keys of a source that stays are not fetched anew"
        site.server.heard[-1].socket.sendall(b'data: {"more":1}\n\n')
        assert any(b"more" in caller.line() for _ in range(20))
        site.mesh.write("tokens.yaml", tokens(uri, audiences=["mail"]))
        assert "configuration reloaded" in site.daemon.reload()
        caller.rest()
    site.mesh.write("tokens.yaml", tokens(uri))
    site.daemon.reload()
    assert site.bearing(good(FETCHED)).status == 200


def test_without_the_server_of_keys_tokens_are_refused_and_the_rest_goes_on(
    tmp_path: Path,
) -> None:
    mesh = Mesh(tmp_path)
    mesh.write("policy.yaml", POLICY)
    with Recorder() as gone:
        uri = f"{gone.url}/keys"
    mesh.write("tokens.yaml", tokens(uri))
    with Recorder() as server, mesh.run({"mcp": {"to": server.url}}) as daemon:
        site = Site(mesh, server, server, daemon)
        assert site.bearing(good(FETCHED)).status == 401
        assert site.bearing(good()).status == 200
        assert site.ask("/open").status == 200
        assert "the keys of tokens cannot be fetched" in daemon.said()
