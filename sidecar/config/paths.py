"""Paths of files as they are written: relative to the folder of the file that names them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from .documents import FileRef
from .nodes import Node
from .problem import Notes
from .schema import Form, Unread
from .values import Text


def beside(file: str, path: str) -> str:
    """Return *path*, which *file* names, as it is called from where *file* is called."""
    return str(PurePosixPath(file).parent / path)


@dataclass(frozen=True, slots=True)
class PathForm(Form[FileRef]):
    """The path of a file or folder, with the place it is named at."""

    @property
    def name(self) -> str:
        return "path"

    def read(self, node: Node, path: str, notes: Notes) -> FileRef:
        text = Text().read(node, path, notes)
        if "\0" in text:
            notes.error("SC0211", f"{path} holds NUL", node)
            raise Unread
        return FileRef(beside(node.at.file, text), node.at, node.width)


@dataclass(frozen=True, slots=True)
class PlainPathForm(Form[str]):
    """The path of a file or folder, as text."""

    @property
    def name(self) -> str:
        return "path"

    def read(self, node: Node, path: str, notes: Notes) -> str:
        return PathForm().read(node, path, notes).path
