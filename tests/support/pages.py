"""Pages of documentation, as tests see them: their commands, links and blocks of text.

Commands are those in blocks marked `sh`. They are run as they stand, in a folder
that has this interpreter's environment as `.venv`, with free ports for the written ones.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


class Page:
    """One Markdown file of this project."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text()

    def blocks(self, kind: str) -> list[str]:
        """Return the contents of the fenced blocks marked *kind*, indentation taken off."""
        return [
            re.sub(f"^{indent}", "", body, flags=re.MULTILINE)
            for indent, marked, body in _BLOCK.findall(self.text)
            if marked == kind
        ]

    def block(self, kind: str, start: str) -> str:
        """Return the one block of *kind* that begins with *start*."""
        (found,) = [body for body in self.blocks(kind) if body.startswith(start)]
        return found

    def broken_links(self) -> list[str]:
        """Return the links to files of the project that lead nowhere."""
        bare = _BLOCK.sub("", self.text)
        return [link for link in _LINK.findall(bare) if "://" not in link and not self._leads(link)]

    def _leads(self, link: str) -> bool:
        name, _, anchor = link.partition("#")
        target = self.path.parent / name if name else self.path
        return target.exists() and (not anchor or anchor in Page(target).anchors())

    def anchors(self) -> set[str]:
        """Return what links may name behind a `#`, as GitHub makes it of headings."""
        headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", self.text), re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


class Folder:
    """A folder to try commands in; *ports* are written port -> the one that is used."""

    def __init__(self, path: Path, ports: Mapping[str, int]) -> None:
        self.path = path
        self._ports = ports
        self.env = {"XDG_RUNTIME_DIR": str(path / "run"), "RUNTIME_DIRECTORY": ""}
        (path / ".venv").symlink_to(sys.prefix)

    def placed(self, text: str) -> str:
        """Return *text* with the ports that are used."""
        pattern = re.compile(rf"(?<=:)({'|'.join(self._ports)})\b")
        return pattern.sub(lambda found: str(self._ports[found[1]]), text)

    def run(self, command: str) -> str:
        """Run *command* as a shell would; return what it says, and fail if it fails."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.placed(command)],
            cwd=self.path,
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


def demo_server(port: int) -> list[str]:
    """Return the command of the demo's server, which stands in for the reader's own."""
    listen = f"127.0.0.1:{port}"
    return [sys.executable, "-m", "sidecar.demo.server", "--root", "served", "--listen", listen]
