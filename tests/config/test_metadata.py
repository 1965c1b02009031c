from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sidecar.config.loaded import Loaded

Document = Callable[..., Loaded]


def codes(loaded: Loaded) -> list[str]:
    return [problem.code for problem in loaded.problems]


def test_metadata_comes_out(document: Document) -> None:
    loaded = document(
        "PeerAuthentication",
        {},
        labels={"a": "b"},
        annotations={"c": ""},
        creationTimestamp="1970-01-01T00:01:00Z",
        uid="x",
        resourceVersion="1",
        generation=1,
        managedFields=[{}],
    )
    assert loaded.problems == ()
    found = loaded.documents[0].metadata
    assert (found.name, found.namespace) == ("one", "prod")
    assert (found.labels, found.annotations, found.created) == ({"a": "b"}, {"c": ""}, 60.0)


@pytest.mark.parametrize("name", ["a", "a-b.c", "a" * 253, "0"])
def test_names_are_as_in_kubernetes(name: str, document: Document) -> None:
    assert codes(document("PeerAuthentication", {}, name=name)) == []


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ({"name": ""}, ["SC0211"]),
        ({"name": "A"}, ["SC0211"]),
        ({"name": "a_b"}, ["SC0211"]),
        ({"name": "-a"}, ["SC0211"]),
        ({"name": "a/b"}, ["SC0211"]),
        ({"name": "a" * 254}, ["SC0211"]),
        ({"name": 7}, ["SC0203"]),
        ({"namespace": "a.b"}, ["SC0211"]),
        ({"namespace": "a" * 64}, ["SC0211"]),
        ({"labels": {"a": 1}}, ["SC0203"]),
        ({"labels": {"": "x"}}, ["SC0401"]),
        ({"annotations": {"istio.io/dry-run": True}}, ["SC0203"]),
        ({"creationTimestamp": "yesterday"}, ["SC0211"]),
        ({"creationTimestamp": "2026-01-31T12:00:00"}, ["SC0211"]),
        ({"nmae": "x"}, ["SC0204"]),
    ],
)
def test_what_metadata_may_not_say(
    metadata: dict[str, Any], found: list[str], document: Document
) -> None:
    loaded = document("PeerAuthentication", {}, **metadata)
    assert codes(loaded) == found
    assert loaded.documents == ()


def test_a_document_without_a_name_is_refused(codes: Callable[[str], list[str]]) -> None:
    text = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {}\nspec: {}\n"
    assert codes(text) == ["SC0202"]


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ({}, ["SC0411"]),
        ({"matchLabels": {}}, ["SC0411"]),
        ({"matchLabels": {"a": ""}}, []),
        ({"matchLabels": {"a": "x*"}}, ["SC0411"]),
        ({"matchLabels": {"a*": "x"}}, ["SC0411"]),
        ({"labels": {"a": "b"}}, ["SC0204"]),
        ({"matchlabels": {"a": "b"}}, ["SC0204"]),
    ],
)
def test_a_selector_names_whole_labels(
    selector: dict[str, Any], found: list[str], document: Document
) -> None:
    assert codes(document("PeerAuthentication", {"selector": selector})) == found
