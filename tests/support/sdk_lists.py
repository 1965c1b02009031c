"""A client on either line of the MCP SDK that turns the pages of every list, then calls one tool.

Run as a script; what it saw is printed as JSON: the pages of each list, their cache
scopes, the type of each reply, and what became of the call.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from contextlib import asynccontextmanager

from mcp.client.streamable_http import streamable_http_client
from sdk_steps import tls

try:
    import httpx2 as httpx
    from mcp import Client
except ImportError:
    import httpx
    from mcp import ClientSession

    Client = None

# What makes the newer era's server log, and so answer with a stream.
LOGGED = {"io.modelcontextprotocol/logLevel": "info"}
LISTS = {
    "tools": ("list_tools", "tools", "name"),
    "prompts": ("list_prompts", "prompts", "name"),
    "resources": ("list_resources", "resources", "uri"),
    "templates": ("list_resource_templates", "resource_templates", "uri_template"),
}


def field(item, name: str):
    """A field by its name in the 2.x line; the 1.x line has the names of the wire."""
    if hasattr(item, name):
        return getattr(item, name)
    first, *rest = name.split("_")
    wire = first + "".join(word.title() for word in rest)
    return getattr(item, wire, None)


@asynccontextmanager
async def connected(args, http):
    if Client is not None:
        transport = streamable_http_client(args.url, http_client=http)
        async with Client(transport, mode=args.mode, read_timeout_seconds=20) as client:
            yield client, client.protocol_version
        return
    async with (
        streamable_http_client(args.url, http_client=http) as (read, write, _),
        ClientSession(read, write) as client,
    ):
        yield client, str((await client.initialize()).protocolVersion)


async def pages(client, method: str, member: str, name: str) -> tuple[list, list]:
    found, scopes, cursor = [], [], None
    for _ in range(10):
        more = {"meta": LOGGED} if Client is not None else {}
        result = await getattr(client, method)(cursor=cursor, **more)
        found.append([str(field(item, name)) for item in field(result, member)])
        scopes.append(field(result, "cache_scope"))
        cursor = field(result, "next_cursor")
        if not cursor:
            break
    return found, scopes


async def call(client, name: str, story: dict) -> None:
    try:
        result = await client.call_tool(name, {})
        story["text"] = result.content[0].text
    except Exception as error:
        inner = getattr(error, "error", None)
        story["error"] = str(error)
        if inner is not None:
            story.update(code=inner.code, data=inner.data)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--certs", default="")
    parser.add_argument("--mode", default="legacy")
    parser.add_argument("--call", default="read")
    args = parser.parse_args()
    story: dict = {"types": [], "failed": "", "statuses": []}

    async def watch(response) -> None:
        kind = response.headers.get("content-type", "").partition(";")[0]
        story["types"].append(kind)
        story["statuses"].append(response.status_code)

    async with httpx.AsyncClient(
        verify=tls(args.certs),
        timeout=httpx.Timeout(10, read=30),
        event_hooks={"response": [watch]},
        trust_env=False,
    ) as http:
        try:
            async with connected(args, http) as (client, version):
                story["version"] = version
                for key, (method, member, name) in LISTS.items():
                    story[key], story[f"{key} scopes"] = await pages(client, method, member, name)
                await call(client, args.call, story)
        except BaseException as error:
            story["failed"] = repr(error)
    print(json.dumps(story), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
