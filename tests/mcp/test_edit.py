"""Lists made shorter by splicing, results made private, error replies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import MessageError
from sidecar.mcp.edit import LISTINGS, error_reply, filter_list, filter_tools, make_private
from sidecar.mcp.message import parse


def answer(result: str) -> bytes:
    return ('{"jsonrpc":"2.0","id":1,"result":' + result + "}").encode()


def visible(name: str) -> bool:
    return name.startswith("ok")


def everything(name: str) -> bool:
    return True


A, B, C = '{"name":"ok_a"}', '{ "name" : "no_b", "n": 1.50 }', '{"x":[{"name":"no"}],"name":"ok_c"}'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"[{A},{B},{C}]", f"[{A},{C}]"),
        (f"[{B},{A}]", f"[{A}]"),
        (f"[{A},{B}]", f"[{A}]"),
        (f"[{B}]", "[]"),
        (f"[{B},{B},{B}]", "[]"),
        (f"[{A},{B},{B}]", f"[{A}]"),
        (f"[{B},{B},{A}]", f"[{A}]"),
        (f"[{A},{B},{B},{C},{B}]", f"[{A},{C}]"),
        (f"[ {A} ,\n\t{B} ,\r\n {C} ]", f"[ {A} ,\n\t{C} ]"),
        (f"[ {A} , {B} ]", f"[ {A} ]"),
        (f"[ {B} ]", "[  ]"),
        # Without a name that is a string nobody can be asked about it.
        (f'[{A},{{"title":"ok"}}]', f"[{A}]"),
        (f'[{A},{{"name":1}},{{"name":null}},{{"name":["ok"]}},"ok",1,null,[],{{}}]', f"[{A}]"),
        # Nor with a second name that some reader would take.
        (f'[{A},{{"name":"ok_d","Name":"no"}}]', f"[{A}]"),
        (f'[{A},{{"NAME":"no","name":"ok_d"}}]', f"[{A}]"),
        # The same words, written otherwise.
        ('[{"\\u006eame":"\\u006eo_b"},{"name":"o\\u006b"}]', '[{"name":"o\\u006b"}]'),
        ('[{"name":"no\\"]}"},{"name":"ok\\\\"}]', '[{"name":"ok\\\\"}]'),
        ('[{"name":"no_é😀"},{"name":"ok_日本"}]', '[{"name":"ok_日本"}]'),
    ],
)
def test_refused_tools_are_cut_out_and_nothing_else(before: str, after: str) -> None:
    for frame in (
        '{"tools":%s}',
        '{"nextCursor":"[,]", "tools":%s,"ttlMs":1e2}',
        '{"_meta":{"tools":[{"name":"no"}]},"tools" : %s , "n":123456789012345678901234567890}',
        '{"\\u0074ools":%s}',
    ):
        body = answer(frame % before)
        parse(body)
        assert filter_tools(body, visible) == answer(frame % after)


@pytest.mark.parametrize(
    "body",
    [
        answer(f'{{"tools":[{A},{C}]}}'),
        answer('{"tools":[]}'),
        answer('{"tools":null}'),
        answer("{}"),
        answer('{"tools":[],"cacheScope":"private"}'),
        # A member of the same name elsewhere is none of this.
        answer(f'{{"structuredContent":{{"tools":[{B}],"cacheScope":"public"}}}}'),
        answer(f'{{"prompts":[{B}]}}'),
        b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"","data":{"tools":[{"name":"no"}]}}}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":{"result":{"tools":[]}}}}',
        b'{"jsonrpc":"2.0","id":1,"x":{"result":{"tools":[{"name":"no"}]}},"result":{}}',
    ],
)
def test_a_body_that_needs_no_change_is_returned_itself(body: bytes) -> None:
    parse(body)
    assert filter_tools(body, visible) is body


@pytest.mark.parametrize(
    ("method", "member", "key"),
    [
        ("tools/list", "tools", "name"),
        ("prompts/list", "prompts", "name"),
        ("resources/list", "resources", "uri"),
        ("resources/templates/list", "resourceTemplates", "uriTemplate"),
    ],
)
def test_every_list_is_filtered_by_what_names_its_items(method: str, member: str, key: str) -> None:
    items = [{"title": "t", key: "ok:1"}, {key: "no:2"}, {key.upper(): "no:3", key: "ok:4"}]
    body = answer(json.dumps({member: items}))
    kept = filter_list(body, LISTINGS[method], visible)
    assert json.loads(kept)["result"] == {member: items[:1]}


@pytest.mark.parametrize("tools", ['{"a":{"name":"no"}}', '"no"', "1", "true"])
def test_a_list_that_is_none_cannot_be_judged(tools: str) -> None:
    with pytest.raises(MessageError, match="`tools` in `result` is not an array") as refusal:
        filter_tools(answer(f'{{"tools":{tools}}}'), visible)
    assert refusal.value.code == -32600


@pytest.mark.parametrize("scope", ['"public"', '"shared"', "null", "1", '{"a":[1]}'])
def test_a_list_that_depends_on_the_caller_is_private(scope: str) -> None:
    for frame in ('{"cacheScope": %s ,"tools":[%s]}', '{"tools":[%s],"cacheScope":%s}'):
        first = frame.startswith('{"cache')
        before = frame % ((scope, f"{A},{B}") if first else (f"{A},{B}", scope))
        after = frame % (('"private"', A) if first else (A, '"private"'))
        assert filter_tools(answer(before), visible) == answer(after)
    # Even where this caller may see everything: the next one may not.
    body = answer(f'{{"tools":[{A}],"cacheScope":{scope}}}')
    assert filter_tools(body, everything) == answer(f'{{"tools":[{A}],"cacheScope":"private"}}')


@pytest.mark.parametrize(
    "body",
    [
        answer(f'{{"tools":[],"Tools":[{B}]}}'),
        answer(f'{{"TOOLS":[{B}]}}'),
        answer('{"tools":[],"cache_scope":"public"}'),
        # What a strict reader would not call a message, a lax one may.
        b'{"jsonrpc":"2.0","id":1,"params":{},"result":{"Tools":[{"name":"no"}]}}',
        b'{"jsonrpc":"2.0","id":1,"Result":{"tools":[{"name":"no"}]}}',
        b'{"id":1,"Result":{"tools":[{"name":"no"}]},"jsonrpc":"2.0"}',
        b'{"JsonRpc":"2.0","id":1,"Result":{"tools":[{"name":"no"}]}}',
        b'[{"jsonrpc":"2.0","id":1,"result":{"tools":[]}},{"jsonrpc":"2.0","id":1,"result":{"Tools":1}}]',
    ],
)
def test_a_look_alike_of_a_list_cannot_be_judged(body: bytes) -> None:
    with pytest.raises(MessageError, match="looks like"):
        filter_tools(body, everything)


def test_each_message_of_an_array_is_filtered() -> None:
    # 2025-03-26 lets a server answer so, even to one request.
    before, after = answer(f'{{"tools":[{A},{B}]}}'), answer(f'{{"tools":[{A}]}}')
    body = b"[ %s , 1, [%s],{}]" % (before, before)
    assert filter_tools(body, visible) == b"[ %s , 1, [%s],{}]" % (after, after)
    assert filter_tools(b"[%s]" % after, visible) == b"[%s]" % after


@pytest.mark.parametrize(
    "body",
    [
        *(b"1", b'"tools"', b"null", b"[]", b"[1]", b"{}", b'{"result":"ok"}', b'{"Error":"no"}'),
        b' {"Id":1,"Name":"x","Result":{"tools":[]}}',
        b'{"result":[{"tools":[{"name":"no"}]}]}',
    ],
)
def test_what_is_no_message_stays_as_it_is(body: bytes) -> None:
    assert filter_tools(body, visible) is body


def test_a_parsed_value_spares_the_second_reading() -> None:
    body = answer(f'{{"tools":[{A},{B}]}}')
    assert filter_tools(body, visible, parse(body).value) == answer(f'{{"tools":[{A}]}}')
    # The value alone says that there is nothing to read here.
    assert filter_tools(b"not even JSON", visible, {"jsonrpc": "2.0", "result": {}}) == (
        b"not even JSON"
    )


def test_a_result_can_be_made_private_without_a_list() -> None:
    body = answer('{"contents":[{"uri":"a:","cacheScope":"public"}],"cacheScope":"public","n":1.0}')
    assert make_private(body) == body.replace(b'"public","n"', b'"private","n"')
    body = answer('{"tools":"whatever","contents":[]}')
    assert make_private(body) is body


def test_a_fault_of_the_judge_lets_nothing_pass() -> None:
    def broken(name: str) -> bool:
        raise LookupError(name)

    with pytest.raises(LookupError):
        filter_tools(answer(f'{{"tools":[{A}]}}'), broken)


names = (
    st.sampled_from(["ok", "no", 'ok"', "no\\", "ok,]", "no}{", "ok\u2028é", "no😀"]) | st.text()
)
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | names
nested = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "tools", "result", "a", "é"]), inner, max_size=3)
    ),
    max_leaves=8,
)
tools = st.fixed_dictionaries({"name": names}, optional={"x": nested, "description": names})
results = st.fixed_dictionaries(
    {"tools": st.lists(tools | nested, max_size=6)},
    optional={
        "cacheScope": st.sampled_from(["public", "private"]),
        "_meta": nested,
        "zz": nested,
        "aa": nested,
    },
)


def slow(result: dict[str, Any]) -> dict[str, Any]:
    kept = [
        item
        for item in result["tools"]
        if isinstance(item, dict) and isinstance(item.get("name"), str) and visible(item["name"])
    ]
    scope = {"cacheScope": "private"} if "cacheScope" in result else {}
    return {**result, "tools": kept, **scope}


@given(
    results,
    st.sampled_from([None, 0, 1, "\t"]),
    st.booleans(),
    st.sampled_from([(",", ":"), (" , ", " : "), (",\r\n", ":\t")]),
    st.randoms(use_true_random=False),
)
def test_splicing_is_filtering(
    result: dict[str, Any], indent: Any, escaped: bool, separators: tuple[str, str], random: Any
) -> None:
    order = list(result)
    random.shuffle(order)
    result = {key: result[key] for key in order}
    message = {"jsonrpc": "2.0", "id": 1, "z": {"result": {"tools": []}}, "result": result}
    text = json.dumps(message, indent=indent, ensure_ascii=escaped, separators=separators)
    body = text.encode("utf-8", "surrogatepass")
    try:
        parse(body)
    except MessageError:
        return
    spliced = filter_tools(body, visible)
    assert json.loads(spliced) == {**message, "result": slow(result)}
    parse(spliced)
    if spliced == body:
        assert spliced is body
    assert filter_tools(spliced, visible) is spliced


@given(st.lists(st.booleans(), max_size=8), st.sampled_from(["", " ", "\n\t"]))
def test_what_is_left_keeps_its_very_bytes(keep: list[bool], space: str) -> None:
    items = [
        f'{{"name":"{"ok" if kept else "no"}{index}","n":1.5{"0" * index},"e":1E{index}}}'
        for index, kept in enumerate(keep)
    ]
    body = answer('{"tools":[' + f"{space},{space}".join(items) + "]}")
    left = f"{space},{space}".join(item for item, kept in zip(items, keep, strict=True) if kept)
    assert filter_tools(body, visible) == answer('{"tools":[' + left + "]}")


@pytest.mark.parametrize(
    ("id", "written"),
    [
        (None, b"null"),
        (1, b"1"),
        (-7, b"-7"),
        (2**64, b"18446744073709551616"),
        (10**4299, b"1" + b"0" * 4299),
        ("a", b'"a"'),
        ('"\n\u2028é', '"\\"\\n\u2028é"'.encode()),
    ],
)
def test_an_error_answers_to_the_id_as_it_was(id: str | int | None, written: bytes) -> None:
    raw = error_reply(id, -32004, "RBAC: access denied")
    expected = b'{"jsonrpc":"2.0","id":%s,"error":{"code":-32004,"message":"RBAC: access denied"}}'
    assert raw == expected % written
    assert parse(raw).id == id


def test_an_error_carries_its_data() -> None:
    raw = error_reply("x", -1, 'say "no"', {"reason": "denied", "policy": "a/b"})
    assert json.loads(raw)["error"] == {
        "code": -1,
        "message": 'say "no"',
        "data": {"reason": "denied", "policy": "a/b"},
    }
