"""The official conformance suite passes through a sidecar in both eras, as it does without."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.conformance.hop import hop
from support.conformance.policies import FIXTURE
from support.conformance.suite import Suite, installed_suite
from support.daemon import running
from support.e2e import Daemon, Mesh, client_context

REQUIRED = {"2025-11-25": 30, "2026-07-28": 37}
REBINDING = "dns-rebinding-protection"
# What nobody needs to pass; the fixture has no tasks, and does all the others.
EXTENSIONS = "tasks-"

# The first run installs the suite.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def suite(request: pytest.FixtureRequest) -> Suite:
    return installed_suite(request.config.cache.mkdir("conformance"))


@contextmanager
def fixture_server(folder: Path, *more: str) -> Iterator[str]:
    """Run the fixture server; yield its origin."""
    with running("fixture", ["support.conformance.server", *more], folder) as process:
        yield process.wait_for(r"listening on (\S+)/mcp")[1].replace("127.0.0.1", "localhost")


@contextmanager
def through_sidecar(folder: Path, origin: str) -> Iterator[tuple[str, Daemon]]:
    """Run a sidecar before *origin*, and a hop to it; yield the hop's origin and the sidecar."""
    mesh = Mesh(folder)
    mesh.write("policy.yaml", FIXTURE)
    inbound = {"mcp": {"to": origin.replace("localhost", "127.0.0.1")}}
    with mesh.run(inbound) as daemon:
        alice = client_context(mesh.mint.leaf("agent/alice"), mesh.own.bundle)
        with hop(daemon.port, alice) as way:
            yield way, daemon


@pytest.mark.parametrize("revision", REQUIRED)
def test_the_fixture_server_does_all_that_a_revision_requires(
    suite: Suite, tmp_path: Path, revision: str
) -> None:
    with fixture_server(tmp_path) as origin:
        report = suite.server(f"{origin}/mcp", revision, tmp_path / "results")
    assert report.code == 0, report.said
    assert len(report.passed) == len(report.scored) == REQUIRED[revision], report.said


@pytest.mark.parametrize("revision", REQUIRED)
def test_all_that_a_revision_requires_passes_through_a_sidecar(
    suite: Suite, tmp_path: Path, revision: str
) -> None:
    # The server takes calls from every page: who keeps foreign ones away is the sidecar.
    with (
        fixture_server(tmp_path, "--any-origin") as origin,
        through_sidecar(tmp_path, origin) as (way, daemon),
    ):
        report = suite.server(f"{way}/mcp", revision, tmp_path / "results")
        refused = daemon.event(reason="denied", status=403)
        assert refused["upstream"] == ""
        assert {line["caller"] for line in daemon.records()} == {
            "spiffe://cluster.local/ns/agent/sa/alice"
        }
        assert "please report it" not in daemon.said()
    assert report.code == 0, report.said
    assert len(report.passed) == len(report.scored) == REQUIRED[revision], report.said
    assert all(name.startswith(EXTENSIONS) for name, (_, bad) in report.unscored.items() if bad)


@pytest.mark.skipif(not os.environ.get("SIDECAR_LONG_TESTS"), reason="SIDECAR_LONG_TESTS is unset")
@pytest.mark.parametrize("revision", REQUIRED)
def test_without_a_sidecar_every_page_could_call_such_a_server(
    suite: Suite, tmp_path: Path, revision: str
) -> None:
    with fixture_server(tmp_path, "--any-origin") as origin:
        report = suite.server(f"{origin}/mcp", revision, tmp_path / "results")
    assert report.scored.keys() - set(report.passed) == {REBINDING}
    assert report.code == 1
