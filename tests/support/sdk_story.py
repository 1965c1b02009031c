"""Runs the fixture server and the client scripts, and says what a whole story must hold."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from .daemon import PYTHON, running

HERE = Path(__file__).parent
PATIENCE = 60.0
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
    with running("sdk_server", ["support.sdk_server", *more], folder) as process:
        yield process.wait_for(r"listening on (\S+)")[1]
        assert "Traceback" not in process.said(), process.said()


class Client:
    """A client script, loaded once; every story is told by a process of its own."""

    def __init__(self, process: subprocess.Popen[str], faults: IO[str]) -> None:
        self._process, self._faults = process, faults

    def tell(self, url: str, *more: str) -> Story:
        """Run the script to its end; return the story it printed."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(["--url", url, *more]) + "\n")
        self._process.stdin.flush()
        *said, end = self._until_ended()
        assert end == "ended 0", f"{end}\n{self._said()}"
        story: Story = json.loads(said[-1])
        return story

    def _until_ended(self) -> list[str]:
        """Return the lines up to the one that tells the exit code."""
        assert self._process.stdout is not None
        lines: list[str] = []
        late = threading.Timer(PATIENCE, self._process.kill)
        late.start()
        try:
            while not lines or not lines[-1].startswith("ended "):
                line = self._process.stdout.readline()
                assert line, f"the client never ended\n{self._said()}"
                lines.append(line.rstrip("\n"))
        finally:
            late.cancel()
        return lines

    def _said(self) -> str:
        self._faults.seek(0)
        return self._faults.read()


@contextmanager
def sdk_client(script: str, python: str | Path = PYTHON) -> Iterator[Client]:
    """Have *script* ready for stories, in the environment of *python*, to the end of the block."""
    argv = [str(python), str(HERE / "sdk_forks.py"), script.removesuffix(".py")]
    with (
        TemporaryFile("w+") as faults,
        subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=faults, text=True
        ) as process,
    ):
        try:
            yield Client(process, faults)
        finally:
            process.kill()


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
