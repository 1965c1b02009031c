"""One message, read strictly: what is taken, what is refused, and what it acts on."""

from __future__ import annotations

import json

import pytest

from sidecar.errors import MessageError
from sidecar.mcp.message import Message, leaves, parse, parse_value

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "read"}}
BIG = 123456789012345678901234567890


def body(**changes: object) -> bytes:
    return json.dumps({**CALL, **changes}).encode()


def call(method: str, **params: object) -> Message:
    return parse(body(method=method, params=params))


def nested(levels: int) -> bytes:
    """A call whose arguments make the whole message *levels* deep."""
    inside = levels - 3
    arguments = b'{"a":' + b"[" * inside + b"]" * inside + b"}"
    return (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":'
        + arguments
        + b"}}"
    )


def test_a_tool_call_names_its_tool_and_arguments() -> None:
    message = call("tools/call", name="read_file", arguments={"path": "/srv/a"})
    assert (message.kind, message.id, message.method) == ("request", 1, "tools/call")
    assert message.tool == "read_file"
    assert message.arguments == {"path": "/srv/a"}
    assert (message.prompt, message.resource, message.task, message.targets) == (
        None,
        None,
        None,
        (),
    )


@pytest.mark.parametrize(
    ("method", "params", "attribute", "expected"),
    [
        ("prompts/get", {"name": "greet"}, "prompt", "greet"),
        ("resources/read", {"uri": "file:///a"}, "resource", "file:///a"),
        ("resources/subscribe", {"uri": "file:///a"}, "resource", "file:///a"),
        ("resources/unsubscribe", {"uri": "file:///a"}, "resource", "file:///a"),
        ("tasks/get", {"taskId": "t-1"}, "task", "t-1"),
        ("tasks/result", {"taskId": "t-1"}, "task", "t-1"),
        ("tasks/cancel", {"taskId": "t-1"}, "task", "t-1"),
        ("tasks/update", {"taskId": "t-1"}, "task", "t-1"),
        (
            "completion/complete",
            {"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "a", "value": "b"}},
            "prompt",
            "p",
        ),
        (
            "completion/complete",
            {"ref": {"type": "ref/resource", "uri": "file:///{path}"}},
            "resource",
            "file:///{path}",
        ),
        (
            "subscriptions/listen",
            {"notifications": {"resourceSubscriptions": ["a:1", "a:2"], "toolsListChanged": True}},
            "targets",
            ("a:1", "a:2"),
        ),
    ],
)
def test_each_method_acts_on_the_field_the_table_names(
    method: str, params: dict[str, object], attribute: str, expected: object
) -> None:
    message = call(method, **params)
    assert getattr(message, attribute) == expected
    others = {"tool", "prompt", "resource", "task"} - {attribute}
    assert all(getattr(message, other) is None for other in others)


def test_a_notification_has_no_id() -> None:
    message = parse(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
    assert (message.kind, message.id, message.params) == ("notification", None, {})


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"jsonrpc":"2.0","id":"x","result":{}}', "x"),
        (b'{"jsonrpc":"2.0","id":7,"error":{"code":-1,"message":"no"}}', 7),
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"no"}}', None),
        (b'{"jsonrpc":"2.0","error":{"code":-1,"message":"no"}}', None),
        # Servers on some JSON libraries give a whole number back as a float.
        (b'{"jsonrpc":"2.0","id":7.0,"result":{}}', 7),
        (b'{"jsonrpc":"2.0","id":123456789012345678901234567890,"result":{}}', BIG),
    ],
)
def test_a_response_answers_to_its_id(raw: bytes, expected: object) -> None:
    message = parse(raw)
    assert (message.kind, message.method, message.id) == ("response", "", expected)
    assert type(message.id) is type(expected)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', True),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"a"}}', True),
        (b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}', True),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', True),
        (body(), False),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/unheard_of"}', False),
        (b'{"jsonrpc":"2.0","id":1,"method":"unheard_of/list"}', False),
        (b'{"jsonrpc":"2.0","method":"tools/unheard_of"}', False),
        (body(method="subscriptions/listen", params={}), True),
        (body(method="subscriptions/listen", params={"notifications": {}}), True),
        (
            body(
                method="subscriptions/listen", params={"notifications": {"toolsListChanged": True}}
            ),
            True,
        ),
        (
            body(
                method="subscriptions/listen",
                params={"notifications": {"resourceSubscriptions": []}},
            ),
            False,
        ),
        (
            body(method="subscriptions/listen", params={"notifications": {"taskIds": ["t"]}}),
            False,
        ),
    ],
)
def test_session_traffic_is_told_from_use(message: bytes, expected: bool) -> None:
    assert parse(message).session is expected


