"""A client on the real MCP SDK 2.x, run as a script: plays all steps and prints its story."""

from __future__ import annotations

import asyncio
import json

import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from sdk_steps import Story, arguments, call, play, tls, wait_until


async def main() -> None:
    args, story = arguments(), Story()

    async def watch(response: httpx2.Response) -> None:
        story.saw_response(response)

    async with httpx2.AsyncClient(
        verify=tls(args.certs),
        timeout=httpx2.Timeout(10, read=30),
        event_hooks={"response": [watch]},
        trust_env=False,
    ) as http:
        try:
            await converse(args, story, http)
        except Exception as error:
            story.failed = repr(error)
    story.tell()


async def converse(args, story: Story, http: httpx2.AsyncClient) -> None:
    session_id = ""

    async def elicit(_context, params: types.ElicitRequestParams) -> types.ElicitResult:
        story.asked.append(params.message)
        return types.ElicitResult(action="accept", content={"name": "Robin"})

    async def sample(_context, params: types.CreateMessageRequestParams):
        story.asked.append(params.messages[0].content.text)
        content = types.TextContent(type="text", text="short")
        return types.CreateMessageResult(role="assistant", content=content, model="fixture")

    async def notice(message) -> None:
        if getattr(message, "method", "") == "notifications/tools/list_changed":
            story.notified.append(message.method)

    async def watch_session(response: httpx2.Response) -> None:
        nonlocal session_id
        session_id = response.headers.get("mcp-session-id", session_id)

    http.event_hooks["response"].append(watch_session)
    async with Client(
        streamable_http_client(args.url, http_client=http),
        mode=args.mode,
        elicitation_callback=elicit,
        sampling_callback=sample,
        message_handler=notice,
        read_timeout_seconds=20,
    ) as client:
        story.version = client.protocol_version
        if args.only:
            await call(client, story, args.only, json.loads(args.argument))
            return
        await play(client, story)
        if story.version == "2026-07-28":
            await listen(client, story)
        else:
            await legacy_steps(client, story)
    if session_id:
        story.after_delete = await ping(args.url, session_id, http)


async def listen(client: Client, story: Story) -> None:
    """2026-07-28: notifications come on a stream that was asked for."""
    async with client.listen(tools_list_changed=True) as subscription:
        await call(client, story, "announce")
        async for event in subscription:
            story.notified.append(type(event).__name__)
            break


async def legacy_steps(client: Client, story: Story) -> None:
    """The GET stream carries what belongs to no call; a broken stream is resumed."""
    await wait_until(lambda: any(method == "GET" for method, *_ in story.http))
    await call(client, story, "announce")
    await wait_until(lambda: story.notified)
    await call(client, story, "hang_up")


async def ping(url: str, session_id: str, http: httpx2.AsyncClient) -> int:
    """Use a session that was ended; return the status."""
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-session-id": session_id,
        "mcp-protocol-version": "2025-11-25",
    }
    body = {"jsonrpc": "2.0", "id": 99, "method": "ping"}
    return (await http.post(url, json=body, headers=headers)).status_code


if __name__ == "__main__":
    asyncio.run(main())
