"""What the fixture server holds: media, resources, prompts and completions.

Names, addresses and shapes are those that the official conformance suite asks
for; the words are our own.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import mcp_types as types
from mcp import MCPError
from mcp.server.context import ServerRequestContext

from .asking import ask_context


def _png() -> str:
    """One red pixel."""

    def part(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0\xff\0\0")
    whole = (
        b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", pixels) + part(b"IEND", b"")
    )
    return base64.b64encode(whole).decode()


def _wav() -> str:
    """Eight samples of silence."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 8000, 1, 8)
    data = struct.pack("<4sI", b"data", 8) + b"\x80" * 8
    whole = struct.pack("<4sI4s", b"RIFF", 4 + len(form) + len(data), b"WAVE") + form + data
    return base64.b64encode(whole).decode()


PNG, WAV = _png(), _wav()


def text(words: str) -> types.TextContent:
    return types.TextContent(type="text", text=words)


def image() -> types.ImageContent:
    return types.ImageContent(type="image", data=PNG, mime_type="image/png")


def audio() -> types.AudioContent:
    return types.AudioContent(type="audio", data=WAV, mime_type="audio/wav")


def embedded(uri: str, words: str, mime_type: str = "text/plain") -> types.EmbeddedResource:
    resource = types.TextResourceContents(uri=uri, mime_type=mime_type, text=words)
    return types.EmbeddedResource(type="resource", resource=resource)


# -- resources

_TEMPLATE = ("test://template/", "/data")
RESOURCES = [
    types.Resource(
        uri="test://static-text", name="text", description="A text", mime_type="text/plain"
    ),
    types.Resource(
        uri="test://static-binary", name="pixel", description="An image", mime_type="image/png"
    ),
    types.Resource(
        uri="test://watched-resource", name="watched", description="A text", mime_type="text/plain"
    ),
]


async def list_resources(
    _ctx: ServerRequestContext[Any], _params: types.PaginatedRequestParams | None
) -> types.ListResourcesResult:
    return types.ListResourcesResult(resources=RESOURCES)


async def list_templates(
    _ctx: ServerRequestContext[Any], _params: types.PaginatedRequestParams | None
) -> types.ListResourceTemplatesResult:
    template = types.ResourceTemplate(
        uri_template="{id}".join(_TEMPLATE),
        name="numbered",
        description="A text for each id",
        mime_type="application/json",
    )
    return types.ListResourceTemplatesResult(resource_templates=[template])


async def read_resource(
    _ctx: ServerRequestContext[Any], params: types.ReadResourceRequestParams
) -> types.ReadResourceResult:
    uri = str(params.uri)
    before, after = _TEMPLATE
    if uri == "test://static-binary":
        blob = types.BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)
        return types.ReadResourceResult(contents=[blob])
    if uri in ("test://static-text", "test://watched-resource"):
        return _read(uri, f"What stands at {uri}.", "text/plain")
    if uri.startswith(before) and uri.endswith(after):
        number = uri.removeprefix(before).removesuffix(after)
        return _read(uri, json.dumps({"id": number, "templateTest": True}), "application/json")
    raise MCPError(types.INVALID_PARAMS, "Resource not found", {"uri": uri})


def _read(uri: str, words: str, mime_type: str) -> types.ReadResourceResult:
    one = types.TextResourceContents(uri=uri, mime_type=mime_type, text=words)
    return types.ReadResourceResult(contents=[one])


# -- prompts


def _said(*contents: types.ContentBlock) -> types.GetPromptResult:
    messages = [types.PromptMessage(role="user", content=content) for content in contents]
    return types.GetPromptResult(messages=messages)


def _argued(arguments: dict[str, str]) -> types.GetPromptResult:
    return _said(text(f"First {arguments.get('arg1')!r}, then {arguments.get('arg2')!r}."))


def _holding(arguments: dict[str, str]) -> types.GetPromptResult:
    return _said(embedded(arguments["resourceUri"], "A resource."), text("Look at the resource."))


_ARGUMENTS = {
    "test_simple_prompt": (),
    "test_prompt_with_arguments": ("arg1", "arg2"),
    "test_prompt_with_embedded_resource": ("resourceUri",),
    "test_prompt_with_image": (),
    "test_input_required_result_prompt": (),
}
_PROMPTS: dict[str, Callable[[dict[str, str]], types.GetPromptResult]] = {
    "test_simple_prompt": lambda _: _said(text("A prompt that asks for nothing.")),
    "test_prompt_with_arguments": _argued,
    "test_prompt_with_embedded_resource": _holding,
    "test_prompt_with_image": lambda _: _said(image(), text("Look at the image.")),
}


async def list_prompts(
    _ctx: ServerRequestContext[Any], _params: types.PaginatedRequestParams | None
) -> types.ListPromptsResult:
    prompts = [
        types.Prompt(
            name=name,
            description=f"The prompt {name}",
            arguments=[
                types.PromptArgument(name=one, description="A text", required=True)
                for one in arguments
            ],
        )
        for name, arguments in _ARGUMENTS.items()
    ]
    return types.ListPromptsResult(prompts=prompts)


async def get_prompt(
    _ctx: ServerRequestContext[Any], params: types.GetPromptRequestParams
) -> types.GetPromptResult | types.InputRequiredResult:
    if params.name == "test_input_required_result_prompt":
        answer = ask_context(params.input_responses or {})
        return answer if isinstance(answer, types.InputRequiredResult) else _said(text(answer))
    prompt = _PROMPTS.get(params.name)
    if prompt is None:
        raise MCPError(types.INVALID_PARAMS, f"Unknown prompt: {params.name}")
    return prompt(params.arguments or {})


async def complete(
    _ctx: ServerRequestContext[Any], params: types.CompleteRequestParams
) -> types.CompleteResult:
    value = params.argument.value
    values = [f"{value}{ending}" for ending in ("", "-one", "-two")]
    return types.CompleteResult(
        completion=types.Completion(values=values, total=len(values), has_more=False)
    )
