"""The client that the official conformance suite is run against, on the real MCP SDK (2.x).

Run as `python -m support.conformance.client SOCKET`: it serves one scenario after
another, since most of a client's time would go into its start. The suite runs
`ask.py`, which tells it the scenario and the URL of its server; it does there all that
a scenario may look for. With `--proxy` its requests to that server, and no others, go
by that proxy; their URL stays what it is. Whatever comes to the port `--behind` then
comes to that server. All its requests name their scenario as their `x-request-id`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import traceback
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from .hop import hop
from .login import login

PATIENCE = 12.0
_SAMPLES = {"number": 1, "integer": 1, "boolean": True, "array": [], "object": {}}


@dataclass(frozen=True)
class Task:
    """One scenario: its name, the version it is of, what else it tells, and its server."""

    scenario: str
    version: str
    context: dict[str, Any]
    url: str

    @property
    def origin(self) -> str:
        return f"http://{urlsplit(self.url).netloc}"


async def converse(task: Task, proxy: str) -> None:
    """Do with the server of *task* what its scenario wants to see."""
    mounts = {task.origin: httpx2.AsyncHTTPTransport(proxy=proxy or None)}
    auth = login(task.url, task.context) if task.scenario.startswith("auth/") else None
    async with (
        httpx2.AsyncClient(
            mounts=mounts,
            auth=auth,
            headers={"x-request-id": task.scenario},
            timeout=PATIENCE,
            follow_redirects=True,
            trust_env=False,
        ) as http,
        Client(
            streamable_http_client(task.url, http_client=http),
            mode="auto" if task.version >= "2026-07-28" else "legacy",
            elicitation_callback=_accept_defaults,
            read_timeout_seconds=PATIENCE,
        ) as client,
    ):
        has = client.server_capabilities
        if has.tools is not None or task.scenario.startswith(("auth/", "initialize")):
            await use_tools(client, task)
        if has.resources is not None:
            for resource in (await client.list_resources()).resources:
                await client.read_resource(str(resource.uri))
        if has.prompts is not None:
            for prompt in (await client.list_prompts()).prompts:
                await client.get_prompt(prompt.name)


async def use_tools(client: Client, task: Task) -> None:
    """Call every tool there is, with the arguments that the scenario gives or with samples."""
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    asked = [(call["name"], call["arguments"]) for call in task.context.get("toolCalls", [])]
    if "json_schema_echo" in tools:
        asked = [("json_schema_echo", {"schema": tools["json_schema_2020_12_tool"].input_schema})]
    for name, arguments in asked or [(name, samples(tool)) for name, tool in tools.items()]:
        await client.call_tool(name, arguments)


def samples(tool: types.Tool) -> dict[str, Any]:
    """Return a value for each argument that *tool* requires."""
    properties = tool.input_schema.get("properties", {})
    return {
        name: _SAMPLES.get(properties.get(name, {}).get("type"), "sample")
        for name in tool.input_schema.get("required", [])
    }


async def _accept_defaults(_context: Any, params: Any) -> types.ElicitResult:
    """Answer as a person who changes nothing in the form."""
    fields = getattr(params, "requested_schema", {}).get("properties", {})
    content = {
        name: schema.get("default", _SAMPLES.get(schema.get("type"), "sample"))
        for name, schema in fields.items()
    }
    return types.ElicitResult(action="accept", content=content)


async def serve(path: str, proxy: str, behind: int) -> None:
    """Do what comes in at the socket *path*; answer with an exit code and what went wrong."""
    alone = asyncio.Lock()  # the port *behind* leads to one server at a time

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = Task(**json.loads(await reader.readline()))
        wrong = ""
        try:
            async with alone:
                with hop(urlsplit(task.url).port, None, behind) if behind else nullcontext():
                    await converse(task, proxy)
        except Exception:  # what a client may do; the scenario judges
            wrong = traceback.format_exc()
        writer.write(f"{1 if wrong else 0}\n{wrong}".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(one, path) as server:
        print("serving", flush=True)
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--proxy", default="", help="its origin")
    parser.add_argument("--behind", type=int, default=0, help="a port of loopback")
    parser.add_argument("socket")
    args = parser.parse_args()
    asyncio.run(serve(args.socket, args.proxy, args.behind))


if __name__ == "__main__":
    main()
