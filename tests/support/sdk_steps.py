"""What a client of either SDK does with the fixture server, step by step.

Imported by the client scripts of `mcp` 1.x and 2.x, each in its own environment,
so it uses only what both have. What happened is collected in one `Story`, which
the script prints as JSON for the test to judge.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
from dataclasses import asdict, dataclass, field

PATIENCE = 20.0


@dataclass
class Story:
    """What one client saw; `http` lists (method, status, Last-Event-ID, has a session)."""

    version: str = ""
    tools: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    errors: dict[str, dict] = field(default_factory=dict)
    progress: dict[str, list[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    notified: list[str] = field(default_factory=list)
    http: list[list] = field(default_factory=list)
    after_delete: int = 0
    failed: str = ""

    def saw_response(self, response) -> None:
        """Take note of one HTTP exchange (an event hook of httpx)."""
        request = response.request
        seen = [request.method, response.status_code, request.headers.get("last-event-id", "")]
        self.http.append([*seen, "mcp-session-id" in request.headers])

    def tell(self) -> None:
        print(json.dumps(asdict(self)), flush=True)


def arguments() -> argparse.Namespace:
    """The command line of both scripts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--certs", default="", help="folder of svid.pem and its companions")
    parser.add_argument("--mode", default="legacy", choices=["legacy", "auto", "2026-07-28"])
    parser.add_argument(
        "--only", default="", help="call this one tool with --argument, nothing else"
    )
    parser.add_argument("--argument", default="{}", help="JSON object")
    return parser.parse_args()


def tls(certs: str) -> ssl.SSLContext | bool:
    """A context that shows our certificate and trusts our bundle alone."""
    if not certs:
        return False
    context = ssl.create_default_context(cafile=f"{certs}/svid_bundle.pem")
    context.load_cert_chain(f"{certs}/svid.pem", f"{certs}/svid_key.pem")
    return context


async def wait_until(condition) -> None:
    """Give the other side time; raise TimeoutError if *condition* never holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def call(
    client, story: Story, name: str, given: dict | None = None, *, key: str = ""
) -> None:
    """Call one tool; keep its text, its progress, or the error it got, under *key* or its name."""
    key = key or name
    steps = story.progress.setdefault(key, [])

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        steps.append(f"{progress:g}/{total or 0:g} {message}")

    try:
        result = await client.call_tool(name, given or {}, progress_callback=progressed)
    except Exception as error:
        story.errors[key] = _told(error)
        return
    story.texts[key] = result.content[0].text


async def play(client, story: Story) -> None:
    """The part that is the same in both eras and both SDKs."""
    story.tools = [tool.name for tool in (await client.list_tools()).tools]
    await call(client, story, "echo", {"text": "grüße"})
    await call(client, story, "count", {"to": 3})
    await call(client, story, "ask_name")
    await call(client, story, "summarise", {"text": "a long story"})
    await asyncio.gather(
        *(call(client, story, "echo", {"text": str(n)}, key=f"echo {n}") for n in range(8))
    )


def _told(error: Exception) -> dict:
    """An error as the peer sent it: code, message, data."""
    inner = getattr(error, "error", None)
    if inner is None:
        return {"type": type(error).__name__, "message": str(error)}
    return {"code": inner.code, "message": inner.message, "data": inner.data}
