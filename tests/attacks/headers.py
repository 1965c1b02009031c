"""Headers that say something else than the body, to whoever believes one of them."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from .harness import (
    BY_RULE,
    DENIED,
    INVALID,
    MISMATCH,
    NOT_A_MESSAGE,
    Attack,
    policy,
    request,
    said,
    to,
)

VERSION = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": VERSION}
ALL = policy(
    to("paths: [/mcp], tools: [read, 'caf\u00e9']"),
    to("prompts: [greet]"),
    to("resources: ['note:a']"),
    to("mcpMethods: ['tasks/*']"),
)
BY_VERSION = policy(
    to("mcpMethods: [tools/call]", f'key: mcp.protocolVersion, values: ["{VERSION}"]')
)
V, M, N = f"mcp-protocol-version: {VERSION}", "mcp-method: tools/call", "mcp-name: read"


def body(name: str = "read", arguments: Any = None, meta: Any = META) -> str:
    params = {"name": name, "arguments": arguments or {}}
    return said("tools/call", {**params, "_meta": meta} if meta else params)


def encoded(text: str) -> str:
    return f"=?base64?{b64encode(text.encode()).decode()}?="


HONEST = request(body(), V, M, N)
LEGACY = request(body(meta=None))
CAFE = "caf\u00e9"
ENCODED = request(body(CAFE), V, M, f"mcp-name: {encoded(CAFE)}")


def mirror(
    what: str, *lines: str, text: str = "", honest: bytes = HONEST, code: int = MISMATCH
) -> Attack:
    """A request of the newer era with these headers."""
    return Attack(what, ALL, request(text or body(), *lines), INVALID, code, honest)


def other(method: str, params: Any, name: str, honest: str) -> Attack:
    """A request of *method* whose header names something else."""
    text = said(method, {**params, "_meta": META})
    lines = (V, f"mcp-method: {method}")
    return mirror(
        f"a header that names another one in {method}",
        *lines,
        f"mcp-name: {name}",
        text=text,
        honest=request(text, *lines, f"mcp-name: {honest}"),
    )


def param(what: str, value: str, arguments: Any, honest: str) -> Attack:
    """A call whose `Mcp-Param-Region` is *value*, where *honest* is what it mirrors."""
    text = body(arguments=arguments)
    return mirror(
        f"a parameter's header {what}",
        V,
        M,
        N,
        f"Mcp-Param-Region: {value}",
        text=text,
        honest=request(text, V, M, N, f"Mcp-Param-Region: {honest}"),
    )


ATTACKS = [
    mirror("a header that names a harmless method", V, "mcp-method: ping", N),
    mirror("a header that names another tool", V, M, "mcp-name: drop"),
    mirror(
        "a header that names a harmless tool, to an older server",
        N.replace("read", "x"),
        text=body(meta=None),
        honest=LEGACY,
    ),
    mirror(
        "a harmless method, to an older server",
        "mcp-method: ping",
        text=body(meta=None),
        honest=LEGACY,
    ),
    mirror("a header in another case", V, "mcp-method: Tools/Call", N),
    mirror("a name in another case", V, M, "mcp-name: READ"),
    mirror("a name that is escaped like a path", V, M, "mcp-name: re%61d"),
    mirror("a name in quotes", V, M, 'mcp-name: "read"'),
    mirror("a name that is a list", V, M, "mcp-name: read, drop"),
    mirror("two names", V, M, N, "mcp-name: drop"),
    mirror("one name twice", V, M, N, N),
    mirror("two names in two cases of letters", V, M, N, "MCP-NAME: drop"),
    mirror("two methods", V, M, "mcp-method: ping", N),
    mirror("two versions", V, "mcp-protocol-version: 2025-03-26", M, N),
    mirror("a name that is empty", V, M, "mcp-name:"),
    mirror("no name", V, M),
    mirror("no method", V, N),
    mirror("no version, where the body has one", M, N),
    mirror("an older version than the body's", "mcp-protocol-version: 2025-11-25", M, N),
    mirror("a newer version than the body's", "mcp-protocol-version: 2027-01-01", M, N),
    mirror("a method under a twin's name", V, "Mcp_Method: tools/call", N),
    mirror("a name under a twin's name", V, M, "Mcp_Name: read"),
    mirror("a version under a twin's name", V.replace("-", "_", 2), M, N),
    mirror("Base64 of another name", V, M, f"mcp-name: {encoded('drop')}"),
    mirror("Base64 with bits to spare", V, M, "mcp-name: =?base64?cmVhZB==?="),
    mirror("Base64 without its padding", V, M, "mcp-name: =?base64?cmVhZA?="),
    mirror("Base64 with a blank in it", V, M, "mcp-name: =?base64?cmVh ZA==?="),
    mirror("Base64 for URLs", V, M, "mcp-name: =?base64?Y2Fm_w==?="),
    mirror("Base64 without an end", V, M, "mcp-name: =?base64?cmVhZA=="),
    mirror("Base64 in capitals", V, M, "mcp-name: =?BASE64?cmVhZA==?="),
    mirror("Base64 twice", V, M, f"mcp-name: {encoded(encoded('read'))}"),
    mirror("Base64 of no text", V, M, "mcp-name: =?base64?/w==?="),
    mirror("Base64 of nothing", V, M, "mcp-name: =?base64??="),
    mirror(
        "a name that is not ASCII",
        V,
        M,
        "mcp-name: caf\u00e9",
        text=body("caf\u00e9"),
        honest=ENCODED,
    ),
    mirror(
        "a version that is a number in the body",
        V,
        M,
        N,
        text=body(meta={"io.modelcontextprotocol/protocolVersion": 20260728}),
    ),
    other("resources/read", {"uri": "note:a"}, "note:b", "note:a"),
    other("prompts/get", {"name": "greet"}, "other", "greet"),
    other("tasks/get", {"taskId": "t1"}, "t2", "t1"),
    other("tasks/cancel", {"taskId": "t1"}, "t2", "t1"),
    param("that is another value", "us", {"region": "eu"}, "eu"),
    param("in Base64 of another value", encoded("us"), {"region": "eu"}, encoded("eu")),
    param("for an argument deeper inside", "us", {"at": {"region": "eu"}}, "eu"),
    param("that is another number", "41", {"region": 42}, "42"),
    param("that is a number for true", "1", {"region": True}, "true"),
    *(
        mirror(
            f"a header that makes another request: {name}",
            V,
            M,
            N,
            f"{name}: {value}",
            code=NOT_A_MESSAGE,
        )
        for name, value in (
            ("X-HTTP-Method-Override", "DELETE"),
            ("X-HTTP-Method", "DELETE"),
            ("X-Method-Override", "DELETE"),
            ("X-Original-URL", "/admin"),
            ("X-Rewrite-URL", "/admin"),
        )
    ),
    Attack(
        "a version for the rule and another one for the server",
        BY_VERSION,
        request(body(), V, "mcp-protocol-version: 2025-11-25", M, N),
        INVALID,
        MISMATCH,
        HONEST,
    ),
    Attack(
        "a version that only its twin gives",
        BY_VERSION,
        request(body(meta=None), V.replace("-", "_", 2)),
        DENIED,
        BY_RULE,
        HONEST,
    ),
]
