"""Ids of our own on the way in, the callers' on the way back, and nothing else changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.mcp.message import parse
from sidecar.mcp.rename import (
    ID,
    PROGRESS,
    SUBSCRIBED,
    SUBSCRIPTION,
    TOKEN,
    Path,
    found,
    renamed,
    span,
)

CALL = (
    b'{"jsonrpc":"2.0", "id" : 1.0,"method":"tools/call","params":{"name":"x",'
    b'"arguments":{"id":1,"progressToken":2},"_meta":{"progressToken":"a\\u0041"}}}'
)
NEWS = "notifications/tools/list_changed"


def test_the_id_and_the_token_become_ours_and_what_looks_like_them_stays() -> None:
    ours = renamed(CALL, {ID: "7", TOKEN: "7"})
    assert ours == CALL.replace(b"1.0", b"7").replace(b'"a\\u0041"', b"7")


def test_what_was_written_comes_back_as_it_was_written() -> None:
    assert (span(CALL, ID), span(CALL, TOKEN), span(CALL, PROGRESS)) == ("1.0", '"a\\u0041"', "")
    answer = renamed(b'{"jsonrpc":"2.0","id":7,"result":{}}', {ID: span(CALL, ID)})
    assert answer == b'{"jsonrpc":"2.0","id":1.0,"result":{}}'


@pytest.mark.parametrize(
    ("message", "path", "value"),
    [
        ({"method": "notifications/progress", "params": {"progressToken": 7}}, PROGRESS, 7),
        ({"method": NEWS, "params": {"_meta": {SUBSCRIPTION[-1]: 7}}}, SUBSCRIPTION, 7),
        ({"id": 7, "result": {"_meta": {SUBSCRIBED[-1]: 7}}}, SUBSCRIBED, 7),
        ({"method": NEWS, "params": {"_meta": 5}}, SUBSCRIPTION, None),
        ({"method": NEWS}, SUBSCRIPTION, None),
    ],
)
def test_it_is_known_whose_a_message_is(message: Any, path: Path, value: object) -> None:
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    assert found(parse(body), path) == value
    assert renamed(body, {path: '"mine"'}) == (
        body
        if value is None
        else json.dumps({"jsonrpc": "2.0", **message})
        .replace(f'"{path[-1]}": 7', f'"{path[-1]}": "mine"')
        .encode()
    )


@given(st.integers() | st.text(max_size=8), st.dictionaries(st.text(max_size=4), st.floats()))
def test_there_and_back_again_is_the_same_message(id: int | str, params: dict[str, float]) -> None:
    body = json.dumps({"id": id, "params": params}).encode()
    there = renamed(body, {ID: "12"})
    assert json.loads(there)["id"] == 12
    assert renamed(there, {ID: span(body, ID)}) == body
