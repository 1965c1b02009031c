"""`sidecar demo`: a whole mesh on this machine, eight real calls, and the verdict on each.

The table, or JSON with `-o json`, goes to stdout; what is being brought up and
what to try next go to stderr. Exit code 0 only if every verdict is the expected
one. Nothing is left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn, TextIO

from .. import __version__
from ..demo import documents
from ..demo.mesh import Mesh, mesh
from ..demo.play import ALLOW, Row, play

_WIDTHS: Final = (2, 8, 30, 9, 39, 7)  # and a space between: 100 columns
_TITLES: Final = ("#", "caller", "request", "verdict", "rule or reason", "ms")
_GREEN, _YELLOW, _RED, _BOLD, _PLAIN = "32", "33", "31", "1", "0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--keep", action="store_true", help="leave everything up until Ctrl-C")
    parser.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="default: table"
    )


def run(args: argparse.Namespace) -> int:
    """Play the demo and return the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    talk = Talk(sys.stderr)
    talk.say(f"sidecar {__version__}, demo on 127.0.0.1")
    with mesh(talk.done) as raised:
        rows = _played(raised, args.output)
        good = all(row.as_expected for row in rows)
        if args.output == "table":
            _sum_up(rows)
        if args.keep:
            raised.revive(len(raised.replicas) - 1)
            _keep(raised, talk)
    if args.output == "table":
        talk.say(_next_steps())
    return 0 if good else 1


class Talk:
    """What is said to the person, in colour where that is wanted."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._coloured = _coloured(stream)

    def done(self, noun: str, text: str) -> None:
        """Tell of a step that is done."""
        self.say(f"{_paint('✔', _GREEN, self._coloured)} {noun:<11} {text}")

    def say(self, text: str) -> None:
        """Say *text*; a character that the terminal does not have is replaced."""
        encoding = self._stream.encoding or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding), file=self._stream, flush=True)


def _played(raised: Mesh, output: str) -> list[Row]:
    """Play all scenes; print each row of the table as it comes, or all of them as JSON."""
    table = Talk(sys.stdout)
    if output == "table":
        table.say("\n" + _paint(_line(_TITLES), _BOLD, _coloured(sys.stdout)))
    rows = []
    for row in play(raised):
        raised.require_alive()
        rows.append(row)
        if output == "table":
            table.say(_table_line(row, _coloured(sys.stdout)))
    if output == "json":
        print(json.dumps([asdict(row) for row in rows], indent=2))
    return rows


def _table_line(row: Row, coloured: bool) -> str:
    rule = "  ".join(part for part in (row.why or row.rule, Path(row.at).name) if part)
    if not row.as_expected:
        rule = f"expected {row.expected}  {rule}"
    cells = (str(row.n), row.caller or "-", row.request, row.verdict, rule, f"{row.ms:.1f}")
    line = _line(cells)
    if not coloured:
        return line
    colour = _RED if not row.as_expected else _GREEN if row.verdict == ALLOW else _YELLOW
    start = sum(_WIDTHS[:3]) + 3
    end = start + _WIDTHS[3]
    return line[:start] + _paint(line[start:end], colour, True) + line[end:]


def _line(cells: tuple[str, ...]) -> str:
    """Fit the cells into their columns; a cell too long ends in an ellipsis."""
    fitted = [
        cell if len(cell) <= width else cell[: width - 1] + "…"
        for cell, width in zip(cells, _WIDTHS, strict=True)
    ]
    *left, last = fitted
    padded = [cell.ljust(width) for cell, width in zip(left, _WIDTHS, strict=False)]
    return " ".join([*padded, last.rjust(_WIDTHS[-1])])


def _sum_up(rows: list[Row]) -> None:
    good = sum(row.as_expected for row in rows)
    print(f"{good} of {len(rows)} as expected", flush=True)


def _keep(raised: Mesh, talk: Talk) -> None:
    """Show how to reach everything, then wait for Ctrl-C."""
    talk.say(_reach(raised))
    try:
        while True:
            raised.require_alive()
            time.sleep(0.5)
    except KeyboardInterrupt:
        talk.say("\ntaking everything down")


def _reach(raised: Mesh) -> str:
    alice = raised.certs(documents.ALICE)
    body = '{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
    curl = [
        "curl",
        *("--cacert", str(alice / "svid_bundle.pem")),
        *("--cert", str(alice / "svid.pem"), "--key", str(alice / "svid_key.pem")),
        *("-H", "content-type: application/json"),
        *("-H", "accept: application/json, text/event-stream"),
        *("-d", body, raised.url),
    ]
    return "\n".join(
        [
            "",
            f"MCP server    {raised.url}",
            f"Admin         http://127.0.0.1:{raised.admin}/stats, /clusters, /metrics",
            f"Certificates  {alice}  (svid.pem, svid_key.pem, svid_bundle.pem)",
            f"Policy        {raised.folder / 'policies'}",
            f"Access log    {raised.folder / 'access.log'}",
            "Try           " + shlex.join(curl),
            "Ctrl-C ends it.",
        ]
    )


def _next_steps() -> str:
    command = _command()
    return "\n".join(
        [
            "",
            f"A certificate for a caller:  {command} issue-cert agent/me",
            f"Before your own server:      {command} run --to http://127.0.0.1:9000 "
            "--allow agent/me",
            f"This mesh, to try things:    {command} demo --keep",
        ]
    )


def _command() -> str:
    """How this program was called, so that the lines printed can be pasted."""
    called = sys.argv[0]
    if Path(called).name != "sidecar":
        return f"{shlex.quote(sys.executable)} -m sidecar"
    return shlex.quote(called) if os.sep in called else called


def _paint(text: str, colour: str, coloured: bool) -> str:
    return f"\x1b[{colour}m{text}\x1b[{_PLAIN}m" if coloured else text


def _coloured(stream: TextIO) -> bool:
    """Colour is for terminals, and not where NO_COLOR is set to anything (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """Take SIGTERM and SIGHUP as a Ctrl-C, so that everything is taken down."""
    raise KeyboardInterrupt
