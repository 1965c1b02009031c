"""The MCP side of the demo's server: headers and a body go in, a reply comes out.

Both eras on one endpoint, chosen per request: 2024-11-05 to 2025-11-25 with
`initialize`, and the stateless 2026-07-28. It keeps no sessions, so any replica
can answer any request. Knows no sockets.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import jiter
import orjson

from .. import __version__
from .tools import Tools

LEGACY: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN: Final = ("2026-07-28",)
BATCHING: Final = "2025-03-26"
MAX_BATCH: Final = 32

_META: Final = "io.modelcontextprotocol/"
_INFO: Final = {"name": "files", "title": "Demo files", "version": __version__}
_STATUS: Final = {-32601: 404, -32603: 500}

JsonObject: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back: an empty *body* means none."""

    status: int
    body: bytes = b""
    allow: str = ""


class RpcError(Exception):
    """A request that cannot be served, as JSON-RPC tells it."""

    def __init__(self, code: int, message: str, data: JsonObject | None = None) -> None:
        super().__init__(message)
        self.error: JsonObject = {"code": code, "message": message}
        if data is not None:
            self.error["data"] = data

    @property
    def code(self) -> int:
        return int(self.error["code"])


class FilesProtocol:
    """Answers MCP messages with *tools*."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def answer(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Return the reply to a POST; header names are lower case."""
        if (refused := _unacceptable(headers)) is not None:
            return refused
        try:
            message = jiter.from_json(body, catch_duplicate_keys=True, allow_inf_nan=False)
        except ValueError:
            return _faulty(400, None, RpcError(-32700, "the body is not one JSON value"))
        if isinstance(message, list):
            return self._batch(headers, message)
        return self._single(headers, message)

    def _batch(self, headers: Mapping[str, str], messages: list[Any]) -> Answer:
        # 2025-03-26 requires a server to take arrays; every other revision forbids them.
        version = headers.get("mcp-protocol-version", BATCHING)
        if version != BATCHING or not 1 <= len(messages) <= MAX_BATCH:
            return _faulty(400, None, RpcError(-32600, "an array of messages is not accepted"))
        answers = [self._single(headers, message).body for message in messages]
        replies = [body for body in answers if body]
        return Answer(200, b"[" + b",".join(replies) + b"]") if replies else Answer(202)

    def _single(self, headers: Mapping[str, str], message: Any) -> Answer:
        if not _is_message(message):
            return _faulty(400, None, RpcError(-32600, "not a JSON-RPC 2.0 message"))
        if "id" not in message or "method" not in message:
            return Answer(202)
        try:
            modern = _is_modern(headers, message)
        except RpcError as error:
            return _faulty(400, message["id"], error)
        try:
            result = self._result(message, modern)
        except RpcError as error:
            # Before 2026-07-28 an error of the method is an ordinary reply.
            return _faulty(_STATUS.get(error.code, 400) if modern else 200, message["id"], error)
        return Answer(200, _dump({"jsonrpc": "2.0", "id": message["id"], "result": result}))

    def _result(self, message: JsonObject, modern: bool) -> JsonObject:
        method, params = message["method"], _params(message)
        if modern:
            return self._modern(method, params)
        match method:
            case "initialize":
                return _initialized(params)
            case "ping":
                return {}
            case _:
                return self._shared(method, params)

    def _modern(self, method: str, params: JsonObject) -> JsonObject:
        envelope = {"resultType": "complete", "_meta": {_META + "serverInfo": _INFO}}
        caching: JsonObject = {"ttlMs": 60_000, "cacheScope": "public"}
        if method == "server/discover":
            return {
                **envelope,
                **caching,
                "supportedVersions": [*MODERN, *reversed(LEGACY)],
                "capabilities": {"tools": {}},
                "instructions": Tools.INSTRUCTIONS,
            }
        result = self._shared(method, params)
        return {**envelope, **(caching if method == "tools/list" else {}), **result}

    def _shared(self, method: str, params: JsonObject) -> JsonObject:
        match method:
            case "tools/list":
                return {"tools": self._tools.definitions()}
            case "tools/call":
                return self._call(params)
            case _:
                raise RpcError(-32601, f"method `{method[:80]}` is not found")

    def _call(self, params: JsonObject) -> JsonObject:
        name, arguments = params.get("name"), params.get("arguments", {})
        if not isinstance(name, str) or name not in self._tools:
            raise RpcError(-32602, "`params.name` is not a tool of this server")
        if not isinstance(arguments, dict):
            raise RpcError(-32602, "`params.arguments` is not an object")
        text, failed = self._tools.call(name, arguments)
        return {"content": [{"type": "text", "text": text}], "isError": failed}


