"""Families: what is counted, told apart by labels."""

from __future__ import annotations

import pytest

from sidecar.observe.family import Family, Kind, counter, gauge, histogram


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (counter("a", "b", "c", "d"), Kind.COUNTER),
        (gauge("a", "b", "c", "d"), Kind.GAUGE),
        (histogram("a", "b", "c", "d"), Kind.HISTOGRAM),
    ],
)
def test_a_family_begins_empty_and_knows_its_labels(made: Family, kind: Kind) -> None:
    assert made == Family(kind, "a", "b", ("c", "d"), [])


def test_values_stand_in_the_order_in_which_they_were_added() -> None:
    made = gauge("a", "b", "c").add(1, "x").add(2.5, "y")
    assert made.values == [(("x",), 1), (("y",), 2.5)]
