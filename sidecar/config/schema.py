"""How documents are declared and read: fields in tables, one walker over nodes.

A table says of every field its form, its place in a class, whether it must be
there, and whether it acts. The walker reads with it, the reference is printed
from it, and so the two cannot differ. All problems of a document are noted in
one pass; a form that cannot read its value notes why and raises Unread.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from functools import cached_property
from typing import Final, Generic, TypeAlias, TypeVar

from .nodes import ListNode, MapNode, Node, ScalarNode, described
from .problem import Notes, Spot

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
K = TypeVar("K")

MOST_ITEMS: Final = 4096
DROPPED: Final = "-"
_LONGEST_WORD: Final = 64  # nobody mistypes a longer one, and likeness costs time
IGNORED: Final = "a field that is not known would be ignored, and what it asks for would not happen"


class Unread(Exception):
    """A value could not be read; the notes already say why."""


class Form(ABC, Generic[T_co]):
    """The form a value has: reads a node into a T, or notes why it cannot."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What the reference calls this form, such as `list of text`."""

    @abstractmethod
    def read(self, node: Node, path: str, notes: Notes) -> T_co:
        """Return the value of *node*, which stands at *path*; raise Unread once noted."""

    @property
    def suffix(self) -> str:
        """What the reference writes between a field's name and the fields inside it."""
        return ""

    def struct(self) -> Struct[object] | None:
        """Return the struct inside this form, however deep in lists, or None."""
        return None


class Support(Enum):
    """What becomes of a field that is known and yet not read."""

    INERT = "no meaning here"
    LATER = "no effect yet"
    REFUSED = "refused for now"


@dataclass(frozen=True, slots=True)
class Field:
    """A field that is read. *attr* is where it goes; snake case of *name* if empty.

    A DROPPED one is checked and not kept.
    """

    name: str
    form: Form[object]
    doc: str
    attr: str = ""
    required: bool = False
    default: str = ""

    @property
    def target(self) -> str:
        return self.attr or snake(self.name)


@dataclass(frozen=True, slots=True)
class Unused:
    """A field that is known and does not act, and what that means for who writes it."""

    name: str
    support: Support
    doc: str

    def note(self, key: ScalarNode, path: str, notes: Notes) -> None:
        """Tell what becomes of the field *key*: nothing, a warning, or an error."""
        where = f"`{key.text}` in {path}" if path else f"`{key.text}`"
        if self.support is Support.LATER:
            notes.warning("SC0303", f"{where} has no effect yet", key, why=self.doc)
        elif self.support is Support.REFUSED:
            notes.error(
                "SC0304",
                f"{where} cannot be honoured yet",
                key,
                why=self.doc,
                help="remove it, and say what you need with fields that act",
            )


AnyField: TypeAlias = Field | Unused
Check: TypeAlias = Callable[[T, MapNode, str, Notes], None]


@dataclass(frozen=True)
class Struct(Form[T_co]):
    """A mapping with known fields that becomes a class, and checks across its fields."""

    title: str
    make: Callable[..., T_co]
    fields: tuple[AnyField, ...]
    check: Callable[[T_co, MapNode, str, Notes], None] | None = None
    why_unknown: str = IGNORED
    located: bool = False  # the class has an `at`

    @property
    def name(self) -> str:
        return "mapping"

    def struct(self) -> Struct[object] | None:
        return self

    @cached_property
    def known(self) -> Mapping[str, AnyField]:
        return {field.name: field for field in self.fields}

    def read(self, node: Node, path: str, notes: Notes) -> T_co:
        table = as_map(node, path, notes)
        values: dict[str, object] = {"at": table.at} if self.located else {}
        sound = self._fill(values, table, path, notes)
        if not self._complete(table, path, notes) or not sound:
            raise Unread
        made = self.make(**values)
        if self.check is not None:
            self.check(made, table, path, notes)
        return made

    def _fill(self, values: dict[str, object], table: MapNode, path: str, notes: Notes) -> bool:
        sound = True
        for key, node in table.entries:
            field = self.known.get(key.text)
            if field is None:
                self._unknown(key, path, notes)
            elif isinstance(field, Unused):
                field.note(key, path, notes)
            else:
                try:
                    values[field.target] = self._value(field, key, node, path, notes)
                except Unread:
                    sound = False
        values.pop(DROPPED, None)
        return sound

    def _value(self, field: Field, key: ScalarNode, node: Node, path: str, notes: Notes) -> object:
        if isinstance(node, ScalarNode) and node.value is None and not node.broken:
            notes.error(
                "SC0209",
                f"`{key.text}` has no value",
                key,
                why="nothing could mean everything or nothing",
                help="give it a value, or remove the line; mind the indentation below it",
            )
            raise Unread
        return field.form.read(node, _joined(path, key.text), notes)

    def _complete(self, table: MapNode, path: str, notes: Notes) -> bool:
        written = {key.text for key, _ in table.entries}
        missing = [
            field
            for field in self.fields
            if isinstance(field, Field) and field.required and field.name not in written
        ]
        for field in missing:
            notes.error(
                "SC0202",
                f"`{field.name}` is missing in {path or 'the document'}",
                table,
                help=f"add `{field.name}:`, {field.doc[:1].lower()}{field.doc[1:].rstrip('.')}",
            )
        return not missing

    def _unknown(self, key: ScalarNode, path: str, notes: Notes) -> None:
        notes.error(
            "SC0204",
            f"unknown field `{key.text}` in {path or 'the document'}",
            key,
            label="not a known field",
            why=self.why_unknown,
            help=self._advice(key.text),
        )

    def _advice(self, word: str) -> str:
        inside = next((path for path in self._paths() if path.rpartition(".")[2] == word), "")
        meant = inside or closest(word, self.known)
        if meant:
            return f"did you mean `{meant}`?"
        return f"known here: {', '.join(f'`{name}`' for name in self.known)}"

    def _paths(self, depth: int = 4) -> Iterator[str]:
        """Yield the paths of all fields below this struct, nearest first."""
        inner = [
            (field.name, struct)
            for field in self.fields
            if isinstance(field, Field) and (struct := field.form.struct()) is not None
        ]
        for name, struct in inner:
            yield from (f"{name}.{field.name}" for field in struct.fields)
        for name, struct in inner if depth else ():
            yield from (f"{name}.{path}" for path in struct._paths(depth - 1))


