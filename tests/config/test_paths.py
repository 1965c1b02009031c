from __future__ import annotations

import pytest

from sidecar.config.parse import parse
from sidecar.config.paths import PathForm, PlainPathForm, beside
from sidecar.config.problem import Notes
from sidecar.errors import Where


@pytest.mark.parametrize(
    ("file", "path", "expected"),
    [
        ("a/b.yaml", "c.pem", "a/c.pem"),
        ("a/b.yaml", "./c/d.pem", "a/c/d.pem"),
        ("a/b.yaml", "../c.pem", "a/../c.pem"),
        ("/etc/b.yaml", "c", "/etc/c"),
        ("b.yaml", "c", "c"),
        ("a/b.yaml", "/abs", "/abs"),
        ("<command line>", "c", "c"),
    ],
)
def test_a_path_is_seen_from_where_its_file_is_seen(file: str, path: str, expected: str) -> None:
    assert beside(file, path) == expected


def test_a_path_keeps_the_place_it_is_named_at() -> None:
    (node,) = parse(b"[x/y]", "a/b.yaml").documents
    item = node.items[0]  # type: ignore[union-attr]
    found = PathForm().read(item, "p", Notes())
    assert (found.path, found.at, found.width) == ("a/x/y", Where("a/b.yaml", 1, 2), 3)
    assert PlainPathForm().read(item, "p", Notes()) == "a/x/y"
