"""Documents out of the bytes of files: what is read of one, and of all together.

Files are handed in as bytes with their names; `files` is where they come from.
What documents of several files get wrong together is found here too: two of one
name, two bootstraps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import Final

from ..errors import Where
from .bootstrap import Sidecar
from .documents import Document, Pattern
from .inspections import PATTERNS
from .kinds import is_bootstrap, members, read_document
from .metadata import DEFAULT_NAMESPACE
from .nodes import Node
from .parse import DEFAULT_LIMITS, ParseLimits, parse
from .problem import Notes, Place, Problem
from .schema import Unread

MOST_DOCUMENTS: Final = 5_000


@dataclass(frozen=True, slots=True)
class Loaded:
    """Everything read: documents that are sound, all problems, and the lines of the files.

    `files` are all files that were read or should have been, for whoever watches
    them; `sources` is what `report.render` takes its excerpts from.
    """

    bootstrap: Sidecar | None = None
    documents: tuple[Document, ...] = ()
    problems: tuple[Problem, ...] = ()
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    files: tuple[str, ...] = ()
    dropped: int = 0

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that keep the configuration from being used."""
        return tuple(problem for problem in self.problems if problem.is_error)


def parse_documents(
    data: bytes,
    file: str,
    *,
    namespace: str = DEFAULT_NAMESPACE,
    limits: ParseLimits = DEFAULT_LIMITS,
) -> Loaded:
    """Read the documents of one file from its bytes; *file* is only its name.

    *namespace* is that of documents that name none. Never raises on bad input.
    """
    reader = Reader(limits)
    reader.add(data, file)
    return reader.loaded(reader.documents(namespace))


class Reader:
    """Reads files one after the other: bootstraps at once, as they name more files."""

    def __init__(self, limits: ParseLimits = DEFAULT_LIMITS) -> None:
        self.notes = Notes()
        self.bootstrap: Sidecar | None = None
        self._limits = limits
        self._first: Node | None = None
        self._nodes: list[Node] = []
        self._names: dict[str, Where] = {}
        self._sources: dict[str, tuple[str, ...]] = {}

    def add(self, data: bytes, file: str) -> Sidecar | None:
        """Take a file in and return the bootstrap that is in it, if there is a sound one."""
        bootstraps = []
        for node in chain.from_iterable(map(members, self._parsed(data, file))):
            if is_bootstrap(node):
                bootstraps.append(self._read_bootstrap(node))
            else:
                self._nodes.append(node)
        return next((one for one in bootstraps if one is not None), None)

    def patterns(self, data: bytes, file: str) -> tuple[Pattern, ...]:
        """Read a file of patterns: one list of them."""
        nodes = self._parsed(data, file)
        if len(nodes) != 1:
            self.notes.error(
                "SC0203",
                f"a pattern file holds one list, not {len(nodes)} documents",
                Place(Where(file)),
                help='write `- "text"` or `- {id: name, text: "text"}` lines',
            )
            return ()
        try:
            return PATTERNS.read(nodes[0], "patterns", self.notes)
        except Unread:
            return ()

    def documents(self, namespace: str) -> tuple[Document, ...]:
        """Read what was taken in, less bootstraps; *namespace* is of those that name none."""
        if len(self._nodes) > MOST_DOCUMENTS:
            self.notes.error(
                "SC0109",
                f"{len(self._nodes)} documents are too many; at most {MOST_DOCUMENTS} are read",
                self._nodes[MOST_DOCUMENTS],
            )
        read = (read_document(node, namespace, self.notes) for node in self._nodes[:MOST_DOCUMENTS])
        found = [one for one in read if one is not None and not isinstance(one, Sidecar)]
        return tuple(one for one in found if self._is_new(one))

    def loaded(self, documents: tuple[Document, ...]) -> Loaded:
        """Return everything read, with the problems in the order of files and lines."""
        order = {file: index for index, file in enumerate(self._sources)}
        problems = sorted(
            self.notes.problems,
            key=lambda one: (order.get(one.where.file, -1), one.where.line, one.where.column),
        )
        return Loaded(
            self.bootstrap,
            documents,
            tuple(problems),
            MappingProxyType(self._sources),
            tuple(self._sources),
            self.notes.dropped,
        )

    def _parsed(self, data: bytes, file: str) -> tuple[Node, ...]:
        parsed = parse(data, file, self._limits)
        self._sources[file] = parsed.lines
        for problem in parsed.problems:
            self.notes.add(problem)
        return parsed.documents

    def _read_bootstrap(self, node: Node) -> Sidecar | None:
        if self._first is not None:
            self.notes.error(
                "SC0306",
                "a second bootstrap",
                node,
                why=f"one sidecar has one; the first is at {self._first.at}",
                help="leave one document of kind `Sidecar`",
            )
            return None
        self._first = node
        found = read_document(node, DEFAULT_NAMESPACE, self.notes)
        self.bootstrap = found if isinstance(found, Sidecar) else None
        return self.bootstrap

    def _is_new(self, document: Document) -> bool:
        metadata = document.metadata
        name = f"{type(document).__name__} {metadata.namespace}/{metadata.name}"
        first = self._names.setdefault(name, document.at)
        if first is document.at:
            return True
        self.notes.error(
            "SC0305",
            f"a second {name}",
            Place(document.at),
            why=f"the first is at {first}; which one counts would depend on the files' order",
            help="give it another name, or join the two",
        )
        return False
