"""`sidecar export`: files for other tools, made from what this program knows of itself."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path
from typing import Final

from .. import units
from ..errors import StartError

_HIDDEN: Final = ("/home/", "/root/", "/run/user/")  # from a unit with ProtectHome=yes
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `sidecar export` takes."""
    kinds = parser.add_subparsers(title="what", metavar="WHAT", required=True, dest="what")
    unit = kinds.add_parser(
        "unit",
        help="a systemd unit",
        description="Print the systemd unit of the sidecar NAME, whose bootstrap is "
        "/etc/sidecar/NAME.yaml; `ca` is the unit of the CA.",
        epilog="sidecar export unit files > /etc/systemd/system/sidecar-files.service",
    )
    unit.add_argument("name", metavar="NAME", help="the sidecar's name, or `ca`")
    unit.add_argument(
        "--socket",
        metavar="HOST:PORT",
        help="print its socket unit instead: the address stays open while the sidecar restarts",
    )
    unit.add_argument(
        "--stdio",
        action="store_true",
        help="of a sidecar that starts its server as a program (`stdio` in its bootstrap)",
    )
    unit.add_argument(
        "--program", metavar="PATH", help="the `sidecar` to start (default: this one)"
    )


def run(args: argparse.Namespace) -> int:
    """Print the file that is asked for; 2 for a name that a unit cannot have."""
    print(_unit(args).text, end="")
    return 0


def _unit(args: argparse.Namespace) -> units.Unit:
    if not _NAME.fullmatch(args.name):
        raise StartError(
            f"`{args.name}` is no name of a unit",
            code=2,
            help="letters, digits, `_`, `.` and `-`, at most 64, a letter or a digit first",
        )
    if args.socket:
        return units.socket(args.name, args.socket)
    program = str(Path(args.program).absolute()) if args.program else _this_program()
    if program.startswith(_HIDDEN):
        print(f"warning: the unit cannot see {program}: `ProtectHome` hides it", file=sys.stderr)
        print("  = help: install into /opt/sidecar, or name it by --program", file=sys.stderr)
    if args.stdio:
        return units.stdio(args.name, program=program)
    return (
        units.authority(program=program)
        if args.name == "ca"
        else units.service(args.name, program=program)
    )


def _this_program() -> str:
    beside = Path(sys.executable).with_name("sidecar")
    return str(beside) if beside.exists() else shutil.which("sidecar") or units.INSTALLED
