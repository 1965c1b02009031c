"""A client on the MCP SDK 1.x through a sidecar: python mcp_1.py URL CERTS

CERTS is the folder that `sidecar issue-cert NS/SA` wrote: our certificate and
key, and the bundle that the server's certificate must end in.
"""

from __future__ import annotations

import asyncio
import ssl
import sys

import httpx
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client


async def main(url: str, certs: str) -> None:
    tls = ssl.create_default_context(cafile=f"{certs}/svid_bundle.pem")
    tls.load_cert_chain(f"{certs}/svid.pem", f"{certs}/svid_key.pem")
    timeout = httpx.Timeout(30, read=300)
    async with (
        httpx.AsyncClient(verify=tls, timeout=timeout) as http,
        streamable_http_client(url, http_client=http) as (read, write, _),
        ClientSession(read, write) as client,
    ):
        await client.initialize()
        tools = (await client.list_tools()).tools
        print("tools:", ", ".join(tool.name for tool in tools))
        result = await client.call_tool("list_files", {})
        print(result.content[0].text)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
