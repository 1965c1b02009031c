"""sidecar validate: every problem of configuration files at once.

Reads what `run` would read and compiles what it would compile, and starts
nothing. Problems go to stderr for a person, or as JSON to stdout.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from ..config.files import load
from ..config.loaded import Loaded
from ..config.problem import ConfigError, Problem
from ..config.report import render

BAD_CONFIGURATION = 78


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a bootstrap, files of documents, or folders of them; "
        "what a bootstrap names is read too",
    )
    parser.add_argument(
        "-o",
        "--output",
        choices=("text", "json"),
        default="text",
        help="text on stderr (the default), or a JSON list of problems on stdout",
    )


def run(args: argparse.Namespace) -> int:
    """Report all problems; 78 if one of them is an error, else 0."""
    loaded = load(args.files)
    problems = loaded.problems if loaded.errors else (*loaded.problems, *_compiled(loaded))
    if args.output == "json":
        _print_json(problems, sys.stdout)
    else:
        _print_text(problems, loaded, sys.stderr)
    return BAD_CONFIGURATION if any(problem.is_error for problem in problems) else 0


def _compiled(loaded: Loaded) -> Sequence[Problem]:
    """Return what documents that are sound one by one get wrong together."""
    if loaded.bootstrap is None:
        return ()
    from ..config.snapshot import compile_snapshot

    try:
        return compile_snapshot(loaded.bootstrap, loaded.documents).warnings
    except ConfigError as error:
        return error.problems


def _print_json(problems: Sequence[Problem], out: TextIO) -> None:
    import json

    json.dump([problem.as_dict() for problem in problems], out, indent=2)
    out.write("\n")


def _print_text(problems: Sequence[Problem], loaded: Loaded, out: TextIO) -> None:
    color = out.isatty() and not os.environ.get("NO_COLOR")
    if problems:
        out.write(render(problems, loaded.sources, color=color, dropped=loaded.dropped))
    else:
        out.write("no problems: " + _counted(loaded) + "\n")
    if loaded.bootstrap is None and not any(problem.is_error for problem in problems):
        out.write("without a bootstrap (kind `Sidecar`) documents are checked one by one only\n")


def _counted(loaded: Loaded) -> str:
    documents = len(loaded.documents) + (loaded.bootstrap is not None)
    files = len(loaded.files)
    return (
        f"{documents} document{'' if documents == 1 else 's'} "
        f"in {files} file{'' if files == 1 else 's'}"
    )
