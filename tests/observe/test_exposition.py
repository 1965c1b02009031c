"""The exposition: what another reader of Prometheus' format finds in it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from sidecar.observe.exposition import exposition
from sidecar.observe.family import Family, counter, gauge, histogram


def read(*families: Family) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = exposition(families).decode()
    return {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_counter_is_told_as_a_total() -> None:
    assert read(counter("calls", "Calls.", "who").add(3, 'a"b\\c\n').add(1, "")) == {
        ("calls_total", (("who", 'a"b\\c\n'),)): 3,
        ("calls_total", (("who", ""),)): 1,
    }


def test_a_gauge_is_told_as_it_is() -> None:
    assert read(gauge("open", "Open.").add(-1.5)) == {("open", ()): -1.5}


def test_a_histogram_is_told_with_its_sum_and_its_count() -> None:
    buckets = [("0.5", 1.0), ("+Inf", 4.0)]
    assert read(histogram("took", "Seconds.", "how").add((buckets, 7.25), "fast")) == {
        ("took_bucket", (("how", "fast"), ("le", "0.5"))): 1,
        ("took_bucket", (("how", "fast"), ("le", "+Inf"))): 4,
        ("took_count", (("how", "fast"),)): 4,
        ("took_sum", (("how", "fast"),)): 7.25,
    }


def test_a_family_without_values_still_says_what_it_is() -> None:
    text = exposition([counter("calls", "Calls of all.")]).decode()
    assert text == "# HELP calls_total Calls of all.\n# TYPE calls_total counter\n"