@pytest.mark.parametrize(
    "raw",
    [
        body(params=None, method="tools/list"),
        body(params={"name": "t", "arguments": None}),
        # Inside arguments every key is the tool's own business.
        body(params={"name": "t", "arguments": {"Name": 1, "ID": 2, "jſonrpc": 3, "method": 4}}),
        body(params={"name": "t", "_meta": {"Name": 1}}),
        body(method="custom/thing", params={"meta": 1, "Ref": 2, "task_id": 3}),
        body(id="", method="ping", params={}),
        body(id=-0, method="ping", params={}),
        body(params={"name": "日本語 tool"}),
        body(extra=1),
        body(params={"name": "t", "arguments": {"a": "\\u0000 written out"}}),
        body(params={"name": "t", "arguments": {"a": 1e308, "b": -1e308, "c": 5e-324}}),
        body(params={"name": "t", "arguments": {"a": 10**400}}),
        b" \t\r\n" + body() + b"\r\n",
        body(params={"name": "t", "arguments": {"a": "😀"}}),
        nested(64),
    ],
)
def test_what_is_unusual_but_clear_is_taken(raw: bytes) -> None:
    assert isinstance(parse(raw), Message)


def test_the_depth_is_the_callers_to_choose() -> None:
    assert parse(nested(4), max_depth=4).tool == "t"
    with pytest.raises(MessageError, match="deeper than 3"):
        parse(nested(4), max_depth=3)


def test_many_containers_side_by_side_are_not_deep() -> None:
    message = call("tools/call", name="t", arguments={"rows": [{"a": []} for _ in range(500)]})
    assert message.tool == "t"


def test_the_text_is_every_string_keys_before_values() -> None:
    value = {"a": "one", "b": ["two", {"c": "three"}], "d": 4, "e": None, "f": True}
    assert leaves(value).split("\0") == ["a", "b", "d", "e", "f", "one", "two", "c", "three"]
    assert leaves(parse(body()).value).split("\0")[:4] == ["jsonrpc", "id", "method", "params"]


@pytest.mark.parametrize(
    ("value", "text"), [("a", "a"), (1, ""), ([], ""), ("", ""), (["", ""], "\0"), ({"": ""}, "\0")]
)
def test_the_text_of_any_value_can_be_had(value: object, text: str) -> None:
    assert leaves(value) == text


@pytest.mark.parametrize("raw", [b"1", b'[{"Method":1}]', b' {"a":"b"} ', b'"x"', b"null"])
def test_any_strict_value_can_be_read(raw: bytes) -> None:
    assert parse_value(raw) == json.loads(raw)


@pytest.mark.parametrize("raw", [b"", b"{", b'{"a":1,"a":1}', b'["\\u0000"]', b"1e999", b"[[[]]]"])
def test_any_value_is_read_as_strictly_as_a_message(raw: bytes) -> None:
    with pytest.raises(MessageError) as refusal:
        parse_value(raw, max_depth=2)
    assert refusal.value.code == -32700


MODERN_META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
LEGACY_META = {"io.modelcontextprotocol/protocolVersion": "2025-11-25"}


@pytest.mark.parametrize("method", ["resources/subscribe", "resources/unsubscribe", "tasks/result"])
def test_a_method_that_the_stateless_era_has_lost_need_name_nothing_there(method: str) -> None:
    message = call(method, _meta=MODERN_META)
    assert (message.resource, message.task, message.session) == (None, None, False)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("resources/subscribe", {}),
        ("resources/subscribe", {"_meta": LEGACY_META}),
        ("resources/subscribe", {"_meta": {}}),
        ("resources/subscribe", {"_meta": MODERN_META, "uri": None}),
        ("resources/read", {"_meta": MODERN_META}),
        ("tools/call", {"_meta": MODERN_META}),
    ],
)
def test_whatever_else_acts_on_something_must_name_it(
    method: str, params: dict[str, object]
) -> None:
    with pytest.raises(MessageError) as refusal:
        call(method, **params)
    assert refusal.value.code == -32602


def test_what_a_lost_method_names_all_the_same_is_what_rules_are_asked_about() -> None:
    assert call("resources/subscribe", uri="a:b", _meta=MODERN_META).resource == "a:b"
