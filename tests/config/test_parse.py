from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config import parse as module
from sidecar.config.nodes import ListNode, MapNode, Node, ScalarNode
from sidecar.config.parse import ParseLimits, parse
from sidecar.errors import Where

LOADERS = [yaml.SafeLoader, *([yaml.CSafeLoader] if yaml.__with_libyaml__ else [])]


@pytest.fixture(params=LOADERS, ids=lambda loader: str(loader.__name__))
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with libyaml and with PyYAML's own reader."""
    monkeypatch.setattr(module, "LOADER", request.param)


def values(node: Node) -> Any:
    if isinstance(node, MapNode):
        return {key.text: values(value) for key, value in node.entries}
    if isinstance(node, ListNode):
        return [values(item) for item in node.items]
    return node.value


def only(text: str) -> Node:
    parsed = parse(text.encode(), "f")
    assert parsed.problems == ()
    (node,) = parsed.documents
    return node


def codes(text: str | bytes, limits: ParseLimits | None = None) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    found = parse(data, "f", limits) if limits else parse(data, "f")
    return [problem.code for problem in found.problems]


pytestmark = pytest.mark.usefixtures("loader")


def test_values_come_out_as_written() -> None:
    text = "a: {b: [1, x, \"2\", true, ~]}\nc: |\n  two\n  lines\nd: 'it''s'\n"
    assert values(only(text)) == {
        "a": {"b": [1, "x", "2", True, None]},
        "c": "two\nlines\n",
        "d": "it's",
    }


def test_every_key_and_value_knows_its_place() -> None:
    node = only("a:\n- bc: déf\n  g: [h]\n")
    assert isinstance(node, MapNode)
    items = node.get("a")
    assert isinstance(items, ListNode)
    inner = items.items[0]
    assert isinstance(inner, MapNode)
    assert [key.at for key, _ in inner.entries] == [Where("f", 2, 3), Where("f", 3, 3)]
    value = inner.get("bc")
    assert isinstance(value, ScalarNode)
    assert (value.at, value.width) == (Where("f", 2, 7), 3)
    listed = inner.get("g")
    assert isinstance(listed, ListNode)
    assert (listed.at, listed.width) == (Where("f", 3, 6), 3)


def test_columns_count_characters_not_bytes() -> None:
    node = only('a: {"漢字": é, b: c}\n')
    inner = node.get("a") if isinstance(node, MapNode) else None
    assert isinstance(inner, MapNode)
    assert inner.key("b").at == Where("f", 1, 14)


def test_several_documents_come_out_in_order_and_empty_ones_not_at_all() -> None:
    parsed = parse(b"---\na: 1\n---\n---\n# nothing\n---\nb: 2\n", "f")
    assert [values(node) for node in parsed.documents] == [{"a": 1}, {"b": 2}]
    assert parsed.problems == ()


def test_what_stands_before_broken_yaml_is_still_read() -> None:
    parsed = parse(b"a: 1\n---\nb: [1\n---\nc: 3\n", "f")
    assert [values(node) for node in parsed.documents] == [{"a": 1}]
    assert [problem.code for problem in parsed.problems] == ["SC0102"]


def test_json_is_read_as_yaml() -> None:
    assert values(only('{"a": [1, "x", null, true], "b": {"c": "\\u00e9\\/"}}')) == {
        "a": [1, "x", None, True],
        "b": {"c": "é/"},
    }


def test_a_byte_order_mark_at_the_beginning_is_no_character() -> None:
    parsed = parse(b"\xef\xbb\xbfa: 1\n", "f")
    assert parsed.problems == ()
    assert parsed.lines[0] == "a: 1"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: 1\na: 2\n", "SC0104"),
        ("{a: 1, 'a': 2}", "SC0104"),
        ('8080: 1\n"8080": 2\n', "SC0104"),
        ("a: yes\n", "SC0105"),
        ("off: 1\n", "SC0105"),
        ("- [on]\n", "SC0105"),
        ("a: 010\n", "SC0106"),
        ("a: &x 1\n", "SC0107"),
        ("a: &x [1]\n", "SC0107"),
        ("<<: {a: 1}\n", "SC0107"),
        ("a: !!str 1\n", "SC0107"),
        ("a: !thing {}\n", "SC0107"),
        ("a: ! x\n", "SC0107"),
        ("%YAML 1.1\n---\na: 1\n", "SC0107"),
        ("%TAG ! tag:x,2000:\n---\na: 1\n", "SC0107"),
        ("? [a]\n: b\n", "SC0110"),
        ("? {a: b}\n: b\n", "SC0110"),
        ("?\n: b\n", "SC0110"),
        ("~: b\n", "SC0110"),
        ("a: x\u200by\n", "SC0108"),
        ("a: x\u202ey\n", "SC0108"),
        ("a: x\u00ady\n", "SC0108"),
        ("# \u2066\n", "SC0108"),
        ("a: x\x07y\n", "SC0108"),
        ("a: x\x85y\n", "SC0108"),
        ("a: x\u2028y\n", "SC0108"),
        ("a: x\ufeffy\n", "SC0108"),
        ("a: \x00\n", "SC0108"),
    ],
)
def test_what_could_mislead_is_refused(text: str, code: str) -> None:
    assert codes(text) == [code]


