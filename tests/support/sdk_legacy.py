"""A client on the real MCP SDK 1.x, run as a script in an environment of its own."""

from __future__ import annotations

import asyncio
import json

import httpx
import mcp.types as types
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from sdk_steps import Story, arguments, call, play, tls, wait_until


async def main() -> None:
    args, story = arguments(), Story()

    async def watch(response: httpx.Response) -> None:
        story.saw_response(response)

    async with httpx.AsyncClient(
        verify=tls(args.certs),
        timeout=httpx.Timeout(10, read=30),
        event_hooks={"response": [watch]},
        trust_env=False,
    ) as http:
        try:
            await converse(args, story, http)
        except Exception as error:
            story.failed = "; ".join(_causes(error))
    story.tell()


async def converse(args, story: Story, http: httpx.AsyncClient) -> None:
    async def elicit(_context, params: types.ElicitRequestParams) -> types.ElicitResult:
        story.asked.append(params.message)
        return types.ElicitResult(action="accept", content={"name": "Robin"})

    async def sample(_context, params: types.CreateMessageRequestParams):
        story.asked.append(params.messages[0].content.text)
        content = types.TextContent(type="text", text="short")
        return types.CreateMessageResult(role="assistant", content=content, model="fixture")

    async def notice(message) -> None:
        inner = getattr(message, "root", None)
        if getattr(inner, "method", "") == "notifications/tools/list_changed":
            story.notified.append(inner.method)

    async with streamable_http_client(args.url, http_client=http) as (read, write, session_id):
        async with ClientSession(
            read,
            write,
            elicitation_callback=elicit,
            sampling_callback=sample,
            message_handler=notice,
        ) as client:
            story.version = str((await client.initialize()).protocolVersion)
            if args.only:
                await call(client, story, args.only, json.loads(args.argument))
                return
            await play(client, story)
            await wait_until(lambda: any(method == "GET" for method, *_ in story.http))
            await call(client, story, "announce")
            await wait_until(lambda: story.notified)
            await call(client, story, "hang_up")
        ended = session_id() or ""
    story.after_delete = await ping(args.url, ended, http)


async def ping(url: str, session_id: str, http: httpx.AsyncClient) -> int:
    """Use a session that was ended; return the status."""
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-session-id": session_id,
        "mcp-protocol-version": "2025-11-25",
    }
    body = {"jsonrpc": "2.0", "id": 99, "method": "ping"}
    return (await http.post(url, json=body, headers=headers)).status_code


def _causes(error: BaseException) -> list[str]:
    """The faults inside an exception group."""
    if isinstance(error, BaseExceptionGroup):
        return [cause for inner in error.exceptions for cause in _causes(inner)]
    return [repr(error)]


if __name__ == "__main__":
    asyncio.run(main())
