from __future__ import annotations

import pytest

from sidecar.config.documents import Selector


@pytest.mark.parametrize(
    ("wanted", "labels", "selected"),
    [
        ({}, {}, True),
        ({}, {"a": "b"}, True),
        ({"a": "b"}, {"a": "b", "c": "d"}, True),
        ({"a": "b", "c": "d"}, {"a": "b"}, False),
        ({"a": "b"}, {"a": "B"}, False),
        ({"a": ""}, {"a": ""}, True),
        ({"a": ""}, {}, False),
    ],
)
def test_a_selector_asks_for_all_of_its_labels(
    wanted: dict[str, str], labels: dict[str, str], selected: bool
) -> None:
    assert Selector(wanted).selects(labels) is selected
