"""sidecar explain: what a problem's code means, or the fields of a kind of document."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from ..config.codes import CODES
from ..config.kinds import KINDS
from ..config.reference import (
    codes_page,
    documents_page,
    explained_code,
    explained_kind,
    topics,
)
from ..config.schema import closest

PAGES: Final = {"documents": documents_page, "error-codes": codes_page}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "topic",
        nargs="?",
        metavar="TOPIC",
        help="a code such as SC0204, or a kind such as AuthorizationPolicy; none lists all",
    )
    parser.add_argument(
        "--page", choices=tuple(PAGES), help="print a whole page of the reference as Markdown"
    )


def run(args: argparse.Namespace) -> int:
    """Print what *topic* means; 2 if there is no such topic."""
    if args.page:
        sys.stdout.write(PAGES[args.page]())
        return 0
    if not args.topic:
        sys.stdout.write(topics())
        return 0
    kinds = {kind.name: kind for kind in KINDS}
    if args.topic.upper() in CODES:
        sys.stdout.write(explained_code(args.topic.upper()))
    elif args.topic in kinds:
        sys.stdout.write(explained_kind(args.topic))
    else:
        meant = closest(args.topic, {**CODES, **kinds})
        advice = f"did you mean `{meant}`?" if meant else "`sidecar explain` lists all"
        print(f"error: nothing is called `{args.topic}`\n  = help: {advice}", file=sys.stderr)
        return 2
    return 0
