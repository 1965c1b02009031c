"""Runs the fixture server and the client scripts, and says what a whole story must hold."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .daemon import PYTHON, running

HERE = Path(__file__).parent
TOOLS = [
    *("echo", "count", "ask_name", "summarise", "announce", "hang_up"),
    *("gate", "open_gate", "ledger", "poison", "whoami", "forget"),
]
ALLOWED = [name for name in TOOLS if name != "forget"]

POLICY = f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: agents, namespace: mcp-prod}}
spec:
  selector: {{matchLabels: {{app: mcp-server}}}}
  action: ALLOW
  rules:
  - from: [{{source: {{namespaces: [agent]}}}}]
    to: [{{operation: {{paths: [/mcp], tools: [{", ".join(ALLOWED)}]}}}}]
---
apiVersion: sidecar/v1
kind: Inspection
metadata: {{name: injections, namespace: mcp-prod}}
spec:
  selector: {{matchLabels: {{app: mcp-server}}}}
  patterns: [{{id: ignore-previous, text: "ignore previous instructions"}}]
  action: DENY
"""

Story = dict[str, Any]


@contextmanager
def sdk_server(folder: Path, *more: str) -> Iterator[str]:
    """Run the fixture server; yield its URL."""
    argv = [PYTHON, str(HERE / "sdk_server.py"), *more]
    with running("sdk_server", argv, folder) as process:
        yield process.wait_for(r"listening on (\S+)")[1]
        assert "Traceback" not in process.said(), process.said()


def tell(python: str | Path, script: str, url: str, *more: str) -> Story:
    """Run a client script to its end; return the story it printed."""
    argv = [str(python), str(HERE / script), "--url", url, *more]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{script} ended with {done.returncode}\n{done.stderr}"
    story: Story = json.loads(done.stdout.splitlines()[-1])
    return story


def expect_same(story: Story, tools: list[str]) -> None:
    """What holds in both eras: lists, calls, progress, and questions to the client."""
    assert not story["failed"], story["failed"]
    assert not story["errors"], story["errors"]
    assert story["tools"] == tools
    texts = story["texts"]
    assert texts["echo"] == "grüße"
    assert {texts[f"echo {number}"] for number in range(8)} == {str(n) for n in range(8)}
    assert texts["count"] == "counted to 3"
    assert story["progress"]["count"] == ["1/3 step 1", "2/3 step 2", "3/3 step 3"]
    assert texts["ask_name"] == "hello Robin"
    assert texts["summarise"] == "model said: short"
    assert story["asked"] == ["What is your name?", "Summarise: a long story"]


def expect_legacy(story: Story, tools: list[str]) -> None:
    """Sessions: the GET stream carries a notification, a lost stream is resumed, DELETE ends."""
    expect_same(story, tools)
    assert story["version"] == "2025-11-25"
    assert story["notified"] == ["notifications/tools/list_changed"]
    assert story["texts"]["hang_up"] == "resumed"
    assert story["progress"]["hang_up"] == ["1/2 before", "2/2 while away"]
    exchanges = [tuple(exchange) for exchange in story["http"]]
    gets = [(status, resumed) for method, status, resumed, _ in exchanges if method == "GET"]
    assert (200, "") in gets, "no GET stream was opened"
    assert any(status == 200 and resumed for status, resumed in gets), "nothing was resumed"
    assert ("DELETE", 200, "", True) in exchanges
    assert story["after_delete"] == 404
    assert all(session for method, _, _, session in exchanges[1:])


def expect_modern(story: Story, tools: list[str]) -> None:
    """No sessions: POST alone, and notifications on the stream that was asked for."""
    expect_same(story, tools)
    assert story["version"] == "2026-07-28"
    assert "ToolsListChanged" in story["notified"]
    assert {method for method, *_ in story["http"]} == {"POST"}
    assert not any(session for *_, session in story["http"])
