"""The server of the conformance suite as a program that speaks over its standard streams."""

from __future__ import annotations

import asyncio

from mcp.server.stdio import stdio_server

from .server import make_server


async def main() -> None:
    server = make_server()
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    asyncio.run(main())
