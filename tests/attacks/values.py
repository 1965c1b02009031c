"""Names and methods that are not what they look like, and where none is to be had."""

from __future__ import annotations

from typing import Any

from .harness import (
    ANYTHING,
    BAD_PARAMS,
    BY_RULE,
    DENIED,
    INVALID,
    NOT_A_MESSAGE,
    Attack,
    policy,
    request,
    said,
    to,
    use,
)

READ = policy(to("methods: [POST], paths: [/mcp], tools: [read, 'get_*']"))
NOT_DROP = policy(to("mcpMethods: [tools/call], notTools: [drop]"))
DENY_DROP = policy(ANYTHING, deny=(to("tools: [drop]"),))
HONEST = request(use("read"))


def name(what: str, value: Any, status: int = INVALID, code: int = BAD_PARAMS) -> Attack:
    """A call of the tool that *value* names."""
    said_ = said("tools/call", {"name": value})
    return Attack(f"a tool's name: {what}", READ, request(said_), status, code, HONEST)


def method(what: str, value: Any, status: int = INVALID, code: int = NOT_A_MESSAGE) -> Attack:
    """A request of the method *value*, with what calls `drop`, where `drop` is denied."""
    said_ = said(value, {"name": "drop"})
    return Attack(f"a method: {what}", DENY_DROP, request(said_), status, code, HONEST)


ATTACKS = [
    name("a number", 5),
    name("a number that is a word to YAML", 1e3),
    name("true", True),
    name("null", None),
    name("a list", ["read"]),
    name("an object", {"name": "read"}),
    name("empty", ""),
    name("longer than any", "read" * 65),
    name("a line end behind it", "read\n"),
    name("a line end before it", "\nread"),
    name("a tab in it", "get_\tx"),
    name("an escape sequence in it", "get_\x1b[2K"),
    name("DEL in it", "get_\x7f"),
    name("a C1 control in it", "get_\x9b"),
    name("a zero-width space in it", "get_\u200bx"),
    name("a soft hyphen in it", "get_\u00adx"),
    name("a line separator in it", "get_\u2028x"),
    name("letters turned round", "get_\u202exepord"),
    name("a no-break space in it", "get_\u00a0x"),
    name("a byte order mark in it", "\ufeffread"),
    name("a private character in it", "get_\ue000"),
    name("in another case", "READ", DENIED, BY_RULE),
    name("with a blank", "read ", DENIED, BY_RULE),
    name("Cyrillic", "r\u0435ad", DENIED, BY_RULE),
    name("full width", "\uff52ead", DENIED, BY_RULE),
    name("a wildcard", "*", DENIED, BY_RULE),
    name("the rule's pattern without its end", "get", DENIED, BY_RULE),
    name("a prefix of an allowed one", "rea", DENIED, BY_RULE),
    name("an allowed one and more", "read;drop", DENIED, BY_RULE),
    name("none of the allowed", "drop", DENIED, BY_RULE),
    Attack(
        "a call without a name", READ, request(said("tools/call", {})), INVALID, BAD_PARAMS, HONEST
    ),
    Attack("a call without params", READ, request(said("tools/call")), INVALID, BAD_PARAMS, HONEST),
    method("in another case", "Tools/Call"),
    method("in capitals", "TOOLS/CALL"),
    method("a blank behind it", "tools/call "),
    method("a blank before it", " tools/call"),
    method("a line end behind it", "tools/call\n"),
    method("a full-width slash", "tools\uff0fcall"),
    method("full-width letters", "\uff54ools/call"),
    method("a long s", "tool\u017f/call"),
    method("a hyphen in it", "to-ols/call"),
    method("a zero-width joiner in it", "tools\u200d/call"),
    method("null", None),
    method("a number", 5),
    method("a list", ["tools/call"]),
    method("an object", {"name": "tools/call"}),
    method("empty", ""),
    method("the real one", "tools/call", DENIED, BY_RULE),
    Attack(
        "a call that is no request",
        DENY_DROP,
        request('{"jsonrpc":"2.0","method":"tools/call","params":{"name":"drop"}}'),
        INVALID,
        NOT_A_MESSAGE,
        HONEST,
    ),
    Attack(
        "a notification that is a request",
        DENY_DROP,
        request(said("notifications/initialized", {"name": "drop"})),
        INVALID,
        NOT_A_MESSAGE,
        request('{"jsonrpc":"2.0","method":"notifications/initialized"}'),
    ),
    Attack(
        "an unknown method with a tool's params",
        READ,
        request(said("tools/invoke", {"name": "read"})),
        DENIED,
        BY_RULE,
        HONEST,
    ),
    Attack(
        "`notTools` and the tool itself", NOT_DROP, request(use("drop")), DENIED, BY_RULE, HONEST
    ),
    Attack("`notTools` and no message", NOT_DROP, request("hello"), INVALID, -32700, HONEST),
    Attack(
        "`notTools` and no body",
        policy(to("notTools: [drop]")),
        request(""),
        DENIED,
        BY_RULE,
        HONEST,
    ),
    Attack(
        "`notTools` and a number for a tool",
        NOT_DROP,
        request(said("tools/call", {"name": 5})),
        INVALID,
        BAD_PARAMS,
        HONEST,
    ),
    Attack(
        "a DENY on `tools` and the call sent to another path",
        DENY_DROP,
        request(use("drop"), target="/other"),
        DENIED,
        BY_RULE,
        request(use("read"), target="/other"),
    ),
    Attack(
        "a DENY on `tools` and a body that is no message",
        DENY_DROP,
        request("drop"),
        INVALID,
        -32700,
        HONEST,
    ),
]
