"""What a rule may ask of the connection: the name, the address and the port that was called."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.e2e import Daemon, Mesh
from support.wire import Caller, Recorder, rpc

POLICIES = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: anyone, namespace: mcp-prod}
spec:
  rules:
  - to: [{operation: {paths: [/by-name]}}]
    when: [{key: connection.sni, values: [files.test]}]
  - to: [{operation: {paths: [/by-address]}}]
    when: [{key: destination.ip, values: [127.0.0.1]}]
  - to: [{operation: {paths: [/by-other-address]}}]
    when: [{key: destination.ip, values: [127.0.0.9]}]
  - to: [{operation: {paths: [/denied]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: mcp-prod}
spec:
  action: DENY
  rules:
  - to: [{operation: {paths: [/denied]}}]
    when: [{key: connection.sni, values: [other.test]}]
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    mesh = Mesh(tmp_path_factory.mktemp("conditions"))
    mesh.write("policies.yaml", POLICIES)
    with Recorder() as server, mesh.run({"mcp": {"to": server.url}}) as started:
        yield started


@pytest.mark.parametrize(
    ("name", "path", "status"),
    [
        ("files.test", "/by-name", 200),
        ("FILES.test", "/by-name", 200),  # a name of a handshake is what it is in lower case
        ("other.test", "/by-name", 403),
        (None, "/by-name", 403),
        ("other.test", "/denied", 403),
        ("files.test", "/denied", 200),
        (None, "/by-address", 200),
        (None, "/by-other-address", 403),
    ],
)
def test_a_rule_may_ask_what_was_called(
    daemon: Daemon, name: str | None, path: str, status: int
) -> None:
    context = daemon.mesh.context("agent/alice")
    context.check_hostname = False
    with Caller(context.wrap_socket(daemon.dial(), server_hostname=name)) as alice:
        assert alice.ask("POST", path, rpc("ping")).status == status


def test_a_rule_may_ask_for_the_port(daemon: Daemon) -> None:
    ports = POLICIES.replace("paths: [/by-address]", f'paths: [/by-port], ports: ["{daemon.port}"]')
    daemon.mesh.write("policies.yaml", ports)
    daemon.reload()
    with daemon.caller("agent/alice") as alice:
        assert alice.ask("POST", "/by-port", rpc("ping")).status == 200
    daemon.mesh.write("policies.yaml", ports.replace(f'"{daemon.port}"', '"1"'))
    daemon.reload()
    with daemon.caller("agent/alice") as alice:
        assert alice.ask("POST", "/by-port", rpc("ping")).status == 403
