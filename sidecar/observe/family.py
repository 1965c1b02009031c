"""What is counted under one name, whoever is told of it.

Counters and gauges are made by whoever counts, in the terms of Prometheus and
without its library: that is loaded once somebody scrapes (`exposition`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

# Of a histogram: how many up to each bound, and the sum of all.
Buckets: TypeAlias = tuple[Sequence[tuple[str, float]], float]


class Kind(Enum):
    """What a family's values mean."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(slots=True)
class Family:
    """Values of one *kind* under one *name*, told apart by the values of *labels*.

    A counter's name stands without its `_total`.
    """

    kind: Kind
    name: str
    help: str
    labels: tuple[str, ...] = ()
    values: list[tuple[tuple[str, ...], float | Buckets]] = field(default_factory=list)

    def add(self, value: float | Buckets, *labels: str) -> Family:
        """Add the *value* of what has these *labels*; return the family."""
        self.values.append((labels, value))
        return self


def counter(name: str, help: str, *labels: str) -> Family:
    """Return a counter with these *labels*, still empty."""
    return Family(Kind.COUNTER, name, help, labels)


def gauge(name: str, help: str, *labels: str) -> Family:
    """Return a gauge with these *labels*, still empty."""
    return Family(Kind.GAUGE, name, help, labels)


def histogram(name: str, help: str, *labels: str) -> Family:
    """Return a histogram with these *labels*, still empty."""
    return Family(Kind.HISTOGRAM, name, help, labels)
