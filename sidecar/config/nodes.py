"""A parsed document as a tree in which every key and value knows its place.

Nodes hold what was written and nothing of what it should mean. A tree is finite
and unshared: aliases and tags never reach it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ..errors import Where
from .scalars import Value


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """One value; `text` is as written, `value` what it means.

    A `broken` one has its problem noted already: who meets it says nothing more.
    """

    text: str
    value: Value
    at: Where
    width: int = 1
    broken: bool = False


@dataclass(frozen=True, slots=True)
class ListNode:
    """Values in order."""

    items: tuple[Node, ...]
    at: Where
    width: int = 1


@dataclass(frozen=True, slots=True)
class MapNode:
    """Keys, each once, with their values, in the order they were written."""

    entries: tuple[tuple[ScalarNode, Node], ...]
    at: Where
    width: int = 1

    def get(self, name: str) -> Node | None:
        """Return the value of the key *name*, or None."""
        for key, value in self.entries:
            if key.text == name:
                return value
        return None

    def key(self, name: str) -> ScalarNode | MapNode:
        """Return the key *name*, or the mapping itself where it has none: a spot to point at."""
        for key, _ in self.entries:
            if key.text == name:
                return key
        return self


Node: TypeAlias = ScalarNode | ListNode | MapNode


def described(node: Node) -> str:
    """Return in words what *node* is, such as `a list`."""
    if isinstance(node, MapNode):
        return "a mapping"
    if isinstance(node, ListNode):
        return "a list"
    if node.value is None:
        return "nothing"
    if isinstance(node.value, bool):
        return "a boolean"
    if isinstance(node.value, int | float):
        return "a number"
    return "text"
