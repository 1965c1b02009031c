from __future__ import annotations

import pytest

from sidecar.upstream.edit import Edit, edited

LINES = [b"Accept: */*\r\n", b"x-a: 1\r\n", b"X-A: 2\r\n", b"x-b: 3\r\n"]


@pytest.mark.parametrize(
    ("edit", "wanted"),
    [
        (Edit(), LINES),
        (Edit(remove=frozenset({b"x-a"})), [LINES[0], LINES[3]]),
        (Edit(set=((b"x-a", b"9"),)), [LINES[0], LINES[3], b"x-a: 9\r\n"]),
        (Edit(set=((b"x-new", b"9"),)), [*LINES, b"x-new: 9\r\n"]),
        (Edit(add=((b"x-a", b"9"),)), [*LINES, b"x-a: 9\r\n"]),
        # What is removed goes first, so that a field can be removed and put there anew.
        (
            Edit(add=((b"x-a", b"9"),), remove=frozenset({b"x-a"})),
            [LINES[0], LINES[3], b"x-a: 9\r\n"],
        ),
    ],
)
def test_lines_are_edited_whatever_the_case_of_their_names(edit: Edit, wanted: list[bytes]) -> None:
    assert edit.lines(LINES) == wanted
    assert len(LINES) == 4


def test_edits_act_one_after_the_other_and_none_does_nothing() -> None:
    first, second = Edit(set=((b"x-b", b"4"),)), Edit(set=((b"x-b", b"5"),))
    assert edited(LINES, first, None, second) == [*LINES[:3], b"x-b: 5\r\n"]
    assert edited(LINES, None, None) is LINES
