"""Families in Prometheus' text format: the only place that knows its library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from .family import Family, Kind


class _Told(Collector):
    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return map(_metric, self._families)


def exposition(families: Iterable[Family]) -> bytes:
    """Return *families* as whoever scrapes reads them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Told(families))
    return generate_latest(registry)


def _metric(family: Family) -> Metric:
    told: CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
    match family.kind:
        case Kind.COUNTER:
            told = CounterMetricFamily(family.name, family.help, labels=family.labels)
        case Kind.GAUGE:
            told = GaugeMetricFamily(family.name, family.help, labels=family.labels)
        case Kind.HISTOGRAM:
            told = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    for labels, value in family.values:
        if isinstance(told, HistogramMetricFamily):
            assert isinstance(value, tuple)
            buckets, total = value
            told.add_metric(list(labels), list(buckets), total)
        else:
            assert not isinstance(value, tuple)
            told.add_metric(list(labels), value)
    return told
