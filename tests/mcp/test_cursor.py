"""Places in JSON texts, and cuts made there."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from sidecar.mcp.cursor import Cursor, Cut, splice

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=6), VALUES), st.sampled_from([None, 1, "\t"]))
def test_members_are_found_where_they_stand(value: dict[str, object], indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    cursor, found = Cursor(text), {}
    for key in cursor.members():
        start = cursor.at
        found[key] = cursor.step()
        assert json.loads(text[start : cursor.at]) == found[key]
    assert found == value
    assert cursor.at == len(text)


@given(st.lists(VALUES, max_size=6))
def test_elements_are_found_where_they_stand(value: list[object]) -> None:
    cursor = Cursor(json.dumps(value))
    assert [cursor.step() for _ in cursor.elements()] == value


def test_what_is_not_cut_stays() -> None:
    body = '{"a": 1.00, "b": "ü"}'.encode()
    assert splice(body, body.decode(), []) is body
    assert splice(body, body.decode(), [Cut(6, 10, "2"), Cut(17, 20)]) == b'{"a": 2, "b": }'
