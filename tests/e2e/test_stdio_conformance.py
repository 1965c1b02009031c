"""The official conformance suite passes through the bridge to a program, in both eras."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.conformance.hop import hop
from support.conformance.policies import FIXTURE
from support.conformance.suite import Suite, installed_suite
from support.daemon import PYTHON
from support.e2e import Mesh, client_context

REQUIRED = {"2025-11-25": 30, "2026-07-28": 37}

# The first run installs the suite; a program starts for each of a hundred sessions.
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not os.environ.get("SIDECAR_LONG_TESTS"), reason="SIDECAR_LONG_TESTS is unset"
    ),
]


@pytest.fixture(scope="module")
def suite(request: pytest.FixtureRequest) -> Suite:
    return installed_suite(request.config.cache.mkdir("conformance"))


@pytest.mark.parametrize("revision", REQUIRED)
def test_all_that_a_revision_requires_passes_through_the_bridge(
    suite: Suite, tmp_path: Path, revision: str
) -> None:
    mesh = Mesh(tmp_path)
    mesh.write("policy.yaml", FIXTURE)
    command = [PYTHON, "-m", "support.conformance.stdio_server"]
    program = {"command": command, "env": {"PYTHONPATH": str(Path(__file__).parents[1])}}
    with mesh.run({"mcp": {"stdio": program}}) as daemon:
        alice = client_context(mesh.mint.leaf("agent/alice"), mesh.own.bundle)
        with hop(daemon.port, alice) as way:
            report = suite.server(f"{way}/mcp", revision, tmp_path / "results")
        assert "please report it" not in daemon.said()
    assert report.code == 0, report.said
    assert len(report.passed) == len(report.scored) == REQUIRED[revision], report.said
