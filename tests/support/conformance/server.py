"""The server that the official conformance suite is run against, on the real MCP SDK (2.x).

Run as `python -m support.conformance.server`: it binds a free port of loopback,
prints its URL and serves both eras on one endpoint. With `--any-origin` it takes
calls from every web page, which it should not.
"""

from __future__ import annotations

import argparse
import socket
import warnings
from typing import Any

import mcp_types as types
import uvicorn
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.subscriptions import ListenHandler
from mcp.server.transport_security import TransportSecuritySettings

from ..sdk_server import MemoryEventStore
from . import content, tools

NAME = "conformance-fixture"
_CACHED = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")


async def _nothing(_ctx: ServerRequestContext[Any], _params: Any) -> types.EmptyResult:
    return types.EmptyResult()


def make_server() -> Server[Any]:
    """Return the server with all that the suite asks for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # log levels are of the older era, and deprecated
        server = Server(
            NAME,
            version="1.0",
            on_list_tools=tools.list_tools,
            on_call_tool=tools.call_tool,
            on_list_resources=content.list_resources,
            on_list_resource_templates=content.list_templates,
            on_read_resource=content.read_resource,
            on_subscribe_resource=_nothing,
            on_unsubscribe_resource=_nothing,
            on_subscriptions_listen=ListenHandler(tools.BUS),
            on_list_prompts=content.list_prompts,
            on_get_prompt=content.get_prompt,
            on_completion=content.complete,
            on_set_logging_level=_nothing,
            cache_hints={
                name: CacheHint(ttl_ms=1000, scope="public")
                for name in (*_CACHED, "resources/read")
            },
        )
    boundary = RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=NAME)
    server.middleware.append(boundary)
    return server


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--any-origin", action="store_true")
    security = (
        TransportSecuritySettings(enable_dns_rebinding_protection=False)
        if parser.parse_args().any_origin
        else None
    )
    listening = socket.create_server(("127.0.0.1", 0))
    app = make_server().streamable_http_app(
        event_store=MemoryEventStore(), retry_interval=50, transport_security=security
    )
    print(f"listening on http://127.0.0.1:{listening.getsockname()[1]}/mcp", flush=True)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
