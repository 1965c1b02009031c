from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sidecar.config.documents import (
    Direction,
    Inspection,
    InspectionSpec,
    OnMatch,
    Phase,
    Selector,
    WasmPlugin,
)
from sidecar.config.loaded import Loaded

Document = Callable[..., Loaded]
CONFIG = {"blocked_patterns": ["ignore previous instructions"]}


def codes(loaded: Loaded) -> list[str]:
    return [problem.code for problem in loaded.problems]


def inspection(loaded: Loaded) -> InspectionSpec:
    (found,) = loaded.documents
    assert isinstance(found, Inspection | WasmPlugin)
    return found.inspection


def test_an_inspection_comes_out_with_its_defaults(document: Document) -> None:
    found = inspection(document("Inspection", {"patterns": ["ignore previous instructions"]}))
    (pattern,) = found.patterns
    assert (pattern.id, pattern.text) == ("patterns[0]", "ignore previous instructions")
    assert found.action is OnMatch.DENY
    assert set(found.directions) == set(Direction)
    assert found.max_body_bytes is None
    assert found.selector == Selector()


def test_every_field_of_an_inspection_comes_out(document: Document) -> None:
    found = inspection(
        document(
            "Inspection",
            {
                "selector": {"matchLabels": {"app": "x"}},
                "patterns": [{"id": "a/b.c-1", "text": "some words"}, "other words"],
                "patternFiles": ["packs/more.yaml"],
                "maxBodyBytes": "1MiB",
                "action": "SHADOW",
                "directions": ["response"],
            },
        )
    )
    assert [(one.id, one.text) for one in found.patterns] == [
        ("a/b.c-1", "some words"),
        ("patterns[1]", "other words"),
    ]
    assert all(one.at is not None for one in found.patterns)
    assert [ref.path for ref in found.pattern_files] == ["packs/more.yaml"]
    assert found.max_body_bytes == 1 << 20
    assert found.action is OnMatch.SHADOW
    assert found.directions == (Direction.RESPONSE,)
    assert found.selector.match_labels == {"app": "x"}


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({}, ["SC0202"]),
        ({"patterns": []}, ["SC0210"]),
        ({"patterns": [""]}, ["SC0401"]),
        ({"patterns": [7]}, ["SC0203"]),
        ({"patterns": ["..."]}, ["SC0503"]),
        ({"patterns": [{"id": "a"}]}, ["SC0202"]),
        ({"patterns": [{"id": "a b", "text": "some words"}]}, ["SC0211"]),
        ({"patterns": [{"id": "a", "text": "some words", "regex": "x"}]}, ["SC0204"]),
        ({"patterns": ["x" * 1025]}, ["SC0210"]),
        ({"patterns": ["some words"], "action": "ALLOW"}, ["SC0205"]),
        ({"patterns": ["some words"], "directions": []}, ["SC0210"]),
        ({"patterns": ["some words"], "directions": ["reply"]}, ["SC0205"]),
        ({"patterns": ["some words"], "maxBodyBytes": 0}, ["SC0208"]),
        ({"patterns": ["some words"], "patternFiles": ["a\0b"]}, ["SC0211"]),
    ],
)
def test_what_an_inspection_may_not_say(
    spec: dict[str, Any], found: list[str], document: Document
) -> None:
    loaded = document("Inspection", spec)
    assert codes(loaded) == found
    assert loaded.documents == ()


def test_two_patterns_of_one_id_are_refused(document: Document) -> None:
    patterns = [{"id": "a", "text": "one word"}, {"id": "a", "text": "two words"}]
    assert codes(document("Inspection", {"patterns": patterns})) == ["SC0502"]


def test_a_very_short_pattern_draws_a_warning(document: Document) -> None:
    loaded = document("Inspection", {"patterns": ["ab!"]})
    assert codes(loaded) == ["SC0503"]
    assert loaded.errors == ()


def test_of_a_plugin_its_configuration_takes_effect(document: Document) -> None:
    loaded = document(
        "WasmPlugin",
        {
            "selector": {"matchLabels": {"app": "x"}},
            "phase": "AUTHN",
            "pluginConfig": {**CONFIG, "max_body_size_kb": 32, "action_on_match": "FLAG"},
        },
    )
    assert loaded.problems == ()
    found = inspection(loaded)
    assert found.selector.match_labels == {"app": "x"}
    assert [(one.id, one.text) for one in found.patterns] == [
        ("blocked_patterns[0]", "ignore previous instructions")
    ]
    assert (found.max_body_bytes, found.action) == (32 * 1024, OnMatch.FLAG)
    (plugin,) = loaded.documents
    assert isinstance(plugin, WasmPlugin)
    assert plugin.spec.phase is Phase.AUTHN


def test_a_plugin_scans_64_kib_and_denies_unless_it_says_otherwise(document: Document) -> None:
    found = inspection(document("WasmPlugin", {"pluginConfig": CONFIG}))
    assert (found.max_body_bytes, found.action) == (65536, OnMatch.DENY)
    assert set(found.directions) == set(Direction)


def test_that_the_module_is_not_loaded_is_said(document: Document) -> None:
    loaded = document("WasmPlugin", {"url": "oci://x/y:v1", "pluginConfig": CONFIG})
    assert codes(loaded) == ["SC0504"]
    assert "oci://x/y:v1" in loaded.problems[0].message
    assert loaded.errors == ()


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({}, ["SC0202"]),
        ({"pluginConfig": {}}, ["SC0202"]),
        ({"pluginConfig": {"blocked_patterns": []}}, ["SC0210"]),
        ({"pluginConfig": {**CONFIG, "mode": "fast"}}, ["SC0204"]),
        ({"pluginConfig": {**CONFIG, "action_on_match": "ALLOW"}}, ["SC0205"]),
        ({"pluginConfig": {**CONFIG, "max_body_size_kb": 0}}, ["SC0206"]),
        ({"pluginConfig": {**CONFIG, "max_body_size_kb": "64"}}, ["SC0203"]),
        ({"pluginConfig": CONFIG, "phase": "FIRST"}, ["SC0205"]),
        ({"pluginConfig": CONFIG, "targetRefs": []}, ["SC0304"]),
    ],
)
def test_what_a_plugin_may_not_say(
    spec: dict[str, Any], found: list[str], document: Document
) -> None:
    loaded = document("WasmPlugin", spec)
    assert codes(loaded) == found
    assert loaded.documents == ()


@pytest.mark.parametrize("field", ["failStrategy", "match", "type"])
def test_what_has_no_effect_yet_draws_a_warning(field: str, document: Document) -> None:
    loaded = document("WasmPlugin", {"pluginConfig": CONFIG, field: "x"})
    assert codes(loaded) == ["SC0303"]
    assert len(loaded.documents) == 1


@pytest.mark.parametrize("field", ["sha256", "imagePullPolicy", "vmConfig", "priority"])
def test_what_concerns_the_module_is_passed_over(field: str, document: Document) -> None:
    assert codes(document("WasmPlugin", {"pluginConfig": CONFIG, field: "x"})) == []
