"""JSON that two readers read differently, and messages that are none.

The rule allows the tool `read`; what the attacker wants is `drop`.
"""

from __future__ import annotations

import json

from .harness import (
    BAD_PARAMS,
    BY_RULE,
    DENIED,
    INVALID,
    NOT_A_MESSAGE,
    NOT_JSON,
    TOO_LARGE,
    Attack,
    policy,
    request,
    said,
    to,
    use,
)

READ = policy(to("methods: [POST], paths: [/mcp], tools: [read]"))
TASKS = policy(to("mcpMethods: ['tasks/*', 'tools/call']"))
RESOURCES = policy(to("resources: ['note:a']"))
HONEST = request(use("read"))


def body(name: str, text: str | bytes, code: int, status: int = INVALID) -> Attack:
    """One attack by its body, where a call of `read` is allowed."""
    return Attack(name, READ, request(text), status, code, HONEST)


def call(params: str, more: str = "") -> str:
    """A call with the members of its `params` as they are written."""
    return f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{params}}}{more}}}'


def with_id(value: str) -> str:
    return f'{{"jsonrpc":"2.0","id":{value},"method":"tools/call","params":{{"name":"read"}}}}'


DEEP = '{"a":' * 100 + "1" + "}" * 100

ATTACKS = [
    # -- one thing said twice
    body("a name given twice, the last is bad", call('"name":"read","name":"drop"'), NOT_JSON),
    body("a name given twice, the first is bad", call('"name":"drop","name":"read"'), NOT_JSON),
    body("the name again, escaped", call('"name":"read","n\\u0061me":"drop"'), NOT_JSON),
    body("the params twice", call('"name":"read"', ',"params":{"name":"drop"}'), NOT_JSON),
    body("the method twice", call('"name":"drop"', ',"method":"ping"'), NOT_JSON),
    body("the id twice", call('"name":"read"', ',"id":2'), NOT_JSON),
    body(
        "an argument twice, far inside",
        call('"name":"read","arguments":{"a":[{"b":1,"b":2}]}'),
        NOT_JSON,
    ),
    # -- keys that look like another one
    body("`Name` beside `name`", call('"name":"read","Name":"drop"'), NOT_JSON),
    body("`NAME` and no `name`", call('"NAME":"drop"'), NOT_JSON),
    body("`name ` with a blank", call('"name":"read","name ":"drop"'), NOT_JSON),
    body("a full-width `name`", call('"name":"read","\uff4eame":"drop"'), NOT_JSON),
    body("`param\u017f` with a long s", call('"name":"read"', ',"param\u017f":{}'), NOT_JSON),
    body("the long s, escaped", call('"name":"read"', ',"param\\u017f":{}'), NOT_JSON),
    body("`Method` beside `method`", call('"name":"read"', ',"Method":"ping"'), NOT_JSON),
    body("`PARAMS` beside `params`", call('"name":"read"', ',"PARAMS":{}'), NOT_JSON),
    body("`Arguments` beside `arguments`", call('"name":"read","Arguments":{}'), NOT_JSON),
    body("`JsonRpc` beside `jsonrpc`", call('"name":"read"', ',"JsonRpc":"2.0"'), NOT_JSON),
    body("`na-me`, which some join", call('"name":"read","na-me":"drop"'), NOT_JSON),
    body("`_Meta`, which says the version", call('"name":"read","_Meta":{}'), NOT_JSON),
    Attack(
        "`ta\u017f\u212aId` with a long s and a Kelvin sign",
        TASKS,
        request('{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"ta\u017f\u212aId":"t"}}'),
        INVALID,
        NOT_JSON,
        request(said("tasks/get", {"taskId": "t"})),
    ),
    Attack(
        "`task_id`, which the Python SDK reads",
        TASKS,
        request(said("tasks/get", {"taskId": "t", "task_id": "u"})),
        INVALID,
        NOT_JSON,
        request(said("tasks/get", {"taskId": "t"})),
    ),
    Attack(
        "`ur\u0131` with a dotless i, which Java reads",
        RESOURCES,
        request(said("resources/read", {"uri": "note:a", "ur\u0131": "note:b"})),
        INVALID,
        NOT_JSON,
        request(said("resources/read", {"uri": "note:a"})),
    ),
    body("NUL in a key", call('"name":"read","na\\u0000me":"drop"'), NOT_JSON),
    body("NUL behind a key", call('"name":"read","name\\u0000":"drop"'), NOT_JSON),
    # -- what is no JSON to some
    body("a byte order mark", b"\xef\xbb\xbf" + use("read").encode(), NOT_JSON),
    body("UTF-16", use("drop").encode("utf-16-le"), NOT_JSON),
    body("UTF-16 with its mark", use("drop").encode("utf-16"), NOT_JSON),
    body("UTF-32", use("drop").encode("utf-32-be"), NOT_JSON),
    body("Latin-1", call('"name":"read","a":"\u00e9"').encode("latin-1"), NOT_JSON),
    body(
        "an overlong slash",
        b'{"jsonrpc":"2.0","id":1,"method":"tools\xc0\xafcall","params":{"name":"drop"}}',
        NOT_JSON,
    ),
    body("an overlong quote", call('"name":"read","a":"b').encode() + b"\xc0\xa2}}", NOT_JSON),
    body("surrogates in UTF-8", call('"name":"rea').encode() + b'\xed\xa0\x80"}}', NOT_JSON),
    body("a lone surrogate, escaped", call('"name":"read","a":"\\ud800"'), NOT_JSON),
    body("surrogates the wrong way round", call('"name":"read","a":"\\udc00\\ud800"'), NOT_JSON),
    body("a NUL byte", call('"name":"read\0"'), NOT_JSON),
    body("a line end in a string", call('"name":"read","a":"\n"'), NOT_JSON),
    body("NaN", call('"name":"read","a":NaN'), NOT_JSON),
    body("Infinity", call('"name":"read","a":-Infinity'), NOT_JSON),
    body("a number without end", call('"name":"read","a":1e999'), NOT_JSON),
    body("a number with a zero before it", call('"name":"read","a":01'), NOT_JSON),
    body("a number with a plus", call('"name":"read","a":+1'), NOT_JSON),
    body("a hexadecimal number", call('"name":"read","a":0x1'), NOT_JSON),
    body("a number of 5 000 digits", call('"name":"read","a":' + "1" * 5000), NOT_JSON),
    body("single quotes", call("'name':'read'"), NOT_JSON),
    body("a comment", call('"name":"read"/*,*/,"a":1'), NOT_JSON),
    body("a comma too many", call('"name":"read",'), NOT_JSON),
    body("a key without quotes", call('name:"read"'), NOT_JSON),
    body("a form feed for a blank", call('"name":\f"read"'), NOT_JSON),
    body("a no-break space for a blank", call('"name":\u00a0"read"'), NOT_JSON),
    body("an escape that is none", call('"name":"re\\x61d"'), NOT_JSON),
    body("a second value behind the first", use("read") + use("drop"), NOT_JSON),
    body("a second value on the next line", use("read") + "\n" + use("drop"), NOT_JSON),
    body("a second value behind a separator", "\x1e" + use("read") + "\n", NOT_JSON),
    body("a bracket behind the end", use("read") + "]", NOT_JSON),
    body("a NUL behind the end", use("read").encode() + b"\0", NOT_JSON),
    body("half a message", use("read")[:-1], NOT_JSON),
    body("nothing but blanks", "  \n", NOT_JSON),
    body("nesting deeper than the bound", call(f'"name":"read","arguments":{DEEP}'), NOT_JSON),
    body("nesting that breaks stacks", "[" * 30_000 + "]" * 30_000, NOT_JSON),
    body("4 MB", use("read", {"a": "x" * (4 << 20)}), TOO_LARGE, 413),
    Attack(
        "4 MB in chunks",
        READ,
        b"POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        b"transfer-encoding: chunked\r\n\r\n" + b"10000\r\n" + b" " * 65_536 + b"\r\n1\r\n \r\n",
        413,
        TOO_LARGE,
        HONEST,
    ),
    # -- JSON that is no message
    body("a string", '"tools/call"', NOT_A_MESSAGE),
    body("null", "null", NOT_A_MESSAGE),
    body("no version", '{"id":1,"method":"tools/call","params":{"name":"read"}}', NOT_A_MESSAGE),
    body("a version that is a number", said("ping", jsonrpc=2.0), NOT_A_MESSAGE),
    body("version 1", said("ping", jsonrpc="1.0"), NOT_A_MESSAGE),
    body("a version that is nearly it", said("ping", jsonrpc="2.00"), NOT_A_MESSAGE),
    body("id null", with_id("null"), NOT_A_MESSAGE),
    body("id true", with_id("true"), NOT_A_MESSAGE),
    body("an id with a fraction", with_id("1.5"), NOT_A_MESSAGE),
    body("an id that doubles cannot hold", with_id("1e300"), NOT_A_MESSAGE),
    body("an id that is an object", with_id('{"a":1}'), NOT_A_MESSAGE),
    body("an id without end", with_id("1e400"), NOT_JSON),
    body("a method beside a result", call('"name":"read"', ',"result":{}'), NOT_A_MESSAGE),
    body("a method beside an error", call('"name":"read"', ',"error":{}'), NOT_A_MESSAGE),
    body(
        "an answer with params",
        '{"jsonrpc":"2.0","id":1,"result":{},"params":{"name":"drop"}}',
        NOT_A_MESSAGE,
    ),
    body(
        "an answer with both outcomes",
        '{"jsonrpc":"2.0","id":1,"result":{},"error":{}}',
        NOT_A_MESSAGE,
    ),
    body("neither question nor answer", '{"jsonrpc":"2.0","id":1}', NOT_A_MESSAGE),
    body("an answer to nothing", '{"jsonrpc":"2.0","result":{}}', NOT_A_MESSAGE),
    body("params that are a list", said("tools/call", ["drop"]), NOT_A_MESSAGE),
    body("params that are JSON in a string", said("tools/call", use("drop")), NOT_A_MESSAGE),
    body("params from a prototype", call('"__proto__":{"name":"drop"}'), BAD_PARAMS),
    body("arguments that are a list", use("read", ["a"]), BAD_PARAMS),
    body("arguments that are JSON in a string", use("read", json.dumps({"a": 1})), BAD_PARAMS),
    # -- spelled otherwise, and read all the same
    body("the method escaped", use("drop").replace("tools", "\\u0074ools"), BY_RULE, DENIED),
    body("the name escaped", call('"name":"dr\\u006fp"'), BY_RULE, DENIED),
    body("a slash escaped", use("drop").replace("/", "\\/"), BY_RULE, DENIED),
    body("blanks everywhere", json.dumps(json.loads(use("drop")), indent=9), BY_RULE, DENIED),
    body("the name at the end", call('"arguments":{"name":"read"},"name":"drop"'), BY_RULE, DENIED),
]