def _initialized(params: JsonObject) -> JsonObject:
    wanted = params.get("protocolVersion")
    return {
        "protocolVersion": wanted if wanted in LEGACY else LEGACY[-1],
        "capabilities": {"tools": {}},
        "serverInfo": _INFO,
        "instructions": Tools.INSTRUCTIONS,
    }


def _unacceptable(headers: Mapping[str, str]) -> Answer | None:
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        return _faulty(415, None, RpcError(-32600, "content-type must be application/json"))
    accepted = {part.partition(";")[0].strip() for part in headers.get("accept", "*/*").split(",")}
    if accepted.isdisjoint({"application/json", "application/*", "*/*"}):
        return _faulty(406, None, RpcError(-32600, "the client must accept application/json"))
    return None


def _is_message(message: object) -> bool:
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        return False
    if "id" in message and type(message["id"]) not in (str, int):
        return False
    if "method" not in message:
        return "id" in message and ("result" in message or "error" in message)
    return isinstance(message["method"], str)


def _params(message: JsonObject) -> JsonObject:
    params = message.get("params", {})
    if not isinstance(params, dict):
        raise RpcError(-32602, "`params` is not an object")
    return params


def _is_modern(headers: Mapping[str, str], message: JsonObject) -> bool:
    """Tell the era of a request; raise RpcError where a modern one contradicts itself."""
    meta = _params(message).get("_meta")
    meta = meta if isinstance(meta, dict) else {}
    header, declared = headers.get("mcp-protocol-version"), meta.get(_META + "protocolVersion")
    if declared is None and (header is None or header in LEGACY):
        return False
    if declared is None and header in MODERN:
        raise RpcError(-32602, f"`params._meta` lacks `{_META}protocolVersion`")
    if declared is not None and header != declared:
        raise RpcError(-32020, "`MCP-Protocol-Version` differs from the body")
    if header not in MODERN:
        supported = [*MODERN, *reversed(LEGACY)]
        data = {"supported": supported, "requested": header}
        raise RpcError(-32022, "Unsupported protocol version", data)
    if not isinstance(meta.get(_META + "clientCapabilities"), dict):
        raise RpcError(-32602, f"`params._meta` lacks `{_META}clientCapabilities`")
    _require_mirrored(headers, message)
    return True


def _require_mirrored(headers: Mapping[str, str], message: JsonObject) -> None:
    """The routing headers say what the body says (2026-07-28, Standard Request Headers)."""
    if headers.get("mcp-method") != message["method"]:
        raise RpcError(-32020, "`Mcp-Method` differs from the body")
    if message["method"] != "tools/call":
        return
    if _unwrapped(headers.get("mcp-name", "")) != _params(message).get("name"):
        raise RpcError(-32020, "`Mcp-Name` differs from the body")


def _unwrapped(value: str) -> str | None:
    """Undo the Base64 sentinel of a header value; None if it is malformed."""
    if not (value.startswith("=?base64?") and value.endswith("?=")):
        return value
    try:
        return base64.b64decode(value[9:-2], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def _faulty(status: int, message_id: object, error: RpcError) -> Answer:
    return Answer(status, _dump({"jsonrpc": "2.0", "id": message_id, "error": error.error}))


def _dump(message: JsonObject) -> bytes:
    return orjson.dumps(message)
