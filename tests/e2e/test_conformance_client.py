"""The suite's scenarios for a client pass where all that the client asks goes through a sidecar."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.conformance.hop import hop
from support.conformance.policies import ANY_SERVER, PLAIN_PATHS
from support.conformance.suite import Suite, installed_suite
from support.daemon import PYTHON, free_port, running
from support.e2e import Daemon, Mesh, client_context

REQUIRED = {"2025-11-25": 18, "2026-07-28": 32}
TESTS = Path(__file__).parents[1]
ASK = TESTS / "support" / "conformance" / "ask.py"

# The first run installs the suite.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def suite(request: pytest.FixtureRequest) -> Suite:
    return installed_suite(request.config.cache.mkdir("conformance"))


@dataclass
class Way:
    """A sidecar that a client's requests pass, and what runs that client."""

    daemon: Daemon
    command: str


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    folder, behind = tmp_path_factory.mktemp("way"), free_port()
    mesh, socket = Mesh(folder), folder / "s"
    mesh.write("policy.yaml", ANY_SERVER)
    server = {"to": f"http://127.0.0.1:{behind}", "host": "preserve", "plainPaths": PLAIN_PATHS}
    with mesh.run({"mcp": server}) as daemon:
        alice = client_context(mesh.mint.leaf("agent/alice"), mesh.own.bundle)
        with hop(daemon.port, alice) as origin:
            argv = [PYTHON, "-m", "support.conformance.client", "--proxy", origin]
            argv += ["--behind", str(behind), str(socket)]
            with running("client", argv, folder, {"PYTHONPATH": str(TESTS)}) as client:
                client.wait_for("serving")
                yield Way(daemon, f"{PYTHON} -S -E {ASK} {socket}")


@pytest.mark.parametrize("revision", REQUIRED)
def test_all_that_a_revision_requires_of_a_client_passes(
    suite: Suite, way: Way, tmp_path: Path, revision: str
) -> None:
    before = len(way.daemon.records())
    results = suite.clients(revision, way.command, tmp_path)
    passed = {line.get("caller_request_id") for line in way.daemon.records()[before:]}
    assert results.keys() - passed == set(), "these went another way"
    assert {name: counts for name, counts in results.items() if counts[1] or not counts[0]} == {}
    assert len(results) == REQUIRED[revision]
    assert "please report it" not in way.daemon.said()
