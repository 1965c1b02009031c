"""Istio's published requests against a running sidecar, where a connection can be made as they say.

Ports are other ones, as those of the suites need not be free. What a suite asks of
addresses, of claims already verified and of bytes that are not HTTP is left to
`tests/cli/test_authz_vectors.py`, which puts it to the same judge.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.daemon import free_port
from support.e2e import Daemon, Mesh, client_context
from support.mint import Files, Mint
from support.wire import Caller, Recorder

from sidecar.cli.authz_request import from_value

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors" / "authz_policy_requests.json"
ADDRESSES = ("pBlocks", "remote.ip", "source.ip", "destination.ip")
INVALID = "trap-invalid-allow-rule-is-dropped-but-policy-stays"  # no sidecar starts with it
PORT = re.compile(r'"(\d{2,5})"')


def suites() -> dict[str, list[dict[str, Any]]]:
    """The suites that can be run, by workload and mesh: of each, one sidecar runs all."""
    found: dict[str, list[dict[str, Any]]] = {}
    for suite in json.loads(VECTORS.read_text())["cases"] if VECTORS.exists() else ():
        text = json.dumps(suite["policies"])
        if suite["id"] == INVALID or any(one in text for one in ADDRESSES):
            continue
        suite["requests"] = [one for one in suite["requests"] if is_possible(one)]
        key = json.dumps([suite["workload"], suite["mesh"]])
        if suite["requests"]:
            found.setdefault(key, []).append(suite)
    return found


def is_possible(request: dict[str, Any]) -> bool:
    """Whether a connection can be what *request* says: a workload's identity has a path."""
    principal = request["source"]["principal"] or "spiffe://none/a"
    http = request["protocol"] == "http" and request.get("jwtClaims") is None
    return http and "/" in principal.removeprefix("spiffe://")


class Callers:
    """Certificates of whoever the suites name, of any trust domain."""

    def __init__(self, folder: Path, own: Mint) -> None:
        self._folder = folder
        self._mints = {own.trust_domain: own}
        self._files: dict[str, Files] = {}

    def mint(self, domain: str) -> Mint:
        if domain not in self._mints:
            self._mints[domain] = Mint(self._folder / domain, domain)
        return self._mints[domain]

    def files(self, principal: str) -> Files:
        if principal not in self._files:
            domain = principal.removeprefix("spiffe://").partition("/")[0]
            self._files[principal] = self.mint(domain).leaf(uri=[principal])
        return self._files[principal]

    def bundles(self, requests: list[dict[str, Any]]) -> dict[str, str]:
        """Write the roots of the other trust domains; return where they are."""
        found = {}
        for one in requests:
            domain = (one["source"]["principal"] or "").removeprefix("spiffe://").partition("/")[0]
            if domain and self.mint(domain) is not next(iter(self._mints.values())):
                path = self._folder / f"{domain}.pem"
                path.write_bytes(self.mint(domain).root_pem)
                path.chmod(0o644)
                found[domain] = str(path)
        return found


@contextmanager
def sidecar(
    folder: Path, group: list[dict[str, Any]], to: str
) -> Iterator[tuple[Daemon, Callers, dict[int, int]]]:
    """Run a sidecar for the workload of *group*, with a listener for each port it asks."""
    workload, mesh_spec = group[0]["workload"], group[0]["mesh"]
    mesh = Mesh(folder, mesh_spec["trustDomain"])
    callers = Callers(folder, mesh.mint)
    requests = [one for suite in group for one in suite["requests"]]
    ports = {port: free_port() for port in {one["destination"]["port"] for one in requests}}
    inbound = {str(port): {"listen": f"127.0.0.1:{real}", "to": to} for port, real in ports.items()}
    admin = free_port()
    more = {"trustDomainAliases": mesh_spec["trustDomainAliases"] or None}
    path = mesh.bootstrap(
        inbound,
        admin,
        **more,
        **{"compat": "istio", "allowEmpty": True, "trustDomain": mesh_spec["trustDomain"]},
        rootNamespace=mesh_spec["rootNamespace"],
        trustBundles=callers.bundles(requests) or None,
    )
    document = json.loads(path.read_text())
    document["metadata"].update(workload)
    path.write_text(json.dumps(document))
    with mesh.start() as process:
        daemon = Daemon(mesh, process, {str(one): ports[one] for one in ports}, admin)
        daemon.wait_ready()
        yield daemon, callers, ports


def connect(daemon: Daemon, callers: Callers, request: dict[str, Any]) -> Caller:
    inbound, principal = str(request["destination"]["port"]), request["source"]["principal"]
    if principal is None:
        return daemon.plain(inbound)
    context = client_context(callers.files(principal), daemon.mesh.own.bundle)
    return daemon.caller(context, inbound)


@pytest.mark.timeout(120)
@pytest.mark.skipif(not VECTORS.exists(), reason="authz_policy_requests.json is not here")
@pytest.mark.parametrize("group", suites().values(), ids=lambda group: group[0]["id"])
def test_a_running_sidecar_answers_as_istio_does(
    group: list[dict[str, Any]], tmp_path: Path
) -> None:
    with Recorder() as server, sidecar(tmp_path, group, server.url) as (daemon, callers, ports):
        for suite in group:
            for old in daemon.mesh.policies.iterdir():
                old.unlink()
            for number, policy in enumerate(suite["policies"]):
                text = PORT.sub(
                    lambda one: f'"{ports.get(int(one[1]), one[1])}"', json.dumps(policy)
                )
                daemon.mesh.write(f"{number}.json", text)
            assert "configuration reloaded" in daemon.reload(), daemon.said()
            for request in suite["requests"]:
                with connect(daemon, callers, request) as caller:
                    caller.send(from_value(request).wire)
                    status = caller.reply(request["method"]).status
                assert status == {"allow": 200, "deny": 403}[request["expect"]], (
                    suite["id"],
                    request,
                )


def test_most_of_the_published_requests_are_among_them() -> None:
    if VECTORS.exists():
        assert sum(len(one["requests"]) for group in suites().values() for one in group) > 190
