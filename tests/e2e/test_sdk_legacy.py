"""The real MCP client of the 1.x line, still the most common, works through a sidecar."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.sdk_env import legacy_python
from support.sdk_story import (
    ALLOWED,
    POLICY,
    TOOLS,
    Client,
    expect_legacy,
    sdk_client,
    sdk_server,
)
from support.two_sidecars import Behind
from support.two_sidecars import behind as run_behind

# The first run makes an environment with pip.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    with sdk_client("sdk_legacy.py", legacy_python(request.config.cache.mkdir("mcp1"))) as ready:
        yield ready


@pytest.fixture(scope="module", params=["one", "two"])
def behind(
    client: Client, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    """Through one sidecar with the client's own certificate, and through two without."""
    folder = tmp_path_factory.mktemp("legacy")
    with sdk_server(folder) as url, run_behind(request.param, folder, url, POLICY) as running:
        yield running


def test_without_a_sidecar_the_fixture_does_all_this(client: Client, tmp_path: Path) -> None:
    with sdk_server(tmp_path) as url:
        expect_legacy(client.tell(url), TOOLS)


def test_a_whole_session_passes(client: Client, behind: Behind) -> None:
    story = client.tell(behind.url, *behind.shown())
    expect_legacy(story, ALLOWED)


def test_json_replies_pass_as_well(client: Client, tmp_path: Path) -> None:
    with sdk_server(tmp_path, "--json") as url, run_behind("two", tmp_path, url, POLICY) as running:
        call = ("--only", "echo", "--argument", '{"text": "plain"}')
        story = client.tell(running.url, *running.shown(), *call)
    assert story["texts"] == {"echo": "plain"}


def test_a_denial_names_its_status(client: Client, behind: Behind) -> None:
    # This client knows no body of an HTTP error: it gives the status and ends the session.
    call = ("--only", "forget", "--argument", '{"path": "x"}')
    story = client.tell(behind.url, *behind.shown(), *call)
    assert "403" in story["failed"] + str(story["errors"])
    assert "forget" not in story["texts"]
