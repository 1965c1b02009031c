"""Who answers is who is meant, or nobody is called: servers with every wrong certificate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from support.mint import Mint
from support.tls_server import TlsServer
from support.two_sidecars import FILES, Near, NearMesh, entry
from support.wire import rpc

pytestmark = pytest.mark.timeout(120)

WRONG = {
    "expired": "expired",
    "not_yet_valid": "not_yet_valid",
    "two_uri_sans": "two_uri_sans",
    "no_uri_san": "no_uri_san",
    "other_trust_domain": "other_trust_domain",
    "unknown_ca": "unknown_ca",
    "wrong_purpose": "wrong_purpose",
    "ca_leaf": "ca_leaf",
}
OTHER = "spiffe://other.test/ns/mcp-prod/sa/files"


def rule(host: str, tls: str) -> str:
    return f"""\
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {host.partition(".")[0]}, namespace: agent}}
spec: {{host: {host}, trafficPolicy: {{tls: {tls}}}}}
"""


@dataclass
class World:
    """One sidecar with an outbound to each server."""

    near: Near
    servers: dict[str, TlsServer]

    def ask(self, name: str) -> tuple[int, dict]:
        with self.near.local(name) as caller:
            reply = caller.ask("POST", "/mcp", rpc("ping"))
            return reply.status, json.loads(reply.body)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("identity")
    mint, foreign = Mint(folder / "mint"), Mint(folder / "foreign", "other.test")
    servers = {
        name.replace("_", "-"): TlsServer(mint.wrong(name, "mcp-prod/files")) for name in WRONG
    }
    right = mint.leaf("mcp-prod/files", dns=["api.example"])
    trusts = mint.leaf().bundle
    servers |= {
        "right": TlsServer(right, trusts),
        "plain": TlsServer(None),
        "mails": TlsServer(mint.leaf("mcp-prod/mails")),
        "foreign": TlsServer(foreign.leaf("mcp-prod/files"), trusts),
        "borrowed": TlsServer(foreign.leaf(uri=[FILES])),
        "choosy": TlsServer(right, foreign.leaf().bundle),
        "simple": TlsServer(right),
        "misnamed": TlsServer(right),
        "written": TlsServer(None),
    }
    names = {"foreign": [OTHER], "simple": ["api.example"], "misnamed": ["other.example"]}
    ca = f'caCertificates: "{right.bundle}"'
    rules = rule("simple.mesh", f"{{mode: SIMPLE, {ca}}}")
    rules += rule("misnamed.mesh", f"{{mode: SIMPLE, {ca}}}")
    rules += rule("written.mesh", "{mode: DISABLE}")
    with ExitStack() as stack:
        for server in servers.values():
            stack.enter_context(server)
        documents = rules + "".join(
            entry([server.port], names.get(name, [FILES]), f"{name}.mesh")
            for name, server in servers.items()
        )
        # Two of one service: one of them somebody else.
        two = [servers["mails"].port, servers["right"].port]
        documents += entry(two, host="two.mesh")
        mesh = NearMesh(folder / "near", mint, mint.leaf(folder=folder / "near" / "own"))
        (mesh.folder / "other.pem").write_bytes(foreign.root_pem)
        (mesh.folder / "other.pem").chmod(0o644)
        outbounds = {name: {"service": f"{name}.mesh"} for name in [*servers, "two"]}
        bundles = {"other.test": "./other.pem"}
        near = stack.enter_context(mesh.calling(documents, outbounds, trustBundles=bundles))
        yield World(near, servers)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((name.replace("_", "-"), reason) for name, reason in WRONG.items()),
        ("plain", "plaintext"),
        ("mails", "other_identity"),
        ("borrowed", "other_trust_domain"),
        ("misnamed", "wrong_name"),
    ],
)
def test_somebody_else_is_told_nothing_and_the_caller_gets_a_clean_503(
    world: World, name: str, reason: str
) -> None:
    server = world.servers[name]
    status, body = world.ask(name)
    assert status == 503
    assert body["error"]["data"]["reason"] == "upstream"
    assert "cannot be reached" in body["error"]["message"]
    event = world.near.event(event="upstream_handshake_failed", upstream=f"127.0.0.1:{server.port}")
    assert event["reason"] == reason
    if name != "plain":  # to which the handshake's first bytes went
        assert server.heard == []
    line = world.near.record(body["error"]["data"]["requestId"])
    assert str(server.port) in line["detail"]
    stats = world.near.stats()
    assert stats[f"upstream.ssl.fail_verify.{reason}"] >= 1
    assert stats[f"cluster.{name}.mesh.upstream_cx_connect_fail"] >= 1
    assert stats[f"cluster.{name}.mesh.upstream_cx_active"] == 0


@pytest.mark.parametrize("name", ["right", "foreign", "simple", "written"])
def test_who_is_meant_is_called(world: World, name: str) -> None:
    assert world.ask(name) == (200, {})
    (heard,) = world.servers[name].heard
    assert f"host: {name}.mesh\r\n".encode() in heard
    assert b"x-forwarded-client-cert" not in heard
    assert b"x-request-id: " in heard
    if name != "written":
        assert world.servers[name].asked == [f"{name}.mesh"]


def test_where_one_of_two_is_somebody_else_the_other_serves_every_call(world: World) -> None:
    before = len(world.servers["right"].heard)
    assert [world.ask("two") for _ in range(6)] == [(200, {})] * 6
    assert len(world.servers["right"].heard) == before + 6
    assert world.servers["mails"].heard == []


def test_a_server_that_refuses_us_is_a_clean_failure(world: World) -> None:
    status, body = world.ask("choosy")
    assert status in (502, 503)
    assert body["error"]["data"]["reason"] == "upstream"
    assert world.servers["choosy"].heard == []


def test_the_numbers_are_told_to_prometheus(world: World) -> None:
    world.ask("mails")
    text = world.near.page("/metrics")[1]
    assert 'sidecar_upstream_handshake_failures_total{reason="other_identity"}' in text
