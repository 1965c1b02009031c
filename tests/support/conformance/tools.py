"""The tools of the fixture server, as the official conformance suite names them.

Each is one function of a call; `TOOLS` holds what is listed. Those that ask
the client something over a session stand here, those of the stateless era in
`asking`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types as types
from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import InMemorySubscriptionBus
from mcp.shared.subscriptions import PromptsListChanged, ToolsListChanged

from .asking import ASKING
from .content import audio, embedded, image, text

Context = ServerRequestContext[Any]
Contents = list[types.ContentBlock]
Run = Callable[[Context, dict[str, Any]], Awaitable[Contents]]

PAUSE = 0.02
BUS = InMemorySubscriptionBus()
_NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}


def _texts(*names: str) -> dict[str, Any]:
    properties = {name: {"type": "string"} for name in names}
    return {"type": "object", "properties": properties, "required": list(names)}


# What JSON Schema 2020-12 can say and a careless copy loses.
_RICH = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
_DEFAULTS = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {
            "type": "string",
            "enum": ["active", "inactive", "pending"],
            "default": "active",
        },
        "verified": {"type": "boolean", "default": True},
    },
    "required": [],
}


def _titled(kind: str) -> list[dict[str, str]]:
    return [{"const": f"value{n}", "title": f"{kind} {n}"} for n in (1, 2, 3)]


_CHOICES = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
        "titledSingle": {"type": "string", "oneOf": _titled("Option")},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option 1", "Option 2", "Option 3"],
        },
        "untitledMulti": {
            "type": "array",
            "items": {"type": "string", "enum": ["option1", "option2", "option3"]},
        },
        "titledMulti": {"type": "array", "items": {"anyOf": _titled("Choice")}},
    },
    "required": [],
}
# An argument that stands in a header too, for those on the way that read no bodies.
_MIRRORED = {
    "type": "object",
    "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
    "required": ["region"],
}
_USER = _texts("username", "email")


def _fixed(*contents: types.ContentBlock) -> Run:
    async def run(_ctx: Context, _arguments: dict[str, Any]) -> Contents:
        return list(contents)

    return run


async def _logging(ctx: Context, _arguments: dict[str, Any]) -> Contents:
    for words in ("started", "at work", "done"):
        await ctx.session.send_log_message("info", words, related_request_id=ctx.request_id)
        await asyncio.sleep(PAUSE)
    return [text("Logged.")]


async def _progress(ctx: Context, _arguments: dict[str, Any]) -> Contents:
    for progress in (0, 50, 100):
        await ctx.session.report_progress(progress, 100)
        await asyncio.sleep(PAUSE)
    return [text("Progress was told.")]


async def _failing(_ctx: Context, _arguments: dict[str, Any]) -> Contents:
    raise ValueError("this tool always fails")


async def _sampling(ctx: Context, arguments: dict[str, Any]) -> Contents:
    content = types.TextContent(type="text", text=arguments["prompt"])
    message = types.SamplingMessage(role="user", content=content)
    result = await ctx.session.create_message(
        [message], max_tokens=100, related_request_id=ctx.request_id
    )
    return [text(f"The model said: {getattr(result.content, 'text', '')}")]


def _asking(schema: dict[str, Any], message: str = "Please fill this in") -> Run:
    async def run(ctx: Context, arguments: dict[str, Any]) -> Contents:
        words = arguments.get("message", message)
        result = await ctx.session.elicit_form(words, schema, ctx.request_id)
        return [text(f"The person said: {result.action} {result.content}")]

    return run


async def _reconnection(ctx: Context, _arguments: dict[str, Any]) -> Contents:
    """Close the call's stream; the result is then fetched with Last-Event-ID."""
    await asyncio.sleep(PAUSE)
    if ctx.close_sse_stream is not None:
        await ctx.close_sse_stream()
    await asyncio.sleep(PAUSE)
    return [text("Reconnected.")]


async def _needs_sampling(ctx: Context, _arguments: dict[str, Any]) -> Contents:
    needed = types.ClientCapabilities(sampling=types.SamplingCapability())
    if not ctx.session.check_client_capability(needed):
        data = types.MissingRequiredClientCapabilityErrorData(required_capabilities=needed)
        raise MCPError(
            types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            "The client must be able to sample",
            data.model_dump(by_alias=True, exclude_none=True),
        )
    return [text("The client can sample.")]


async def _tools_changed(ctx: Context, _arguments: dict[str, Any]) -> Contents:
    await BUS.publish(ToolsListChanged())
    return [text("The tools changed.")]


async def _prompts_changed(ctx: Context, _arguments: dict[str, Any]) -> Contents:
    await BUS.publish(PromptsListChanged())
    return [text("The prompts changed.")]


_MIXED = embedded("test://mixed-content-resource", '{"test": "data"}', "application/json")
_RUNS: dict[str, tuple[dict[str, Any], Run]] = {
    "test_simple_text": (_NOTHING, _fixed(text("A simple text."))),
    "test_image_content": (_NOTHING, _fixed(image())),
    "test_audio_content": (_NOTHING, _fixed(audio())),
    "test_embedded_resource": (
        _NOTHING,
        _fixed(embedded("test://embedded-resource", "An embedded text.")),
    ),
    "test_multiple_content_types": (_NOTHING, _fixed(text("Several:"), image(), _MIXED)),
    "test_tool_with_logging": (_NOTHING, _logging),
    "test_logging_tool": (_NOTHING, _logging),
    "test_tool_with_progress": (_NOTHING, _progress),
    "test_error_handling": (_NOTHING, _failing),
    "test_sampling": (_texts("prompt"), _sampling),
    "test_elicitation": (_texts("message"), _asking(_USER)),
    "test_elicitation_sep1034_defaults": (_NOTHING, _asking(_DEFAULTS)),
    "test_elicitation_sep1330_enums": (_NOTHING, _asking(_CHOICES)),
    "test_reconnection": (_NOTHING, _reconnection),
    "test_missing_capability": (_NOTHING, _needs_sampling),
    "test_trigger_tool_change": (_NOTHING, _tools_changed),
    "test_trigger_prompt_change": (_NOTHING, _prompts_changed),
    "test_mirrored_argument": (_MIRRORED, _fixed(text("The header agrees."))),
    "json_schema_2020_12_tool": (_RICH, _fixed(text("Valid."))),
}
TOOLS = [
    types.Tool(name=name, description=f"The tool {name}", input_schema=schema)
    for name, schema in (
        *((name, schema) for name, (schema, _) in _RUNS.items()),
        *((name, _NOTHING) for name in ASKING),
    )
]


async def list_tools(
    _ctx: Context, _params: types.PaginatedRequestParams | None
) -> types.ListToolsResult:
    return types.ListToolsResult(tools=TOOLS)


async def call_tool(
    ctx: Context, params: types.CallToolRequestParams
) -> types.CallToolResult | types.InputRequiredResult:
    if params.name in ASKING:
        outcome = ASKING[params.name](ctx, params)
        if isinstance(outcome, types.InputRequiredResult):
            return outcome
        return types.CallToolResult(content=[text(outcome)])
    known = _RUNS.get(params.name)
    if known is None:
        raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
    try:
        return types.CallToolResult(content=await known[1](ctx, params.arguments or {}))
    except (ValueError, KeyError) as error:
        return types.CallToolResult(content=[text(str(error))], is_error=True)
