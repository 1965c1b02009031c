"""The path of a leaf: the right one, short, and fit for a log."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.mcp.message import leaves
from sidecar.policy.scan.place import path_of

KEYS = st.text("abcXYZ_09", min_size=1, max_size=5)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text("pqr", max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=20,
)


def look_up(value: Any, path: str) -> str:
    """Return the string that *path* names; only plain keys are understood."""
    assert path.startswith("$")
    steps = re.findall(r"\.(\w+)|\[(\d+)\]|\{key (\d+)\}", path)
    for key, index, nth in steps:
        if nth:
            return list(value)[int(nth) - 1]
        value = value[key] if key else value[int(index)]
    return value


@given(value=VALUES)
def test_the_path_of_each_leaf_leads_to_it(value: Any) -> None:
    text = leaves(value)
    listed = text.split("\0") if text else []
    for index, leaf in enumerate(listed):
        assert look_up(value, path_of(value, index)) == leaf


@pytest.mark.parametrize(
    ("value", "index", "path"),
    [
        ("x", 0, "$"),
        ({"a": "x"}, 0, "$.a"),
        ({"a": {"b": ["", {"c": "x"}]}}, 4, "$.a.b[1].c"),
        ({"two words": "x"}, 1, "$['two words']"),
        ({"a\n\x1b[31mb": "x"}, 1, "$['a\\n\\x1b[31mb']"),
        ({"ключ": "x"}, 1, "$['\\u043a\\u043b\\u044e\\u0447']"),
        ({"": "x"}, 1, "$['']"),
        ({"k" * 100: "x"}, 1, "$['" + "k" * 48 + "...']"),
        ({"p": {"secret words": 1, "a": 2}}, 2, "$.p{key 2}"),
    ],
)
def test_a_path_is_written_for_people_and_logs(value: Any, index: int, path: str) -> None:
    listed = leaves(value).split("\0")
    if path == "$.a":
        index = listed.index("x")
    assert path_of(value, index) == path


def test_a_deep_path_is_cut() -> None:
    value: Any = "x"
    for _ in range(40):
        value = [value]
    assert path_of(value, 0) == "$" + "[0]" * 16 + "..."


def test_a_leaf_that_is_not_there_is_a_fault() -> None:
    with pytest.raises(LookupError):
        path_of({"a": ["x"]}, 2)
