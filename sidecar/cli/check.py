"""`sidecar check`: is all well with this sidecar, and if not, what is to be done?

A tick or a cross for each thing looked at, and a remedy for every cross. Nothing
is changed, and nothing is asked of a server but a connection.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Final

from ..admin.server import default_socket
from ..checks import access, authority, clock, identity, network, programs, running
from ..checks.outcome import NAMES, Outcome, bad, good
from ..config.problem import ConfigError, Level
from ..errors import StartError
from ..plan import Plan
from ..remote.ca_enrolment import DENIED
from . import place
from .run import Sources, from_file

_MARKS: Final = {True: "✓", False: "✗", None: "·"}
_AGAIN: Final = 0.5  # seconds between two tries of --wait
_WIDTH: Final = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        default="sidecar.yaml",
        help="the bootstrap of the sidecar (sidecar.yaml)",
    )
    parser.add_argument(
        "--pre", action="store_true", help="check before a start: its ports must be free"
    )
    parser.add_argument(
        "--wait",
        metavar="TIME",
        type=_seconds,
        default=0.0,
        help="try again until all is well, at most so long, such as 30s",
    )
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        default=[],
        choices=NAMES,
        help="look at this alone, such as `ready`; may be given again",
    )
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("-q", "--quiet", action="store_true", help="print crosses only")


def run(args: argparse.Namespace) -> int:
    """Look, and print what was found; 0 if there is no cross, 78 for a bad configuration."""
    deadline = time.monotonic() + args.wait
    while True:
        outcomes = [one for one in _outcomes(args) if _is_asked_for(one, args.only)]
        crosses = [one for one in outcomes if one.ok is False]
        if not crosses or time.monotonic() >= deadline:
            break
        time.sleep(_AGAIN)
    shown = crosses if args.quiet else outcomes
    print(_as_json(shown) if args.output == "json" else _as_table(shown), end="")
    if any(one.name == "configuration" for one in crosses):
        return 78
    return 1 if crosses else 0


def _is_asked_for(outcome: Outcome, only: Sequence[str]) -> bool:
    # Without a configuration there is nothing else to say.
    return not only or outcome.name in only or outcome.name == "configuration"


def _outcomes(args: argparse.Namespace) -> Iterator[Outcome]:
    sources = Sources()
    try:
        plan = from_file(args.config, sources)()
    except ConfigError as error:
        first, *more = [one for one in error.problems if one.level is Level.ERROR]
        said = f"{first.where}: {first.message}{f', and {len(more)} more' * bool(more)}"
        yield bad("configuration", said, f"sidecar validate {args.config}")
        return
    except (StartError, OSError) as error:
        help_ = getattr(error, "help", "") or "name the bootstrap with `-c FILE`"
        yield bad("configuration", str(error), help_)
        return
    yield good("configuration", f"{args.config}: {len(plan.snapshot.policies)} policies")
    lent = place.seen_from(Path(args.config).absolute(), os.environ)
    for names, look in _looks(plan, lent, pre=args.pre):
        # A CA that does not answer takes seconds, which who asks for `ready` may not have.
        if not args.only or not names.isdisjoint(args.only):
            yield from look()


def _looks(
    plan: Plan, lent: Mapping[str, str], *, pre: bool
) -> Iterator[tuple[frozenset[str], Callable[[], Iterable[Outcome]]]]:
    """Yield what may be looked at: under which names, and how."""
    now, spec = time.time(), plan.identity  # noqa: TID251  a command is where the time comes in
    yield (
        frozenset({"token", "identity", "expiry", "revoked"}),
        partial(identity.identity, spec, now, starting=pre),
    )
    yield (
        frozenset({"CA", "clock skew", "bundle age"}),
        partial(authority.authority, spec, now, starting=pre),
    )
    yield frozenset({"clock"}), lambda: [clock.not_behind(now, _written(plan))]
    yield frozenset({"access log"}), lambda: [access.writable(plan.access)]
    yield frozenset({"port"}), partial(network.ports, plan.snapshot, running=not pre)
    yield frozenset({"server", "last metre"}), partial(network.servers, plan.snapshot)
    yield frozenset({"server"}), partial(programs.programs, plan.programs, os.environ)
    if not pre:
        admin = plan.admin or default_socket(lent, plan.name, tempfile.gettempdir(), os.getuid())
        yield frozenset({"ready"}), lambda: [running.ready(admin)]
        yield frozenset({"certificate"}), lambda: [running.certificate(plan.snapshot, spec)]


def _written(plan: Plan) -> list[Path]:
    """Return the files that tell when this sidecar last wrote something."""
    folder = plan.identity.folder if plan.identity is not None else Path()
    files = [folder / name for name in ("svid.pem", "svid_key.pem", "svid_bundle.pem", DENIED)]
    return files + ([Path(plan.access)] if plan.access not in access.STREAMS else [])


def _as_json(outcomes: Sequence[Outcome]) -> str:
    return json.dumps([asdict(one) for one in outcomes], indent=2) + "\n"


def _as_table(outcomes: Sequence[Outcome]) -> str:
    wide = max((len(one.name) for one in outcomes), default=0)
    lines: list[str] = []
    for one in outcomes:
        lines.append(f"{_painted(one)} {one.name:{wide}}  {one.said}"[: _WIDTH + 10])
        if one.remedy:
            lines.append(f"  {'':{wide}}  = help: {one.remedy}")
    return "".join(f"{line}\n" for line in lines)


def _painted(one: Outcome) -> str:
    mark = _MARKS[one.ok]
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ or one.ok is None:
        return mark
    return f"\033[{32 if one.ok else 31}m{mark}\033[0m"


def _seconds(text: str) -> float:
    """Read `30s`, `2m` or plain seconds."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in "sm" else (text, "s")
    try:
        seconds = float(number) * {"s": 1, "m": 60}[unit]
    except ValueError:
        raise argparse.ArgumentTypeError(f"`{text}` is no time: write `30s`") from None
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("write a time of at most an hour")
    return seconds
