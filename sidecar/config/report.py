"""Problems as a person reads them: excerpt, carets, why and help, in 100 columns.

Text from files is shown with its control and direction-changing characters made
visible, so that a document cannot write to the terminal of who checks it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from unicodedata import category, east_asian_width

from .problem import Level, Problem, tally

WIDTH: Final = 100
_RESET: Final = "\x1b[0m"
_BOLD: Final = "\x1b[1m"
_BLUE: Final = "\x1b[1;34m"
_COLORS: Final = {Level.ERROR: "\x1b[1;31m", Level.WARNING: "\x1b[1;33m"}
# Categories whose characters are not themselves to be seen: controls, formats
# (which hold the bidirectional ones), surrogates, private use, line separators.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_SHORTENED: Final = "…"

# file -> its lines, as `Loaded.sources` holds them
Sources: TypeAlias = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class _Pen:
    """Writes in colour, or plainly."""

    color: bool

    def draw(self, style: str, text: str) -> str:
        return f"{style}{text}{_RESET}" if self.color and text else text


def render(
    problems: Iterable[Problem],
    sources: Sources,
    *,
    color: bool = False,
    width: int = WIDTH,
    dropped: int = 0,
) -> str:
    """Return all *problems* and the closing line; excerpts come from *sources*."""
    found, pen = list(problems), _Pen(color)
    blocks = ["\n".join(_block(problem, sources, pen, width)) for problem in found]
    return "\n\n".join([*blocks, tally(found, dropped)]) + "\n"


def _block(problem: Problem, sources: Sources, pen: _Pen, width: int) -> Iterator[str]:
    gutter = len(str(problem.where.line or 1))
    head = f"{problem.level}[{problem.code}]"
    first, *rest = _wrapped(f"{head}: {problem.message}", "", "  ", width)
    yield pen.draw(_COLORS[problem.level], head) + pen.draw(_BOLD, first[len(head) :])
    yield from rest
    yield pen.draw(_BLUE, f"{' ' * gutter}-->") + f" {visible(str(problem.where))}"
    yield from _excerpt(problem, sources, gutter, pen, width)
    for name, text in (("why", problem.why), ("help", problem.help)):
        if text:
            yield from _wrapped(text, f"{' ' * gutter} = {name}: ", " " * (gutter + 5), width)


def _wrapped(text: str, first: str, rest: str, width: int) -> list[str]:
    return textwrap.wrap(
        visible(text),
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,
    )


def _excerpt(
    problem: Problem, sources: Sources, gutter: int, pen: _Pen, width: int
) -> Iterator[str]:
    where = problem.where
    lines = sources.get(where.file, ())
    if not 1 <= where.line <= len(lines):
        return
    room = width - gutter - 3
    shown, start, length = _window(lines[where.line - 1], problem, room)
    bar = pen.draw(_BLUE, f"{' ' * gutter} |")
    yield bar
    yield pen.draw(_BLUE, f"{where.line:>{gutter}} |") + f" {shown}"
    label = visible(problem.label)
    below = bool(label) and start + length + 1 + columns(label) > room
    carets = "^" * length + (f" {label}" if label and not below else "")
    yield f"{bar} {' ' * start}" + pen.draw(_COLORS[problem.level], carets)
    if below:
        yield f"{bar} " + pen.draw(_COLORS[problem.level], _cut(label, room))


def _window(line: str, problem: Problem, room: int) -> tuple[str, int, int]:
    """Return what is shown of *line*, and where and how long its carets are."""
    first = max(problem.where.column - 1, 0)
    before, marked = line[:first], line[first : first + max(problem.width, 1)]
    after = line[first + len(marked) :]
    start, length = columns(visible(before)), max(columns(visible(marked)), 1)
    whole = visible(before) + visible(marked) + visible(after)
    if columns(whole) <= room:
        # What is marked may stand behind the line's end, where there is no room any more.
        start = min(start, room - 1)
        return whole.rstrip(), start, max(min(length, room - start), 1)
    # Keep what is underlined in view, and a little of what stands before it.
    lead = _tail(visible(before), room // 3)
    shown = _cut(lead + visible(marked) + visible(after), room)
    start = columns(lead)
    return shown, start, max(min(length, columns(shown) - start), 1)


def _tail(text: str, room: int) -> str:
    if columns(text) <= room:
        return text
    kept = text[-room:]
    while columns(kept) > room - 1:
        kept = kept[1:]
    return _SHORTENED + kept


def _cut(text: str, room: int) -> str:
    if columns(text) <= room:
        return text
    kept = text[:room]
    while columns(kept) > room - 1:
        kept = kept[:-1]
    return kept + _SHORTENED


def columns(text: str) -> int:
    """Return how many columns of a terminal *text* takes."""
    return sum(_columns_of(char) for char in text)


def _columns_of(char: str) -> int:
    if char.isascii():
        return 1
    if category(char) in ("Mn", "Me"):
        return 0
    return 2 if east_asian_width(char) in "WF" else 1


def visible(text: str) -> str:
    r"""Return *text* with a tab as two spaces and what cannot be seen as `\u202e`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(char) for char in text)


def _shown(char: str) -> str:
    if char == "\t":
        return "  "
    if category(char) not in _UNSEEN:
        return char
    number = ord(char)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
