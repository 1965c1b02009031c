from __future__ import annotations

import pytest

from sidecar.config.nodes import MapNode, described
from sidecar.config.parse import parse


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- {a: 1}", "a mapping"),
        ("- [1]", "a list"),
        ("- ~", "nothing"),
        ("- true", "a boolean"),
        ("- 1", "a number"),
        ("- 1.5", "a number"),
        ("- a", "text"),
        ('- "1"', "text"),
    ],
)
def test_a_node_is_told_in_words(text: str, words: str) -> None:
    (node,) = parse(text.encode(), "f").documents
    assert described(node.items[0]) == words  # type: ignore[union-attr]


def test_a_mapping_gives_values_and_the_places_of_keys() -> None:
    (node,) = parse(b"a: 1\nb: 2\n", "f").documents
    assert isinstance(node, MapNode)
    assert node.get("c") is None
    assert node.key("b").at.line == 2
    assert node.key("c") is node