@dataclass(frozen=True, slots=True)
class ListOf(Form[tuple[T_co, ...]]):
    """Values of one form, at least *least* of them."""

    item: Form[T_co]
    least: int = 0
    most: int = MOST_ITEMS

    @property
    def name(self) -> str:
        return f"list of {self.item.name}"

    @property
    def suffix(self) -> str:
        return f"[]{self.item.suffix}"

    def struct(self) -> Struct[object] | None:
        return self.item.struct()

    def read(self, node: Node, path: str, notes: Notes) -> tuple[T_co, ...]:
        if not isinstance(node, ListNode):
            raise wrong_form(node, "a list", path, notes, fix=_as_list(node))
        self._count(node, path, notes)
        values: list[T_co] = []
        for index, item in enumerate(node.items):
            try:
                values.append(self.item.read(item, f"{path}[{index}]", notes))
            except Unread:
                continue
        if len(values) < len(node.items):
            raise Unread
        return tuple(values)

    def _count(self, node: ListNode, path: str, notes: Notes) -> None:
        number = len(node.items)
        if number < self.least:
            notes.error(
                "SC0210",
                f"{path} is an empty list",
                node,
                why="nothing in it could mean everything or nothing",
                help="name at least one, or remove the field",
            )
        elif number > self.most:
            notes.error("SC0210", f"{path} has {number} items, at most {self.most} are read", node)
        else:
            return
        raise Unread


@dataclass(frozen=True, slots=True)
class MapOf(Form[Mapping[K, T_co]]):
    """A mapping whose keys are the operator's, each read by *key*."""

    key: Form[K]
    value: Form[T_co]
    most: int = MOST_ITEMS

    @property
    def name(self) -> str:
        return f"map of {self.key.name} to {self.value.name}"

    @property
    def suffix(self) -> str:
        return f".<{self.key.name}>{self.value.suffix}"

    def struct(self) -> Struct[object] | None:
        return self.value.struct()

    def read(self, node: Node, path: str, notes: Notes) -> Mapping[K, T_co]:
        table = as_map(node, path, notes)
        if len(table.entries) > self.most:
            notes.error(
                "SC0210", f"{path} has {len(table.entries)} entries, at most {self.most}", node
            )
            raise Unread
        values: dict[K, T_co] = {}
        sound = True
        for key, value in table.entries:
            try:
                name = ScalarNode(key.text, key.text, key.at, key.width)
                values[self.key.read(name, f"a key of {path}", notes)] = self.value.read(
                    value, _joined(path, key.text), notes
                )
            except Unread:
                sound = False
        if not sound:
            raise Unread
        return values


def as_map(node: Node, path: str, notes: Notes) -> MapNode:
    """Return *node* as a mapping; note and raise Unread if it is none."""
    if isinstance(node, MapNode):
        return node
    raise wrong_form(node, "a mapping", path, notes)


def wrong_form(node: Node, wanted: str, path: str, notes: Notes, fix: str = "") -> Unread:
    """Note that *node* is not *wanted* and return what to raise."""
    if not (isinstance(node, ScalarNode) and node.broken):
        notes.error(
            "SC0203",
            f"{path or 'the document'} must be {wanted}, not {described(node)}",
            node,
            help=fix,
        )
    return Unread()


def _as_list(node: Node) -> str:
    if isinstance(node, ScalarNode) and node.value is not None:
        return f"write `[{quoted(node.text)}]`"
    return ""


def choose(spot: Spot, word: str, path: str, known: Mapping[str, T], notes: Notes) -> T:
    """Return what *word* names in *known*; else note which words are and raise Unread."""
    if word in known:
        return known[word]
    meant = closest(word, known)
    words = ", ".join(f"`{name}`" for name in known)
    notes.error(
        "SC0205",
        f"`{word}` is not a value of {path}",
        spot,
        help=f"did you mean `{meant}`? It is one of {words}" if meant else f"write one of {words}",
    )
    raise Unread


def closest(word: str, known: Mapping[str, object]) -> str:
    """Return the name in *known* that *word* seems to mean, or an empty string."""
    if len(word) > _LONGEST_WORD:
        return ""
    folded = {_folded(name): name for name in known}
    same = folded.get(_folded(word))
    if same is not None:
        return same
    near = get_close_matches(_folded(word), folded, n=1, cutoff=0.7)
    return folded[near[0]] if near else ""


def _folded(word: str) -> str:
    return word.replace("_", "").replace("-", "").lower()


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def quoted(text: str) -> str:
    """Return *text* as a double-quoted YAML scalar."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def snake(name: str) -> str:
    """Return `maxConnections` as `max_connections`, `consecutive5xxErrors` with its digits."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])|(?<=[a-z])(?=5xx)", r"_\1", name).lower()


def camel(name: str) -> str:
    """Return `max_connections` as `maxConnections`."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
