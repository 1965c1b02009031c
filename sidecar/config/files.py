"""Configuration files from disk. Of this package, only this module does I/O.

A file that others may write is refused: whoever can write the policy is the
policy. It is judged by the open file, not by its name, so it cannot be changed
for another between the look and the reading.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from ..errors import Where
from .documents import Document, FileRef, Inspection, Pattern
from .inspections import note_twins
from .loaded import Loaded, Reader
from .metadata import DEFAULT_NAMESPACE
from .parse import DEFAULT_LIMITS, ParseLimits
from .problem import Notes, Place, Spot

SUFFIXES: Final = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class FileLimits:
    """How much is read in all; `each` bounds one file."""

    files: int = 1_000
    bytes: int = 16 * 1024 * 1024
    each: ParseLimits = DEFAULT_LIMITS


DEFAULT_FILE_LIMITS: Final = FileLimits()
NOTHING_GIVEN: Final[Mapping[str, bytes]] = MappingProxyType({})


def load(
    paths: Sequence[str],
    limits: FileLimits = DEFAULT_FILE_LIMITS,
    given: Mapping[str, bytes] = NOTHING_GIVEN,
) -> Loaded:
    """Read the files and folders *paths*, and what a bootstrap among them names.

    *given* are files that exist only in memory, by name; they are read first.

    Of a folder all `*.yaml`, `*.yml` and `*.json` files are read, sorted, hidden
    files and subfolders left out. Never raises on what is in files or on files
    that cannot be read: it is all in `problems`.
    """
    return _Loading(limits).run(paths, given)


class _Loading:
    """One pass over files; a file that is named twice is read once."""

    def __init__(self, limits: FileLimits) -> None:
        self._limits = limits
        self._reader = Reader(limits.each)
        self._notes = self._reader.notes
        self._seen: set[str] = set()
        self._bytes = 0

    def run(self, paths: Sequence[str], given: Mapping[str, bytes]) -> Loaded:
        named: deque[tuple[str, Spot]] = deque()
        for file, data in given.items():
            bootstrap = self._reader.add(data, file)
            if bootstrap is not None:
                named.extend((ref.path, ref) for ref in bootstrap.spec.documents)
        named.extend((path, Place(Where(path))) for path in paths)
        while named:
            for file, spot in self._files(*named.popleft()):
                content = self._read(file, spot)
                bootstrap = self._reader.add(content, file) if content is not None else None
                if bootstrap is not None:
                    named.extend((ref.path, ref) for ref in bootstrap.spec.documents)
        bootstrap = self._reader.bootstrap
        namespace = bootstrap.metadata.namespace if bootstrap else DEFAULT_NAMESPACE
        documents = self._reader.documents(namespace)
        return self._reader.loaded(tuple(self._with_patterns(one) for one in documents))

    def _files(self, path: str, spot: Spot) -> Iterator[tuple[str, Spot]]:
        if not os.path.isdir(path):
            yield path, spot
            return
        try:
            names = sorted(os.listdir(path))
        except OSError as error:
            _unreadable(path, error, spot, self._notes)
            return
        found = [name for name in names if name.endswith(SUFFIXES) and name[0] != "."]
        if not found:
            self._notes.warning(
                "SC0805",
                f"no documents in the folder `{path}`",
                spot,
                help=f"put files with the endings {', '.join(SUFFIXES)} there",
            )
        for name in found:
            file = os.path.join(path, name)
            if os.path.isfile(file):
                yield file, spot

    def _read(self, file: str, spot: Spot) -> bytes | None:
        """Return the bytes of *file* the first time it is named, if it may be trusted."""
        real = os.path.realpath(file.replace("\0", ""))
        if real in self._seen:
            return None
        self._seen.add(real)
        if len(self._seen) > self._limits.files:
            _too_much(spot, f"{self._limits.files} files", self._notes)
            return None
        data = read_file(file, spot, self._notes, self._limits.each.bytes)
        self._bytes += len(data or b"")
        if self._bytes > self._limits.bytes:
            _too_much(spot, f"{self._limits.bytes} bytes", self._notes)
            return None
        return data

    def _with_patterns(self, document: Document) -> Document:
        if not isinstance(document, Inspection) or not document.spec.pattern_files:
            return document
        patterns = list(document.spec.patterns)
        for ref in document.spec.pattern_files:
            patterns.extend(self._patterns(ref))
        note_twins(tuple(patterns), document.spec.pattern_files[0], self._notes)
        return replace(document, spec=replace(document.spec, patterns=tuple(patterns)))

    def _patterns(self, ref: FileRef) -> tuple[Pattern, ...]:
        data = read_file(ref.path, ref, self._notes, self._limits.each.bytes)
        return () if data is None else self._reader.patterns(data, ref.path)


def read_file(path: str, spot: Spot, notes: Notes, most: int) -> bytes | None:
    """Return the bytes of *path*; None, with the reason noted at *spot*, if it is not to be used.

    At most *most* bytes and one are returned: whoever reads them sees that there
    are too many.
    """
    try:
        # O_NONBLOCK: a FIFO with no writer must not hold up the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        _unreadable(path, error, spot, notes)
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not _trusted(path, os.fstat(descriptor), spot, notes):
            return None
        try:
            return file.read(most + 1)
        except OSError as error:
            _unreadable(path, error, spot, notes)
            return None


def _trusted(path: str, status: os.stat_result, spot: Spot, notes: Notes) -> bool:
    if not stat.S_ISREG(status.st_mode):
        notes.error("SC0802", f"`{path}` is not a file", spot, help="name a file or a folder")
        return False
    if status.st_uid not in (0, os.geteuid()):
        notes.warning(
            "SC0804",
            f"`{path}` belongs to another user (uid {status.st_uid})",
            spot,
            why="that user can change what is allowed",
            help="give it to root or to the user that runs the sidecar",
        )
    writers = _writers(status)
    if writers:
        notes.error(
            "SC0803",
            f"`{path}` can be written by {writers}",
            spot,
            why="whoever can write it decides what is allowed",
            help=f"chmod go-w {path}",
        )
        return False
    return not any(_is_open(folder, path, spot, notes) for folder in _folders(path))


def _folders(path: str) -> set[str]:
    """Return the folders that hold the name *path* and the file it leads to."""
    return {
        os.path.dirname(os.path.abspath(path)),
        os.path.dirname(os.path.realpath(path)),
    }


def _is_open(folder: str, path: str, spot: Spot, notes: Notes) -> bool:
    """Note and return whether others may put another file in the place of *path*."""
    try:
        status = os.stat(folder)
    except OSError as error:
        _unreadable(folder, error, spot, notes)
        return True
    writers = "" if status.st_mode & stat.S_ISVTX else _writers(status)
    if writers:
        notes.error(
            "SC0803",
            f"the folder of `{path}` can be written by {writers}",
            spot,
            why="whoever can write it can put another file in its place",
            help=f"chmod go-w {folder}",
        )
    return bool(writers)


def _writers(status: os.stat_result) -> str:
    """Return who but the owner, root and our own group may write; empty if nobody."""
    if status.st_mode & stat.S_IWOTH:
        return "everybody"
    if status.st_mode & stat.S_IWGRP and status.st_gid not in (0, os.getegid()):
        return f"group {status.st_gid}"
    return ""


def _unreadable(path: str, error: Exception, spot: Spot, notes: Notes) -> None:
    missing = isinstance(error, FileNotFoundError)
    reason = getattr(error, "strerror", None) or str(error)
    notes.error(
        "SC0801" if missing else "SC0802",
        f"`{path}` does not exist" if missing else f"`{path}` cannot be read: {reason.lower()}",
        spot,
        help="paths in a document are relative to the folder it is in" if spot.at.line else "",
    )


def _too_much(spot: Spot, most: str, notes: Notes) -> None:
    notes.error("SC0806", f"more than {most} of configuration", spot, why="the rest is not read")
