"""Rounds in, medians and ratios out, as Markdown or JSON.

A ratio is taken within each round and its median given, because a machine drifts
from round to round more than within one. Below one is less CPU than the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from race.generator import Yield

REFERENCES = ("envoy-mcp", "nginx-lua")
"""The peers that others are compared with, where they take part."""

Rounds = Mapping[int, Yield]
"""What came of one peer, by the number of the round."""

_DISTURBED = 0.05


@dataclass(frozen=True, slots=True)
class Row:
    """One peer in one way of loading it: medians over the rounds."""

    peer: str
    cpu_us: float
    cpu_us_least: float
    cpu_us_most: float
    per_second: float
    p50_us: float
    p99_us: float
    rss_mb: float
    cpu_share: float
    others_share: float
    load_cpu_us: float
    refused: int
    errors: int
    unsent: int
    ratios: Mapping[str, float]


def rows(outcomes: Mapping[str, Rounds]) -> list[Row]:
    """Return a row a peer, in the order given, without those that have no round."""
    return [_row(peer, rounds, outcomes) for peer, rounds in outcomes.items() if rounds]


def _row(peer: str, rounds: Rounds, outcomes: Mapping[str, Rounds]) -> Row:
    each = list(rounds.values())

    def middle(figure: Callable[[Yield], float]) -> float:
        return median(figure(one) for one in each)

    return Row(
        peer=peer,
        cpu_us=middle(lambda one: one.cpu_us),
        cpu_us_least=min(one.cpu_us for one in each),
        cpu_us_most=max(one.cpu_us for one in each),
        per_second=middle(lambda one: one.requests / one.seconds),
        p50_us=middle(lambda one: one.p50_us),
        p99_us=middle(lambda one: one.p99_us),
        rss_mb=middle(lambda one: one.rss_bytes / 1e6),
        cpu_share=middle(lambda one: one.cpu_share),
        others_share=middle(lambda one: one.others_share),
        load_cpu_us=middle(lambda one: one.load_cpu_us),
        refused=sum(one.refused for one in each),
        errors=sum(one.errors for one in each),
        unsent=sum(one.unsent for one in each),
        ratios=_ratios(rounds, outcomes),
    )


def _ratios(rounds: Rounds, outcomes: Mapping[str, Rounds]) -> dict[str, float]:
    ratios: dict[str, float] = {}
    for name in REFERENCES:
        reference = outcomes.get(name, {})
        common = rounds.keys() & reference.keys()
        if common:
            ratios[name] = median(rounds[turn].cpu_us / reference[turn].cpu_us for turn in common)
    return ratios


def markdown(table: Sequence[Row], without: Sequence[str] = ()) -> str:
    """Return *table* in Markdown, and below it what makes a row doubtful.

    Peers *without* a row get one of dashes.
    """
    references = [name for name in REFERENCES if any(name in row.ratios for row in table)]
    heads = ["", "CPU us/request", "min..max", "requests/s", "p50 us", "p99 us", "RSS MB"]
    heads += ["CPU share", *(f"x {name}" for name in references)]
    lines = [_line(heads), _line(["---", *["---:"] * (len(heads) - 1)])]
    lines += [_line(_cells(row, references)) for row in table]
    lines += [_line([name, *["-"] * (len(heads) - 1)]) for name in without]
    return "\n".join([*lines, *_doubts(table)])


def _cells(row: Row, references: Sequence[str]) -> list[str]:
    return [
        row.peer,
        _figure(row.cpu_us),
        f"{_figure(row.cpu_us_least)}..{_figure(row.cpu_us_most)}",
        f"{row.per_second:.0f}",
        f"{row.p50_us:.0f}",
        f"{row.p99_us:.0f}",
        f"{row.rss_mb:.0f}",
        f"{row.cpu_share:.2f}",
        *(f"{row.ratios[name]:.2f}" if name in row.ratios else "" for name in references),
    ]


def _doubts(table: Sequence[Row]) -> list[str]:
    doubts = [f"{row.peer}: {doubt}." for row in table if (doubt := _doubt(row))]
    return ["", *(f"- {doubt}" for doubt in doubts)] if doubts else []


def _doubt(row: Row) -> str:
    parts = []
    if row.refused or row.errors or row.unsent:
        parts.append(f"{row.refused} refused, {row.errors} errors, {row.unsent} not sent in time")
    if row.others_share > _DISTURBED:
        parts.append(f"other processes took {row.others_share:.0%} of its CPU, compare with care")
    return "; ".join(parts)


def as_data(table: Sequence[Row]) -> list[dict[str, object]]:
    """Return *table* as plain values, for JSON."""
    return [asdict(row) for row in table]


def _figure(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
