"""One message, read strictly: what is refused, with which code, and what is said of it."""

from __future__ import annotations

import json

import pytest

from sidecar.errors import MessageError
from sidecar.mcp.message import MAX_NAME, MAX_SUBSCRIPTIONS, MAX_URI, parse, refused_id

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "read"}}
NOT_JSON, NOT_A_MESSAGE, BAD_PARAMS = -32700, -32600, -32602


def body(**changes: object) -> bytes:
    return json.dumps({**CALL, **changes}).encode()


def nested(levels: int) -> bytes:
    """A call whose arguments make the whole message *levels* deep."""
    inside = levels - 3
    arguments = b'{"a":' + b"[" * inside + b"]" * inside + b"}"
    return (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":'
        + arguments
        + b"}}"
    )


REFUSED = [
    # Not one strict JSON value.
    (b"", NOT_JSON, "not strict JSON"),
    (b"   ", NOT_JSON, "not strict JSON"),
    (b"not json", NOT_JSON, "not strict JSON"),
    (body()[:-1], NOT_JSON, "not strict JSON"),
    (body() + b"{}", NOT_JSON, "trailing"),
    (body() + b"\0", NOT_JSON, "trailing"),
    (body() + b" // thanks", NOT_JSON, "trailing"),
    (b"\xef\xbb\xbf" + body(), NOT_JSON, "byte order mark"),
    (body().decode().encode("utf-16"), NOT_JSON, "not strict JSON"),
    (body().decode().encode("utf-16-le"), NOT_JSON, "not strict JSON"),
    (body()[:-1] + b",}", NOT_JSON, "trailing comma"),
    (body()[:-1] + b',"id":2}', NOT_JSON, "Duplicate|duplicate"),
    (body()[:-1] + b',"\\u0069d":2}', NOT_JSON, "Duplicate|duplicate"),
    (body()[:-1] + b',"x":{"a":1,"a":1}}', NOT_JSON, "Duplicate|duplicate"),
    (body()[:-1] + b',"x":{"%s":1,"%s":1}}' % (b"a" * 9999, b"a" * 9999), NOT_JSON, "uplicate"),
    (body()[:-1] + b',"x":NaN}', NOT_JSON, "not strict JSON"),
    (body()[:-1] + b',"x":-Infinity}', NOT_JSON, "not strict JSON"),
    (body()[:-1] + b',"x":1e999}', NOT_JSON, "too large to be finite"),
    (body()[:-1] + b',"x":[{"y":-1E+400}]}', NOT_JSON, "too large to be finite"),
    (body()[:-1] + b',"x":1' + b"0" * 400 + b".0}", NOT_JSON, "too large to be finite"),
    (body()[:-1] + b',"x":1' + b"0" * 5000 + b"}", NOT_JSON, "out of range"),
    (body()[:-1] + b',"x":01}', NOT_JSON, "invalid number"),
    (body()[:-1] + b',"x":+1}', NOT_JSON, "not strict JSON"),
    (body()[:-1] + b',"x":0x1}', NOT_JSON, "not strict JSON"),
    (body()[:-1] + b",'x':1}", NOT_JSON, "not strict JSON"),
    (body()[:-1] + b",x:1}", NOT_JSON, "not strict JSON"),
    (body()[:-1] + b',"x":"\t"}', NOT_JSON, "control character"),
    (body()[:-1] + b',"x":"\0"}', NOT_JSON, "control character"),
    (body()[:-1] + b',"x":"\\u0000"}', NOT_JSON, "NUL"),
    (body()[:-1] + b',"x":["a","b\\u0000"]}', NOT_JSON, "NUL"),
    (body()[:-1] + b',"x":{"a\\u0000":1}}', NOT_JSON, "NUL"),
    (body()[:-1] + b',"name\\u0000":1}', NOT_JSON, "NUL"),
    (body()[:-1] + b',"x":"\\ud800"}', NOT_JSON, "not strict JSON"),
    (body()[:-1] + b',"x":"\\udc00\\ud800"}', NOT_JSON, "not strict JSON"),
    (body()[:-1] + b',"x":"\xed\xa0\x80"}', NOT_JSON, "not strict JSON"),
    (body()[:-1] + b',"x":"\xff"}', NOT_JSON, "not strict JSON"),
    (body()[:-1] + b',"x":"\xc0\x80"}', NOT_JSON, "not strict JSON"),
    (body()[:-1] + b',"x":"\\x41"}', NOT_JSON, "not strict JSON"),
    (nested(65), NOT_JSON, "deeper than 64"),
    (nested(199), NOT_JSON, "deeper than 64"),
    (nested(5000), NOT_JSON, "recursion"),
    # Keys that some reader takes for others.
    (body()[:-1] + b',"Method":"tools/list"}', NOT_JSON, "`method`"),
    (body()[:-1] + b',"METHOD":"tools/list"}', NOT_JSON, "`method`"),
    (body()[:-1] + b',"method ":"tools/list"}', NOT_JSON, "`method`"),
    (body()[:-1] + b',"Id":2}', NOT_JSON, "`id`"),
    (body()[:-1] + ',"ıd":2}'.encode(), NOT_JSON, "`id`"),
    (body()[:-1] + ',"İd":2}'.encode(), NOT_JSON, "`id`"),
    (body()[:-1] + ',"paramſ":{}}'.encode(), NOT_JSON, "`params`"),
    (body()[:-1] + ',"ｍethod":1}'.encode(), NOT_JSON, "`method`"),
    (body()[:-1] + ',"𝐦ethod":1}'.encode(), NOT_JSON, "`method`"),
    (body()[:-1] + ',"method\u3000":1}'.encode(), NOT_JSON, "`method`"),
    (body()[:-1] + b',"\\n\\tparams":{}}', NOT_JSON, "`params`"),
    (body()[:-1] + b',"JSONRPC":"2.0"}', NOT_JSON, "`jsonrpc`"),
    (body()[:-1] + b',"Result":{}}', NOT_JSON, "`result`"),
    (body()[:-1] + b',"Error":{}}', NOT_JSON, "`error`"),
    (body(params={"name": "t", "Name": "u"}), NOT_JSON, "`name`"),
    (body(params={"Name": "u"}), NOT_JSON, "`name`"),
    (body(params={"name": "t", "Arguments": {}}), NOT_JSON, "`arguments`"),
    (body(params={"name": "t", "meta": {}}), NOT_JSON, "`_meta`"),
    (body(method="resources/read", params={"uri": "a:", "URI": "b:"}), NOT_JSON, "`uri`"),
    (body(method="tasks/get", params={"taskId": "a", "task_id": "b"}), NOT_JSON, "`taskId`"),
    (body(method="custom/thing", params={"Uri": "a:"}), NOT_JSON, "`uri`"),
    (
        body(
            method="subscriptions/listen",
            params={"notifications": {"resource_subscriptions": ["file:///secret"]}},
        ),
        NOT_JSON,
        "`resourceSubscriptions`",
    ),
    (
        body(
            method="completion/complete",
            params={"ref": {"type": "ref/prompt", "name": "a", "Name": "b"}},
        ),
        NOT_JSON,
        "`name`",
    ),
    (b'{"jsonrpc":"2.0","id":1,"result":{"Tools":[]}}', NOT_JSON, "`tools`"),
    (b'{"jsonrpc":"2.0","id":1,"result":{"cache_scope":"public"}}', NOT_JSON, "`cacheScope`"),
    (b'{"jsonrpc":"2.0","id":1,"error":{"Code":1}}', NOT_JSON, "`code`"),
    # JSON, but no message.
    (b"1", NOT_A_MESSAGE, "JSON object"),
    (b"null", NOT_A_MESSAGE, "JSON object"),
    (b'"tools/call"', NOT_A_MESSAGE, "JSON object"),
    (b"[]", NOT_A_MESSAGE, "batches"),
    (b"[" + body() + b"]", NOT_A_MESSAGE, "batches"),
    (b"{}", NOT_A_MESSAGE, "`jsonrpc`"),
    # Whose keys are its own business, since no reader takes it for a message.
    (b'{"Name":"x","Id":1,"Method":"y"}', NOT_A_MESSAGE, "`jsonrpc`"),
    (b'{"JSONRPC":"2.0","Method":"y"}', NOT_JSON, "looks like `jsonrpc`"),
    (body(jsonrpc="1.0"), NOT_A_MESSAGE, "`jsonrpc`"),
    (body(jsonrpc=2.0), NOT_A_MESSAGE, "`jsonrpc`"),
    (body(jsonrpc=["2.0"]), NOT_A_MESSAGE, "`jsonrpc`"),
    (b'{"id":1,"method":"ping"}', NOT_A_MESSAGE, "`jsonrpc`"),
    (body(method=None), NOT_A_MESSAGE, "`method`"),
    (body(method=""), NOT_A_MESSAGE, "`method`"),
    (body(method=["tools/call"]), NOT_A_MESSAGE, "`method`"),
    (body(method="tools/call\n"), NOT_A_MESSAGE, "`method`"),
    (body(method="tools/call\u202e"), NOT_A_MESSAGE, "`method`"),
    (body(method="Tools/Call"), NOT_A_MESSAGE, "`tools/call`"),
    (body(method=" tools/call"), NOT_A_MESSAGE, "`tools/call`"),
    (body(method="tools/caLL"), NOT_A_MESSAGE, "`tools/call`"),
    (body(id=None), NOT_A_MESSAGE, "`id`"),
    (body(id=True), NOT_A_MESSAGE, "`id`"),
    (body(id=1.5), NOT_A_MESSAGE, "`id`"),
    (body(id=1e300), NOT_A_MESSAGE, "`id`"),
    (body(id=[1]), NOT_A_MESSAGE, "`id`"),
    (body(id={"a": 1}), NOT_A_MESSAGE, "`id`"),
    (body(params=[1]), NOT_A_MESSAGE, "`params`"),
    (body(params="name"), NOT_A_MESSAGE, "`params`"),
    (body(result={}), NOT_A_MESSAGE, "beside"),
    (body(error=None), NOT_A_MESSAGE, "beside"),
    (b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":"t"}}', NOT_A_MESSAGE, "needs an"),
    (body(method="notifications/initialized"), NOT_A_MESSAGE, "no `id`"),
    (b'{"jsonrpc":"2.0","id":1}', NOT_A_MESSAGE, "exactly one"),
    (b'{"jsonrpc":"2.0","id":1,"result":{},"error":{}}', NOT_A_MESSAGE, "exactly one"),
    (b'{"jsonrpc":"2.0","id":1,"result":{},"error":null}', NOT_A_MESSAGE, "exactly one"),
    (b'{"jsonrpc":"2.0","id":1,"result":[]}', NOT_A_MESSAGE, "`result`"),
    (b'{"jsonrpc":"2.0","id":1,"error":"no"}', NOT_A_MESSAGE, "`error`"),
    (b'{"jsonrpc":"2.0","id":null,"result":{}}', NOT_A_MESSAGE, "`id`"),
    (b'{"jsonrpc":"2.0","result":{}}', NOT_A_MESSAGE, "`id`"),
    (b'{"jsonrpc":"2.0","id":1,"result":{},"params":{}}', NOT_A_MESSAGE, "`params`"),
    # A message that does not name what it acts on.
    (body(params={}), BAD_PARAMS, "`name`"),
    (b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}', BAD_PARAMS, "`name`"),
    (body(params={"name": None}), BAD_PARAMS, "`name`"),
    (body(params={"name": ["a"]}), BAD_PARAMS, "`name`"),
    (body(params={"name": ""}), BAD_PARAMS, "`name`"),
    (body(params={"name": "a\nb"}), BAD_PARAMS, "`name`"),
    (body(params={"name": "a\x7f"}), BAD_PARAMS, "`name`"),
    (body(params={"name": "a\u200b"}), BAD_PARAMS, "`name`"),
    (body(params={"name": "a" * (MAX_NAME + 1)}), BAD_PARAMS, "`name`"),
    (body(params={"name": "t", "arguments": ["a"]}), BAD_PARAMS, "`arguments`"),
    (body(params={"name": "t", "arguments": "a"}), BAD_PARAMS, "`arguments`"),
    (body(method="prompts/get", params={"name": 1}), BAD_PARAMS, "`name`"),
    (body(method="prompts/get", params={"name": "p", "arguments": 1}), BAD_PARAMS, "`arguments`"),
    (body(method="resources/read", params={"name": "a"}), BAD_PARAMS, "`uri`"),
    (body(method="resources/read", params={"uri": "a" * (MAX_URI + 1)}), BAD_PARAMS, "`uri`"),
    (body(method="tasks/get", params={"taskId": 1}), BAD_PARAMS, "`taskId`"),
    (body(method="completion/complete", params={}), BAD_PARAMS, "`ref`"),
    (body(method="completion/complete", params={"ref": "a"}), BAD_PARAMS, "`ref`"),
    (body(method="completion/complete", params={"ref": {"name": "a"}}), BAD_PARAMS, "ref.type"),
    (
        body(method="completion/complete", params={"ref": {"type": "ref/tool", "name": "a"}}),
        BAD_PARAMS,
        "ref.type",
    ),
    (
        body(method="completion/complete", params={"ref": {"type": "ref/prompt", "uri": "a"}}),
        BAD_PARAMS,
        "`name`",
    ),
    (
        body(method="subscriptions/listen", params={"notifications": ["a"]}),
        BAD_PARAMS,
        "`notifications`",
    ),
    *(
        (
            body(
                method="subscriptions/listen",
                params={"notifications": {"resourceSubscriptions": wanted}},
            ),
            BAD_PARAMS,
            "resourceSubscriptions",
        )
        for wanted in ("a:", [1], ["a:", ""], ["a:"] * (MAX_SUBSCRIPTIONS + 1))
    ),
]


@pytest.mark.parametrize(("raw", "code", "says"), REFUSED, ids=range(len(REFUSED)))
def test_what_two_readers_could_read_differently_is_refused(
    raw: bytes, code: int, says: str
) -> None:
    with pytest.raises(MessageError, match=says) as refusal:
        parse(raw)
    assert refusal.value.code == code
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (body(params={}), 1),
        (body(id="x", jsonrpc="1.0"), "x"),
        (body(id=None), None),
        (body(id=True), None),
        (b"[]", None),
        (b"{}", None),
        (b"{", None),
        (b"1", None),
        (b'{"id":1,"id":2}', None),
    ],
)
def test_a_refusal_answers_to_the_id_if_one_can_be_told(raw: bytes, expected: object) -> None:
    with pytest.raises(MessageError):
        parse(raw)
    assert refused_id(raw) == expected
