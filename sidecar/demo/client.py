"""A small MCP client over mTLS, for the demo's callers: stateless 2026-07-28 over HTTP/1.1.

It keeps one connection. A refusal is a reply like any other; a handshake that
fails is `NoConnection`, with the reason TLS gives.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MAX_REPLY: Final = 4 * 1024 * 1024
TIMEOUT: Final = 10.0
VERSION: Final = "2026-07-28"

_META: Final = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "sidecar-demo", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


class NoConnection(Exception):
    """There was no HTTP reply at all."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP reply: *message* is its JSON-RPC object, *ms* the time it took."""

    status: int
    request_id: str
    message: dict[str, Any]
    ms: float

    @property
    def result(self) -> dict[str, Any] | None:
        result = self.message.get("result")
        return result if isinstance(result, dict) else None

    @property
    def reason(self) -> str:
        """The reason word of a refusal, empty if it is none."""
        data = self.message.get("error", {}).get("data")
        return str(data.get("reason", "")) if isinstance(data, dict) else ""

    @property
    def text(self) -> str:
        """The text of a tool's result, empty if there is none."""
        content = (self.result or {}).get("content") or [{}]
        return str(content[0].get("text", ""))


class Caller:
    """One client with the certificate in *certs*; with None it shows no certificate."""

    def __init__(self, port: int, bundle: Path, certs: Path | None) -> None:
        context = ssl.create_default_context(cafile=str(bundle))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if certs is not None:
            context.load_cert_chain(certs / "svid.pem", certs / "svid_key.pem")
        self._connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=TIMEOUT, context=context
        )
        self._count = 0

    def connect(self) -> None:
        """Connect now, so that the first call is not the one that waits for it."""
        try:
            self._connection.connect()
        except OSError as error:
            raise NoConnection(_told(error)) from error

    def tools(self) -> Reply:
        """Ask for the list of tools."""
        return self._ask("tools/list", {}, {})

    def call(self, tool: str, **arguments: str) -> Reply:
        """Call *tool*. Raises NoConnection if there is no reply."""
        return self._ask("tools/call", {"name": tool, "arguments": arguments}, {"mcp-name": tool})

    def close(self) -> None:
        self._connection.close()

    def _ask(self, method: str, params: dict[str, Any], headers: dict[str, str]) -> Reply:
        self._count += 1
        body = json.dumps(
            {
                "jsonrpc": "2.0",
                "id": self._count,
                "method": method,
                "params": {**params, "_meta": _META},
            }
        )
        started = time.perf_counter()
        try:
            self._connection.request("POST", "/mcp", body, {**_headers(method), **headers})
            response = self._connection.getresponse()
            received = response.read(MAX_REPLY)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise NoConnection(_told(error)) from error
        ms = (time.perf_counter() - started) * 1e3
        request_id = response.getheader("x-request-id", "")
        return Reply(response.status, request_id, _message(received), ms)


def _headers(method: str) -> dict[str, str]:
    return {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": VERSION,
        "mcp-method": method,
    }


def _message(received: bytes) -> dict[str, Any]:
    try:
        message = json.loads(received)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _told(error: Exception) -> str:
    """What TLS said, in its own word, or the error's."""
    reason = getattr(error, "reason", None)
    return str(reason or error or type(error).__name__)
