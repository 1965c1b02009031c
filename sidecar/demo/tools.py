"""The demo's four tools on a folder: list, read, write and delete files.

A fault of a tool is a result that says so, never an error of the protocol. Each
definition tells honestly whether the tool reads, destroys or may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from .files import FileError, Folder


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool: *act* takes its arguments, all strings, in the order of *arguments*."""

    title: str
    description: str
    arguments: Mapping[str, str]
    act: Callable[..., str]
    reads_only: bool = False

    def definition(self, name: str) -> dict[str, Any]:
        """Return the definition as `tools/list` shows it."""
        return {
            "name": name,
            "title": self.title,
            "description": self.description,
            "inputSchema": self._schema(),
            "annotations": {
                "readOnlyHint": self.reads_only,
                "destructiveHint": not self.reads_only,
                "idempotentHint": True,
                "openWorldHint": False,
            },
        }

    def _schema(self) -> dict[str, Any]:
        properties = {
            argument: {"type": "string", "description": text}
            for argument, text in self.arguments.items()
        }
        return {
            "type": "object",
            "properties": properties,
            "required": list(self.arguments),
            "additionalProperties": False,
        }


class Tools:
    """The tools of one folder, by name."""

    INSTRUCTIONS: ClassVar[str] = "Text files in one folder; paths are relative to it."

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        path = {"path": "relative path of the file"}
        self._tools: Final = {
            "list_files": Tool("List files", "List all files.", {}, self._list, reads_only=True),
            "read_file": Tool("Read a file", "Return a file's text.", path, self._read, True),
            "write_file": Tool(
                "Write a file",
                "Write a file, replacing what it held.",
                {**path, "content": "the new text"},
                self._write,
            ),
            "delete_file": Tool("Delete a file", "Delete a file for good.", path, self._delete),
        }

    def __contains__(self, name: str) -> bool:
        return name in self._tools

    def definitions(self) -> list[dict[str, Any]]:
        """Return all definitions, always in the same order."""
        return [tool.definition(name) for name, tool in self._tools.items()]

    def call(self, name: str, arguments: Mapping[str, object]) -> tuple[str, bool]:
        """Run the tool *name*; return its text and whether it failed."""
        tool = self._tools[name]
        if set(arguments) != set(tool.arguments):
            wanted = ", ".join(f"`{argument}`" for argument in tool.arguments) or "nothing"
            return f"the arguments of `{name}` are {wanted}", True
        values = [arguments[argument] for argument in tool.arguments]
        if not all(isinstance(value, str) for value in values):
            return f"the arguments of `{name}` are strings", True
        try:
            return tool.act(*values), False
        except FileError as error:
            return str(error), True

    def _list(self) -> str:
        return "\n".join(self._folder.names())

    def _read(self, path: str) -> str:
        return self._folder.read(path)

    def _write(self, path: str, content: str) -> str:
        return f"wrote {self._folder.write(path, content)} bytes to {path}"

    def _delete(self, path: str) -> str:
        self._folder.delete(path)
        return f"deleted {path}"