def test_of_many_characters_that_cannot_be_seen_the_first_are_told() -> None:
    assert codes("a: " + "\u200b" * 1000) == ["SC0108"] * 10


def test_what_could_mislead_may_be_written_as_an_escape() -> None:
    assert values(only('a: "x\\u202ey"\nb: "*x"\nc: "yes"\nd: "010"\n')) == {
        "a": "x\u202ey",
        "b": "*x",
        "c": "yes",
        "d": "010",
    }


def test_half_a_character_is_refused() -> None:
    assert codes('a: "\\ud83d"\n') == ["SC0102"]


def test_bytes_that_are_not_utf_8_are_refused_with_their_line() -> None:
    (problem,) = parse(b"a: 1\nb: \xff\n", "f").problems
    assert (problem.code, problem.where) == ("SC0101", Where("f", 2))
    assert codes("a: 1\n".encode("utf-16")) == ["SC0101"]


def test_anchors_and_aliases_cost_nothing() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    tracemalloc.start()
    parsed = parse("\n".join(lines).encode(), "f")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert {problem.code for problem in parsed.problems} == {"SC0107"}
    assert peak < 4_000_000


def test_an_alias_has_one_problem_and_no_value() -> None:
    parsed = parse(b"a: *x\n", "f")
    assert [problem.code for problem in parsed.problems] == ["SC0107"]
    (node,) = parsed.documents
    value = node.get("a") if isinstance(node, MapNode) else None
    assert isinstance(value, ScalarNode)
    assert value.broken


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("[" * 33 + "]" * 33, ParseLimits()),
        ("{a: " * 33 + "1" + "}" * 33, ParseLimits()),
        ("[" * 100_000, ParseLimits()),
        ("- 1\n" * 11, ParseLimits(nodes=10)),
        ("---\na: 1\n" * 4, ParseLimits(documents=3)),
        ("a: 1234567", ParseLimits(bytes=5)),
    ],
)
def test_a_file_over_a_limit_is_refused(text: str, limits: ParseLimits) -> None:
    assert codes(text, limits) == ["SC0109"]


def test_a_file_at_its_limits_is_read() -> None:
    assert codes("[" * 32 + "]" * 32) == []
    assert codes("- 1\n" * 9, ParseLimits(nodes=10)) == []
    assert codes("---\na: 1\n" * 3, ParseLimits(documents=3)) == []


def test_a_second_key_is_told_where_the_first_is() -> None:
    (problem,) = parse(b"a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", "f").problems
    assert problem.where == Where("f", 5, 3)
    assert "f:3:3" in problem.why


@given(st.text(max_size=60))
@settings(max_examples=150)
def test_any_text_gives_documents_or_problems_and_never_raises(text: str) -> None:
    parsed = parse(text.encode("utf-8", "surrogatepass"), "f")
    assert parsed.documents or parsed.problems or not text.strip() or _is_empty(text)


def _is_empty(text: str) -> bool:
    """Whether the same reader finds nothing but empty documents in *text*."""
    return all(node is None for node in yaml.load_all(text, Loader=module.LOADER))


TEXTS = st.text(
    st.characters(exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")), max_size=8
)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**9), 10**9) | TEXTS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
        max_leaves=20,
    )
)
@settings(max_examples=100)
def test_every_json_value_is_read_as_it_was(value: Any) -> None:
    text = json.dumps([value], ensure_ascii=False)
    assert values(only(text)) == [value]
