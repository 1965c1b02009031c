"""A server on the real MCP SDK (2.x) whose lists come in pages, and say that all may share them.

Run as a script: it binds a free port of loopback and prints its URL. Four tools, prompts,
resources and templates of resources, two a page; every tool answers with its own name.
"""

from __future__ import annotations

import argparse
import socket
from collections.abc import Sequence
from typing import TypeVar

import mcp_types as types
import uvicorn
from mcp.server.lowlevel.server import Server

PAGE = 2
TOOLS = ["read", "write", "search", "drop"]
PROMPTS = ["greet", "plan", "review", "leak"]
RESOURCES = ["note:a", "note:b", "note:secret-a", "note:secret-b"]
TEMPLATES = ["note:{id}", "log:{day}", "key:{id}", "note:secret-{id}"]

Item = TypeVar("Item")


async def page(
    items: Sequence[Item], ctx, params: types.PaginatedRequestParams | None
) -> tuple[list[Item], str | None]:
    """Return the page that *params* ask for, and the cursor of the next one.

    A log message goes before it: without one the newer era answers with no stream.
    """
    await ctx.session.send_log_message("info", "a page", related_request_id=ctx.request_id)
    start = int(params.cursor) if params is not None and params.cursor else 0
    end = start + PAGE
    return list(items[start:end]), str(end) if end < len(items) else None


async def list_tools(ctx, params) -> types.ListToolsResult:
    names, cursor = await page(TOOLS, ctx, params)
    tools = [types.Tool(name=name, input_schema={"type": "object"}) for name in names]
    return types.ListToolsResult(tools=tools, next_cursor=cursor, cache_scope="public", ttl_ms=9000)


async def list_prompts(ctx, params) -> types.ListPromptsResult:
    names, cursor = await page(PROMPTS, ctx, params)
    prompts = [types.Prompt(name=name) for name in names]
    return types.ListPromptsResult(
        prompts=prompts, next_cursor=cursor, cache_scope="public", ttl_ms=9000
    )


async def list_resources(ctx, params) -> types.ListResourcesResult:
    uris, cursor = await page(RESOURCES, ctx, params)
    resources = [types.Resource(uri=uri, name=uri) for uri in uris]
    return types.ListResourcesResult(
        resources=resources, next_cursor=cursor, cache_scope="public", ttl_ms=9000
    )


async def list_templates(ctx, params) -> types.ListResourceTemplatesResult:
    uris, cursor = await page(TEMPLATES, ctx, params)
    templates = [types.ResourceTemplate(uri_template=uri, name=uri) for uri in uris]
    return types.ListResourceTemplatesResult(
        resource_templates=templates, next_cursor=cursor, cache_scope="public", ttl_ms=9000
    )


async def call_tool(_, params) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=params.name)])


def make_server() -> Server:
    return Server(
        "catalogue",
        version="1.0",
        on_list_tools=list_tools,
        on_list_prompts=list_prompts,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_call_tool=call_tool,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true", help="answer with JSON, not SSE")
    args = parser.parse_args()
    listening = socket.create_server(("127.0.0.1", 0))
    app = make_server().streamable_http_app(json_response=args.json)
    print(f"listening on http://127.0.0.1:{listening.getsockname()[1]}/mcp", flush=True)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
