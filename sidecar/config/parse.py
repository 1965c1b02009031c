"""Bytes to nodes: strict YAML 1.2, read from libyaml's events.

JSON is read as the YAML it is. Refused are duplicate keys, anchors, aliases,
merge keys, tags, directives, text that only looks like a value, characters that
cannot be seen, and whatever is too deep, too large or too much. Depth and count
are held while events arrive, so nothing is built first and measured later. The
bytes are handed in: no I/O here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NoReturn, TypeAlias, TypeGuard

import yaml

from ..errors import Where
from .complaint import complaint_about
from .nodes import ListNode, MapNode, Node, ScalarNode
from .problem import Notes, Place, Problem
from .scalars import Trap, resolve

# INVARIANT: both readers yield the same events; libyaml's is ten times as fast.
LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_LINE_BREAK: Final = re.compile(r"\r\n|\n|\r")
# Controls; other line breaks of YAML 1.1; soft hyphen, zero-width space and the
# like; characters that change direction: a rule must say what it seems to say.
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufffe\uffff\U000e0000-\U000e007f]"
)
_MOST_UNSEEN: Final = 10
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """How much one file may hold."""

    bytes: int = 4 * 1024 * 1024
    depth: int = 32
    nodes: int = 200_000
    documents: int = 1_000


@dataclass(frozen=True, slots=True)
class Parsed:
    """The documents of one file as nodes, what is wrong with it, and its lines."""

    documents: tuple[Node, ...]
    problems: tuple[Problem, ...]
    lines: tuple[str, ...]


DEFAULT_LIMITS: Final = ParseLimits()


def parse(data: bytes, file: str, limits: ParseLimits = DEFAULT_LIMITS) -> Parsed:
    """Read the documents of *data*; *file* is only its name.

    Never raises on bad input: what is wrong is in `problems`, and the documents
    before it are still returned.
    """
    notes = Notes()
    text = _decoded(data, file, limits, notes)
    if text is None:
        return Parsed((), notes.problems, ())
    lines = tuple(_LINE_BREAK.split(text))
    builder = _Builder(file, lines, limits, notes)
    if not _screened(lines, file, notes):
        builder.read(text)
    return Parsed(tuple(builder.documents), notes.problems, lines)


def _decoded(data: bytes, file: str, limits: ParseLimits, notes: Notes) -> str | None:
    if len(data) > limits.bytes:
        notes.error(
            "SC0109",
            f"the file has {len(data)} bytes, more than {limits.bytes}",
            Place(Where(file)),
            help="split it into several files",
        )
        return None
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        notes.error(
            "SC0101",
            f"byte 0x{data[error.start]:02x} is not UTF-8",
            Place(Where(file, line)),
            help="save the file as UTF-8",
        )
        return None


def _screened(lines: tuple[str, ...], file: str, notes: Notes) -> bool:
    """Note what cannot be seen in *lines* and return whether there was any."""
    found = 0
    for number, line in enumerate(lines, 1):
        for match in _UNSEEN.finditer(line):
            found += 1
            if found > _MOST_UNSEEN:
                return True
            escape = f"\\u{ord(match[0]):04x}"
            notes.error(
                "SC0108",
                f"character U+{ord(match[0]):04X} cannot be seen",
                Place(Where(file, number, match.start() + 1)),
                why="what is read would not be what it looks like",
                help=f'remove it, or write it as `{escape}` inside double quotes: "…{escape}…"',
            )
    return bool(found)


class _Stop(Exception):
    """The rest of the file is not read; why is noted."""


@dataclass(slots=True)
class _List:
    """A list under construction."""

    at: Where
    items: list[Node] = field(default_factory=list)

    def add(self, node: Node, notes: Notes) -> None:
        self.items.append(node)

    def finish(self, width: int) -> Node:
        return ListNode(tuple(self.items), self.at, width)


@dataclass(slots=True)
class _Map:
    """A mapping under construction; `key` waits for its value."""

    at: Where
    entries: list[tuple[ScalarNode, Node]] = field(default_factory=list)
    seen: dict[str, Where] = field(default_factory=dict)
    key: Node | None = None

    def add(self, node: Node, notes: Notes) -> None:
        if self.key is None:
            self.key = node
            return
        key, self.key = self.key, None
        if _is_key(key, notes) and self._is_new(key, notes):
            self.entries.append((key, node))

    def _is_new(self, key: ScalarNode, notes: Notes) -> bool:
        first = self.seen.setdefault(key.text, key.at)
        if first is key.at:
            return True
        notes.error(
            "SC0104",
            f"key `{key.text}` is written twice",
            key,
            label="again here",
            why=f"readers differ on which one counts; the first is at {first}",
            help="join the two, or remove one",
        )
        return False

    def finish(self, width: int) -> Node:
        return MapNode(tuple(self.entries), self.at, width)


_Frame: TypeAlias = _List | _Map


def _is_key(node: Node, notes: Notes) -> TypeGuard[ScalarNode]:
    if not isinstance(node, ScalarNode):
        notes.error("SC0110", "a key must be a word, not a list or mapping", node)
        return False
    if node.text == "<<" and node.value == "<<":
        notes.error("SC0107", "merge keys (`<<`) are not read", node, help="write the fields out")
        return False
    if node.value is None and not node.broken:
        notes.error("SC0110", "a key is empty", node, help="write the field's name before the `:`")
        return False
    return not node.broken


class _Builder:
    """Builds nodes from events with its own stack, so depth costs no recursion."""

    def __init__(
        self, file: str, lines: tuple[str, ...], limits: ParseLimits, notes: Notes
    ) -> None:
        self.documents: list[Node] = []
        self._file, self._lines, self._limits, self._notes = file, lines, limits, notes
        self._stack: list[_Frame] = []
        self._nodes = 0

    def read(self, text: str) -> None:
        try:
            for event in _events(text):
                self._take(event)
        except _Stop:
            pass
        except yaml.YAMLError as error:
            complaint_about(error, self._file, self._lines, self._notes)

    def _take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._refuse_extras(event)
            self._add(self._scalar(event))
        elif isinstance(event, yaml.MappingStartEvent):
            self._refuse_extras(event)
            self._push(_Map(self._where(event)))
        elif isinstance(event, yaml.SequenceStartEvent):
            self._refuse_extras(event)
            self._push(_List(self._where(event)))
        elif isinstance(event, yaml.CollectionEndEvent):
            frame = self._stack.pop()
            self._add(frame.finish(self._width(frame.at, event)))
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._begin(event)

    def _begin(self, event: yaml.DocumentStartEvent) -> None:
        if event.tags or event.version not in (None, (1, 2)):
            self._notes.error(
                "SC0107",
                "directives (`%YAML`, `%TAG`) are not read",
                Place(self._where(event)),
                help="remove the lines that begin with `%`",
            )
        if len(self.documents) >= self._limits.documents:
            self._stop(self._where(event), f"more than {self._limits.documents} documents")

    def _refuse_extras(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        self._nodes += 1
        if self._nodes > self._limits.nodes:
            self._stop(self._where(event), f"more than {self._limits.nodes} keys and values")
        if event.anchor is not None:
            self._notes.error(
                "SC0107",
                f"anchors (`&{event.anchor}`) are not read",
                Place(self._where(event), len(event.anchor) + 1),
                why="a few lines of them can stand for gigabytes",
                help="write the value out where it is needed",
            )
        if event.tag is not None:
            self._notes.error(
                "SC0107",
                "tags (`!`) are not read",
                Place(self._where(event)),
                help="remove the tag; put text that looks like a number in quotes",
            )

    def _alias(self, event: yaml.AliasEvent) -> None:
        place = Place(self._where(event), len(str(event.anchor)) + 1)
        self._notes.error(
            "SC0107",
            f"aliases (`*{event.anchor}`) are not read",
            place,
            help=f'write the value out, or `"*{event.anchor}"` if you mean these characters',
        )
        self._add(ScalarNode("", None, place.at, place.width, broken=True))

    def _scalar(self, event: yaml.ScalarEvent) -> ScalarNode:
        text, at = event.value, self._where(event)
        width = self._width(at, event)
        if not event.implicit[0]:
            return self._quoted(text, at, width)
        value = resolve(text)
        if not isinstance(value, Trap):
            return ScalarNode(text, value, at, width)
        self._notes.error(value.code, value.message, Place(at, width), help=value.help)
        return ScalarNode(text, None, at, width, broken=True)

    def _quoted(self, text: str, at: Where, width: int) -> ScalarNode:
        if _SURROGATE.search(text) is None:
            return ScalarNode(text, text, at, width)
        self._notes.error(
            "SC0102",
            "an escape names half a character",
            Place(at, width),
            help="write the character itself, or its eight digits after `\\U`",
        )
        return ScalarNode("", None, at, width, broken=True)

    def _push(self, frame: _Frame) -> None:
        if len(self._stack) >= self._limits.depth:
            self._stop(frame.at, f"nested deeper than {self._limits.depth} levels")
        self._stack.append(frame)

    def _add(self, node: Node) -> None:
        if self._stack:
            self._stack[-1].add(node, self._notes)
        elif not (isinstance(node, ScalarNode) and node.value is None):
            self.documents.append(node)

    def _stop(self, at: Where, what: str) -> NoReturn:
        self._notes.error(
            "SC0109",
            f"this file is too much: {what}",
            Place(at),
            why="a limit keeps one file from taking all memory; the rest of it was not read",
        )
        raise _Stop

    def _where(self, event: yaml.Event) -> Where:
        mark = event.start_mark
        return Where(self._file, mark.line + 1, mark.column + 1) if mark else Where(self._file)

    def _width(self, start: Where, last: yaml.Event) -> int:
        end = last.end_mark
        if end is not None and end.line + 1 == start.line:
            return max(end.column + 1 - start.column, 1)
        line = self._lines[start.line - 1] if start.line <= len(self._lines) else ""
        return max(len(line.rstrip()) + 1 - start.column, 1)


def _events(text: str) -> Iterator[yaml.Event]:
    yield from yaml.parse(text, Loader=LOADER)
