"""A folder of text files, and nothing outside it.

Paths are walked component by component from an open directory without ever
following a symbolic link, so neither `..`, nor a link, nor a race between look
and use leads outside. Sizes and counts are bounded. Knows nothing of MCP.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

MAX_FILE: Final = 256 * 1024
MAX_LISTED: Final = 1000
MAX_PATH: Final = 1024
MAX_DEPTH: Final = 16

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO somebody put there must not hold the server.
_FILE: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class FileError(Exception):
    """A file cannot be had; the message is for the caller."""


class Folder:
    """The files below *root*, which must exist."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve(strict=True)

    def names(self) -> list[str]:
        """Return the relative paths of all regular files, sorted, at most `MAX_LISTED`."""
        return sorted(islice(self._walk(), MAX_LISTED))

    def read(self, path: str) -> str:
        """Return the text of the file at *path*; raise FileError if there is none."""
        with self._parent(path) as (parent, name), _faults(path):
            descriptor = os.open(name, os.O_RDONLY | _FILE, dir_fd=parent)
            with os.fdopen(descriptor, "rb") as file:
                _require_regular(descriptor, path)
                content = file.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise FileError(f"`{path}` is larger than {MAX_FILE} bytes")
        return content.decode("utf-8", "replace")

    def write(self, path: str, text: str) -> int:
        """Write *text* to the file at *path*, made if needed; return its size in bytes."""
        content = text.encode("utf-8", "replace")
        if len(content) > MAX_FILE:
            raise FileError(f"`content` is larger than {MAX_FILE} bytes")
        with self._parent(path) as (parent, name), _faults(path):
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | _FILE, 0o600, dir_fd=parent)
            with os.fdopen(descriptor, "wb") as file:
                _require_regular(descriptor, path)
                file.truncate()
                file.write(content)
        return len(content)

    def delete(self, path: str) -> None:
        """Remove the file at *path*; raise FileError if there is none."""
        with self._parent(path) as (parent, name), _faults(path):
            os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not _is_regular(name, parent):
                raise FileError(f"`{path}` is not a file")
            os.unlink(name, dir_fd=parent)

    def _walk(self) -> Iterator[str]:
        for base, folders, files, descriptor in os.fwalk(self._root, follow_symlinks=False):
            inside = os.path.relpath(base, self._root)
            if inside.count("/") >= MAX_DEPTH:
                folders.clear()
            for name in files:
                if _is_regular(name, descriptor):
                    yield os.path.normpath(os.path.join(inside, name))

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        """Open the directory that holds *path*; yield its descriptor and the last name."""
        *folders, name = _parts(path)
        descriptor = os.open(self._root, _DIRECTORY)
        try:
            for folder in folders:
                with _faults(path):
                    inner = os.open(folder, _DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor, name
        finally:
            os.close(descriptor)


def _parts(path: str) -> list[str]:
    """Split a relative path; refuse what could mean another place to another reader."""
    if not path or len(path) > MAX_PATH or "\0" in path or "\\" in path:
        raise FileError("`path` must be a relative path with `/` between its parts")
    parts = path.split("/")
    if len(parts) > MAX_DEPTH or any(part in ("", ".", "..") for part in parts):
        raise FileError("`path` must stay inside the folder: no `..`, no leading `/`")
    return parts


@contextmanager
def _faults(path: str) -> Iterator[None]:
    """Turn the system's fault into one that names *path* and nothing of the machine."""
    try:
        yield
    except FileNotFoundError:
        raise FileError(f"no file `{path}`") from None
    except OSError:
        raise FileError(f"`{path}` is not a file that can be used") from None


def _is_regular(name: str, parent: int) -> bool:
    try:
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return False
    return stat.S_ISREG(mode)


def _require_regular(descriptor: int, path: str) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise FileError(f"`{path}` is not a file")
