"""Inspection and WasmPlugin: what messages are scanned for.

Of a WasmPlugin only `pluginConfig` is read: the scan is built in and no module
is loaded. Whatever else its configuration asks for is an error, because a
plugin's own setting that is ignored is a scan that does not happen.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

from .documents import (
    EVERY_WORKLOAD,
    Direction,
    InspectionSpec,
    OnMatch,
    Pattern,
    Phase,
    Selector,
    WasmPluginSpec,
)
from .metadata import SELECTOR_FIELD, TARGETS
from .nodes import MapNode, Node
from .paths import PathForm
from .problem import Notes, Spot
from .schema import Field, Form, ListOf, Struct, Support, Unread, Unused
from .values import Malformed, Read, Size, Text, Whole, Word

MOST_PATTERNS: Final = 10_000
LONGEST_PATTERN: Final = 1024
_SHORTEST_PATTERN: Final = 4
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")


def _pattern_id(text: str) -> str:
    if _ID.fullmatch(text) is None:
        raise Malformed(f"`{text}` is not an id", "write letters, digits, `.`, `_`, `/` and `-`")
    return text


_PATTERN: Final = Struct(
    "Pattern",
    Pattern,
    (
        Field("id", Read("id", _pattern_id), "Its name in logs and verdicts.", required=True),
        Field("text", Text(longest=LONGEST_PATTERN), "What is looked for.", required=True),
    ),
    located=True,
)


@dataclass(frozen=True, slots=True)
class PatternForm(Form[Pattern]):
    """A pattern with its id, or only its text, whose id is then its place in the list."""

    @property
    def name(self) -> str:
        return "pattern (text, or `{id, text}`)"

    def struct(self) -> Struct[object] | None:
        return _PATTERN

    def read(self, node: Node, path: str, notes: Notes) -> Pattern:
        if isinstance(node, MapNode):
            pattern = _PATTERN.read(node, path, notes)
        else:
            text = Text(longest=LONGEST_PATTERN).read(node, path, notes)
            pattern = Pattern(path.rpartition(".")[2], text, node.at)
        _check_pattern(pattern, node, path, notes)
        return pattern


def _check_pattern(pattern: Pattern, node: Node, path: str, notes: Notes) -> None:
    letters = sum(char.isalnum() for char in pattern.text)
    if not letters:
        notes.error(
            "SC0503",
            f"{path} holds no letter or digit",
            node,
            why="the scan compares letters and digits; this would match everywhere or nowhere",
            help="write the words to look for",
        )
        raise Unread
    if letters < _SHORTEST_PATTERN:
        notes.warning(
            "SC0503",
            f"{path} is very short",
            node,
            why="it will be found in messages that mean no harm",
            help="write the whole phrase",
        )


PATTERNS: Final = ListOf(PatternForm(), least=1, most=MOST_PATTERNS)


def note_twins(patterns: tuple[Pattern, ...], node: Spot, notes: Notes) -> None:
    """Note ids that more than one of *patterns* has: a finding must name one."""
    for name, count in Counter(pattern.id for pattern in patterns).items():
        if count > 1:
            notes.error("SC0502", f"{count} patterns have the id `{name}`", node)


def _check_inspection(spec: InspectionSpec, node: MapNode, path: str, notes: Notes) -> None:
    if not spec.patterns and not spec.pattern_files:
        notes.error(
            "SC0202",
            f"{path} looks for nothing",
            node,
            help="add `patterns:` or `patternFiles:`",
        )
    note_twins(spec.patterns, node.key("patterns"), notes)


INSPECTION: Final = Struct(
    "InspectionSpec",
    InspectionSpec,
    (
        SELECTOR_FIELD,
        Field("patterns", PATTERNS, "What is looked for, however it is spelled or spaced."),
        Field(
            "patternFiles",
            ListOf(PathForm(), least=1, most=64),
            "Files with such lists, which can be replaced without touching this document.",
        ),
        Field(
            "maxBodyBytes",
            Size(),
            "The longest request that is scanned; a longer one is refused.",
            default="`limits.requestBodyBytes`",
        ),
        Field("action", Word(OnMatch), "What a finding does.", default="DENY"),
        Field(
            "directions",
            ListOf(Word(Direction), least=1, most=2),
            "Which messages are scanned.",
            default="both",
        ),
    ),
    check=_check_inspection,
    why_unknown="an unknown field would be ignored, and less would be scanned than it says",
)


def _plugin_config(
    patterns: tuple[Pattern, ...], kilobytes: int = 64, action: OnMatch = OnMatch.DENY
) -> InspectionSpec:
    return InspectionSpec(patterns=patterns, max_body_bytes=kilobytes * 1024, action=action)


def _check_config(spec: InspectionSpec, node: MapNode, path: str, notes: Notes) -> None:
    note_twins(spec.patterns, node, notes)


PLUGIN_CONFIG: Final = Struct(
    "PluginConfig",
    _plugin_config,
    (
        Field("blocked_patterns", PATTERNS, "What is looked for.", attr="patterns", required=True),
        Field(
            "max_body_size_kb",
            Whole(1, 1024 * 1024),
            "The longest request that is scanned, in KiB; a longer one is refused.",
            attr="kilobytes",
            default="64",
        ),
        Field(
            "action_on_match", Word(OnMatch), "What a finding does.", attr="action", default="DENY"
        ),
    ),
    check=_check_config,
    why_unknown="only the settings of the built-in scan are read; "
    "what this one asks for would not happen",
)


def _plugin(
    config: InspectionSpec,
    selector: Selector = EVERY_WORKLOAD,
    url: str = "",
    phase: Phase = Phase.UNSPECIFIED_PHASE,
) -> WasmPluginSpec:
    return WasmPluginSpec(replace(config, selector=selector), url, phase)


def _check_plugin(spec: WasmPluginSpec, node: MapNode, path: str, notes: Notes) -> None:
    if spec.url:
        notes.warning(
            "SC0504",
            f"the module at `{spec.url}` is not loaded",
            node.get("url") or node,
            why="the scan is built in; of a WasmPlugin only its `pluginConfig` takes effect",
            help="leave it for Istio, or write an Inspection",
        )


_OF_THE_MODULE: Final = "It concerns the module, which is not loaded."

PLUGIN: Final = Struct(
    "WasmPluginSpec",
    _plugin,
    (
        SELECTOR_FIELD,
        *TARGETS,
        Field("url", Text(), "Where Istio finds the module; not loaded here."),
        Field(
            "phase",
            Word(Phase),
            "Where Istio puts it; here the scan follows the rules, whatever is written.",
            default="UNSPECIFIED_PHASE",
        ),
        Field(
            "pluginConfig",
            PLUGIN_CONFIG,
            "What is scanned for.",
            attr="config",
            required=True,
        ),
        Unused("sha256", Support.INERT, _OF_THE_MODULE),
        Unused("imagePullPolicy", Support.INERT, _OF_THE_MODULE),
        Unused("imagePullSecret", Support.INERT, _OF_THE_MODULE),
        Unused("verificationKey", Support.INERT, _OF_THE_MODULE),
        Unused("pluginName", Support.INERT, _OF_THE_MODULE),
        Unused("vmConfig", Support.INERT, _OF_THE_MODULE),
        Unused("priority", Support.INERT, "All scans of a workload are one."),
        Unused("failStrategy", Support.LATER, "The scan never fails open."),
        Unused("match", Support.LATER, "All messages of the workload are scanned."),
        Unused("type", Support.LATER, "What is scanned is HTTP and MCP."),
    ),
    check=_check_plugin,
)
