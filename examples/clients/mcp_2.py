"""A client on the MCP SDK 2.x through a sidecar: python mcp_2.py URL [CERTS]

CERTS is the folder that `sidecar issue-cert NS/SA` wrote: our certificate and
key, and the bundle that the server's certificate must end in. A client beside
a sidecar of its own needs none: that one shows its certificate.
"""

from __future__ import annotations

import asyncio
import ssl
import sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


def proof(certs: str) -> ssl.SSLContext:
    tls = ssl.create_default_context(cafile=f"{certs}/svid_bundle.pem")
    tls.load_cert_chain(f"{certs}/svid.pem", f"{certs}/svid_key.pem")
    return tls


async def main(url: str, certs: str = "") -> None:
    timeout = httpx2.Timeout(30, read=300)
    async with (
        httpx2.AsyncClient(verify=proof(certs) if certs else True, timeout=timeout) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        tools = (await client.list_tools()).tools
        print("tools:", ", ".join(tool.name for tool in tools))
        result = await client.call_tool("list_files", {})
        print(result.content[0].text)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
