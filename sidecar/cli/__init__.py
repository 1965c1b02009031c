"""The command line: one file per command, each imported only when it is called.

A command module has `HELP` (one line), `add_arguments(parser)` and
`run(args) -> int`. Data goes to stdout, talk to stderr. Exit codes: 0 ok,
1 failed, 2 usage, 3 denied (`authz check`), 69 admin socket unreachable,
77 permission, 78 bad configuration.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from .. import __version__
from ..errors import StartError

# Name -> one line of help. The module is the name with `_` for `-`.
COMMANDS: Final[dict[str, str]] = {
    "demo": "play eight real calls through a real mesh on this machine",
    "run": "run the sidecar in front of a server",
    "issue-cert": "issue one certificate from the local CA",
    "ca": "run a CA for several machines: join tokens, renewal, revocation",
    "authz": "say whether a caller may make a request, and which rule says so",
    "check": "say whether all is well with a sidecar, and what to do where it is not",
    "why": "say what a running sidecar did with a request, and which rule made it so",
    "validate": "report every problem of configuration files at once",
    "export": "print files for other tools, such as a systemd unit",
    "explain": "explain a problem's code, or a kind of document and its fields",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that *argv* names and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(arguments[0] if arguments else "")
    args = parser.parse_args(arguments)
    if not hasattr(args, "run"):
        parser.print_help(sys.stderr)
        return 2
    try:
        return int(args.run(args))
    except StartError as error:
        _complain(error)
        return error.code
    except PermissionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 77
    except BrokenPipeError:  # whoever reads what we print has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f": `{error.filename}`" if error.filename else ""
        print(f"error: {error.strerror or error}{where}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser(chosen: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sidecar",
        description="mTLS, rules that know MCP tools, and a scan for prompt injection, "
        "in one process beside each MCP server.",
    )
    parser.add_argument("--version", action="version", version=f"sidecar {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, help_line in COMMANDS.items():
        command = commands.add_parser(name, help=help_line, description=help_line)
        if name == chosen:
            module = import_module(f".{name.replace('-', '_')}", __name__)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def _complain(error: StartError) -> None:
    print(f"error: {error}", file=sys.stderr)
    if error.help:
        print(f"  = help: {error.help}", file=sys.stderr)
