"""Arrays of messages: what one of them must not carry past the others."""

from __future__ import annotations

import json
from typing import Any

from .harness import (
    ANYTHING,
    BAD_PARAMS,
    BY_RULE,
    DENIED,
    INVALID,
    MISMATCH,
    NOT_A_MESSAGE,
    NOT_JSON,
    Attack,
    policy,
    request,
    to,
)

USES = policy(to("tools: [read]"), to("resources: ['file:///srv/*']"))
DENY_DROP = policy(ANYTHING, deny=(to("tools: [drop]"),))
OLD = "mcp-protocol-version: 2025-03-26"


def call(id: int, name: Any = "read", **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": name, **more}}


def fetch(id: int, uri: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": "resources/read", "params": {"uri": uri}}


NEWS = {"jsonrpc": "2.0", "method": "notifications/initialized"}
HONEST = request(json.dumps([call(1), NEWS, fetch(2, "file:///srv/a")]), OLD)


def batch(
    what: str, messages: Any, status: int, code: int, *lines: str, documents: str = USES
) -> Attack:
    """An array of *messages*, or bytes that are one."""
    text = messages if isinstance(messages, str) else json.dumps(messages)
    said = request(text, *(lines or (OLD,)))
    return Attack(f"a batch: {what}", documents, said, status, code, HONEST)


def of_version(version: str) -> Attack:
    line = f"mcp-protocol-version: {version}"
    return batch(f"in version {version}", [call(1)], INVALID, NOT_A_MESSAGE, line)


META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}

ATTACKS = [
    batch("a bad tool first", [call(1, "drop"), call(2)], DENIED, BY_RULE),
    batch("a bad tool last", [call(1), NEWS, call(2, "drop")], DENIED, BY_RULE),
    batch("only a bad tool", [call(1, "drop")], DENIED, BY_RULE),
    batch("a bad tool among many", [*map(call, range(63)), call(99, "drop")], DENIED, BY_RULE),
    batch("a bad tool, denied", [call(1), call(2, "drop")], DENIED, BY_RULE, documents=DENY_DROP),
    batch("a bad resource", [call(1), fetch(2, "file:///etc/a")], DENIED, BY_RULE),
    batch("a resource that climbs", [fetch(1, "file:///srv/../etc/a")], DENIED, BY_RULE),
    batch("an unknown method", [call(1), {**NEWS, "method": "x"}], DENIED, BY_RULE),
    batch("a number for a tool", [call(1), call(2, 5)], INVALID, BAD_PARAMS),
    batch("a call without an id", [{**NEWS, "method": "tools/call"}], INVALID, NOT_A_MESSAGE),
    batch("a twin in one of them", [call(1), {**call(2), "Params": {}}], INVALID, NOT_JSON),
    batch("empty", [], INVALID, NOT_A_MESSAGE),
    batch("one in another", [[call(1)]], INVALID, NOT_A_MESSAGE),
    batch("one in another beside a message", [call(1), [call(2, "drop")]], INVALID, NOT_A_MESSAGE),
    batch("a number in it", [call(1), 1], INVALID, NOT_A_MESSAGE),
    batch("null in it", [call(1), None], INVALID, NOT_A_MESSAGE),
    batch("text in it", [call(1), json.dumps(call(2, "drop"))], INVALID, NOT_A_MESSAGE),
    batch("an object that is no message", [call(1), {}], INVALID, NOT_A_MESSAGE),
    batch("longer than the bound", [*map(call, range(65))], INVALID, NOT_A_MESSAGE),
    batch("two requests of one id", [call(1), call(1)], INVALID, NOT_A_MESSAGE),
    batch(
        "one id spelled twice",
        json.dumps([call(1), call(2)]).replace('"id": 2', '"id": 1.0'),
        INVALID,
        NOT_A_MESSAGE,
    ),
    batch("the start of a session", [{**call(1), "method": "initialize"}], INVALID, NOT_A_MESSAGE),
    batch("another one behind it", json.dumps([call(1)]) * 2, INVALID, NOT_JSON),
    batch("a message behind it", json.dumps([call(1)]) + json.dumps(call(2)), INVALID, NOT_JSON),
    batch("a comma too many", json.dumps([call(1)])[:-1] + ",]", INVALID, NOT_JSON),
    batch("no end", json.dumps([call(1)])[:-1], INVALID, NOT_JSON),
    batch(
        "a key twice in one",
        json.dumps([call(1)]).replace('"id"', '"id":0,"id"'),
        INVALID,
        NOT_JSON,
    ),
    batch("as an object with numbers", {"0": call(1), "length": 1}, INVALID, NOT_A_MESSAGE),
    batch("as text/plain", [call(1)], 415, NOT_A_MESSAGE, OLD, "content-type: text/plain"),
    of_version("2024-11-05"),
    of_version("2025-06-18"),
    of_version("2025-11-25"),
    of_version("2026-07-28"),
    of_version("2025-03-26x"),
    batch(
        "in two versions",
        [call(1)],
        INVALID,
        NOT_A_MESSAGE,
        OLD,
        "mcp-protocol-version: 2025-11-25",
    ),
    batch("of a newer version than its header's", [call(1, _meta=META)], INVALID, MISMATCH),
    batch(
        "a header that names another tool",
        [call(1), call(2)],
        INVALID,
        MISMATCH,
        OLD,
        "mcp-name: drop",
    ),
    batch(
        "a header that names one of two methods",
        [call(1), fetch(2, "file:///srv/a")],
        INVALID,
        MISMATCH,
        OLD,
        "mcp-method: tools/call",
    ),
]
