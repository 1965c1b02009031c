"""A list shows what its reader may use and no more: both SDKs, JSON and streams, every page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from support.daemon import Sidecar, running, sidecar
from support.sdk_env import legacy_python
from support.sdk_story import Client, Story, sdk_client

# The first run makes an environment with pip.
pytestmark = pytest.mark.timeout(300)

POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: mcp-prod}
spec:
  rules:
  - to: [{operation: {paths: [/mcp], tools: [read, search]}}]
  - to: [{operation: {paths: [/mcp], prompts: [greet, review]}}]
  - to: [{operation: {paths: [/mcp], resources: ["note:*"], notResources: ["note:secret-*"]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-drops, namespace: mcp-prod}
spec: {action: DENY, rules: [{to: [{operation: {tools: [drop]}}]}]}
"""

WHOLE = {
    "tools": [["read", "write"], ["search", "drop"]],
    "prompts": [["greet", "plan"], ["review", "leak"]],
    "resources": [["note:a", "note:b"], ["note:secret-a", "note:secret-b"]],
    "templates": [["note:{id}", "log:{day}"], ["key:{id}", "note:secret-{id}"]],
}
SHORT = {
    "tools": [["read"], ["search"]],
    "prompts": [["greet"], ["review"]],
    "resources": [["note:a", "note:b"], []],
    "templates": [["note:{id}"], []],
}


@dataclass(frozen=True)
class Behind:
    """A sidecar before the catalogue, and where the catalogue itself listens."""

    url: str
    front: Sidecar


@dataclass(frozen=True)
class Reader:
    """A client with one line of the SDK, in the era it is to speak."""

    client: Client
    era: tuple[str, ...]
    newer: bool  # what a later line of the SDK says of an error

    def past(self, behind: Behind) -> Story:
        """Ask the server itself."""
        return self.client.tell(behind.url, *self.era)

    def through(self, behind: Behind, *more: str) -> Story:
        """Ask through the sidecar."""
        certs = str(behind.front.identity("agent/alice"))
        return self.client.tell(behind.front.url, "--certs", certs, *self.era, *more)


@pytest.fixture(scope="module", params=["json", "stream"])
def behind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    folder = tmp_path_factory.mktemp(f"filtering-{request.param}")
    flags = ["--json"] if request.param == "json" else []
    with running("catalogue", ["support.sdk_catalogue", *flags], folder) as process:
        url = process.wait_for(r"listening on (\S+)")[1]
        with sidecar(folder, url, POLICY) as front:
            yield Behind(url, front)


@pytest.fixture(scope="module")
def older(request: pytest.FixtureRequest) -> Iterator[Client]:
    with sdk_client("sdk_lists.py", legacy_python(request.config.cache.mkdir("mcp1"))) as ready:
        yield ready


@pytest.fixture(scope="module")
def newer() -> Iterator[Client]:
    with sdk_client("sdk_lists.py") as ready:
        yield ready


@pytest.fixture(params=["1.x", "2.x legacy", "2.x"])
def reader(request: pytest.FixtureRequest) -> Reader:
    if request.param == "1.x":
        return Reader(request.getfixturevalue("older"), (), newer=False)
    mode = "2026-07-28" if request.param == "2.x" else "legacy"
    return Reader(request.getfixturevalue("newer"), ("--mode", mode), newer=True)


def lists(story: dict[str, Any]) -> dict[str, Any]:
    assert not story["failed"], story["failed"]
    return {name: story[name] for name in WHOLE}


def test_without_a_sidecar_all_is_listed(behind: Behind, reader: Reader) -> None:
    story = reader.past(behind)
    assert lists(story) == WHOLE
    assert story["text"] == "read"
    if story["version"] == "2026-07-28":
        assert {scope for name in WHOLE for scope in story[f"{name} scopes"]} == {"public"}


def test_every_page_shows_what_may_be_used_alone(
    behind: Behind, reader: Reader, request: pytest.FixtureRequest
) -> None:
    story = reader.through(behind)
    assert lists(story) == SHORT
    assert story["text"] == "read"
    if story["version"] == "2026-07-28":
        assert {scope for name in WHOLE for scope in story[f"{name} scopes"]} == {"private"}
    streamed = story["types"].count("text/event-stream")
    if request.node.callspec.params["behind"] == "stream":
        assert streamed >= 8
    elif story["version"] == "2026-07-28":
        assert streamed == 0


@pytest.mark.parametrize(
    ("tool", "policy"), [("write", None), ("drop", "mcp-prod/no-drops")], ids=["write", "drop"]
)
def test_a_call_of_what_is_not_listed_is_denied_by_name(
    behind: Behind, reader: Reader, tool: str, policy: str | None
) -> None:
    story = reader.through(behind, "--call", tool)
    assert 403 in story["statuses"]
    assert "text" not in story
    if reader.newer:
        assert story["code"] == -32004
        assert story["data"].get("policy") == policy
        record = behind.front.record(story["data"]["requestId"])
        assert (record["tool"], record["status"], record["upstream"]) == (tool, 403, "")
        assert record["rule"] == (f"{policy}#0" if policy else "")
