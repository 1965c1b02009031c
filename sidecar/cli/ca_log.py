"""`sidecar ca log ...`: hold the issue log's chain against itself, or bound its files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from ..errors import StartError
from .ca_answers import pairs

if TYPE_CHECKING:
    from ..ca.store import LocalCa

_UNITS: Final = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def add_log_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `ca log` takes."""
    parser.add_argument(
        "act",
        choices=["verify", "limit"],
        help="verify: hold every line against the one before; limit: say how much is kept",
    )
    parser.add_argument(
        "--size", metavar="SIZE", help="with limit: when the next file begins (default: 16MiB)"
    )
    parser.add_argument(
        "--keep",
        type=int,
        metavar="N",
        help="with limit: how many full files stay, and longer what is younger than 30 days "
        "(default: 16)",
    )


def log(args: argparse.Namespace, ca: LocalCa) -> Mapping[str, object]:
    """Do what is asked with the log of *ca*; return what to answer. LogBroken, StartError."""
    return _limit(args, ca) if args.act == "limit" else _verify(ca)


def _verify(ca: LocalCa) -> Mapping[str, object]:
    from ..ca.ledger import entries

    first, count, events = 0, 0, dict[str, int]()
    for entry in entries(ca.folder):
        first = first or entry.number
        count += 1
        events[entry.event] = events.get(entry.event, 0) + 1
    dropped = {"dropped_before": first - 1} if first > 1 else {}
    return {"chain": "whole", "entries": count, **dropped, **pairs(events)}


def _limit(args: argparse.Namespace, ca: LocalCa) -> Mapping[str, object]:
    from dataclasses import replace

    from ..ca.issue_log import read_limits, set_limits
    from ..ca.store import held

    with held(ca.folder):
        limits = read_limits(ca.folder)
        if args.size is not None:
            limits = replace(limits, size=_bytes(args.size))
        if args.keep is not None:
            limits = replace(limits, keep=args.keep)
        set_limits(ca.folder, limits)
    return {"size": limits.size, "keep": limits.keep}


def _bytes(text: str) -> int:
    """Return the number of bytes that *text* means, such as `16MiB`. Raises StartError."""
    number, factor = text, 1
    for unit, bytes_ in _UNITS.items():
        if text.endswith(unit):
            number, factor = text.removesuffix(unit), bytes_
    if not (number.isascii() and number.isdigit() and len(number) < 16):
        raise StartError(f"`{text}` is not a size", code=2, help="write it like `16MiB`")
    return int(number) * factor
