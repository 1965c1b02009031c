"""A command line as one types it, done by this process: it has loaded what a new one would load.

What a command prints, reads and returns is what it is as a process. One that serves, or of
which something is to be seen from outside, is started with `daemon.running`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from unittest.mock import patch

from sidecar.cli import main


def typed(
    folder: Path, *argv: str, env: Mapping[str, str] | None = None, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Do what `sidecar ARGV` does when it is typed in *folder*; a bug is raised."""
    out, err = _stream(), _stream()
    with (
        chdir(folder),
        patch.dict(os.environ, env or {}),
        patch("sys.stdin", _stream(stdin or "")),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            code = main(argv)
        except SystemExit as end:  # how `argparse` refuses, and answers `--help`
            code = end.code if isinstance(end.code, int) else 1
    return subprocess.CompletedProcess(argv, code, _written(out), _written(err))


def _stream(text: str = "") -> TextIOWrapper:
    return TextIOWrapper(BytesIO(text.encode()), "utf-8", write_through=True)


def _written(stream: TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, BytesIO)
    return buffer.getvalue().decode()
