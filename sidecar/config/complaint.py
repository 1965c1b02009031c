"""Why text is not YAML, in words that help: what libyaml and PyYAML say, translated.

The two readers word the same fault differently; a pattern for each fault covers
both. A fault with no pattern is told in the reader's own words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import yaml

from ..errors import Where
from .problem import Notes, Place


@dataclass(frozen=True, slots=True)
class _Fault:
    """What a reader says (a pattern), and what we say."""

    said: re.Pattern[str]
    message: str
    help: str
    code: str = "SC0102"
    at_opening: bool = False


_FLOW_KEY: Final = re.compile(r"[{,]\s*key\s*:\s*(?P<key>[\w.\-]+(?:\[[^\]\s]*\])+)")

_FAULTS: Final = (
    _Fault(
        re.compile(r"found character '\\t' that cannot start|found a tab character"),
        "a tab is used for indentation",
        "indent with spaces",
        "SC0103",
    ),
    _Fault(
        re.compile(r"cannot start any token"),
        "a value cannot begin with this character",
        'put the value in double quotes: "…"',
    ),
    _Fault(
        re.compile(r"mapping values are not allowed"),
        "a second `: ` in one line, or a line that is indented too far",
        "put a value that holds `: ` in quotes, or line the key up with the one above",
    ),
    _Fault(
        re.compile(r"did not find expected ',' or '(.)'|expected ',' or '(.)'"),
        "a `{` or `[` is not closed where it should be",
        "close it, put a comma between the values, or put a value that holds brackets in quotes",
        at_opening=True,
    ),
    _Fault(
        re.compile(r"did not find expected '-' indicator|expected <block end>, but found '\?'"),
        "this line is no part of the list above it",
        "begin it with `- `, or indent it as the list's parent is",
    ),
    _Fault(
        re.compile(r"did not find expected key|expected <block end>"),
        "this line does not fit the lines above it",
        "let all keys of one mapping begin in the same column",
    ),
    _Fault(
        re.compile(r"could not find expected ':'"),
        "a key has no `:`",
        "write `key: value`, with a space after the colon",
    ),
    _Fault(
        re.compile(r"unexpected end of stream"),
        "a quote is opened and never closed",
        "close it on the same line",
        at_opening=True,
    ),
    _Fault(
        re.compile(r"unknown escape character|invalid Unicode character escape|hexadecimal"),
        "an escape in double quotes is not one YAML knows",
        "write a backslash twice, or use single quotes, which know no escapes",
    ),
    _Fault(
        re.compile(r"<document start>"),
        "a new document needs a line `---` before it",
        "write `---` on a line of its own",
    ),
)


def complaint_about(error: yaml.YAMLError, file: str, lines: tuple[str, ...], notes: Notes) -> None:
    """Note why the YAML reader stopped, where, and what would help."""
    mark, opening = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    said = str(getattr(error, "problem", None) or error)
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    flow_key = _FLOW_KEY.search(line)
    if flow_key is not None and "',' or '}'" in said:
        _brackets_in_flow(flow_key["key"], _place(mark, file), notes)
        return
    fault = _fault(said, line, mark)
    if fault.at_opening and opening is not None:
        mark = opening
    notes.error(
        fault.code,
        f"this is not YAML: {fault.message}",
        _place(mark, file),
        why=_why(error, mark),
        help=fault.help,
    )


def _place(mark: yaml.Mark | None, file: str) -> Place:
    return Place(Where(file) if mark is None else Where(file, mark.line + 1, mark.column + 1))


def _fault(said: str, line: str, mark: yaml.Mark | None) -> _Fault:
    tab = mark is not None and line[mark.column : mark.column + 1] == "\t"
    for fault in _FAULTS:
        if (tab and fault.code == "SC0103") or fault.said.search(said):
            return fault
    return _Fault(re.compile(""), said, "")


def _why(error: yaml.YAMLError, mark: yaml.Mark | None) -> str:
    context, opening = getattr(error, "context", None), getattr(error, "context_mark", None)
    rest = "the rest of this file was not read"
    if not context or opening is None or mark is None or opening.line >= mark.line:
        return rest
    what = context.removeprefix("while parsing ").removeprefix("while scanning ")
    return f"it is part of {what} that begins in line {opening.line + 1}; {rest}"


def _brackets_in_flow(key: str, place: Place, notes: Notes) -> None:
    dotted = key.replace("][", ".").replace("[", ".").rstrip("]")
    notes.error(
        "SC0111",
        "`[` inside `{ }` begins a list",
        place,
        why="between braces YAML reads brackets as its own; the rest of this file was not read",
        help=f'quote the key: `"{key}"`, or write `{dotted}`',
    )
