"""The last lines are found by their request's id, and never more is kept than may be."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from sidecar.observe.recent import Recent


def line(request_id: str, **more: str) -> bytes:
    fields = {"ts": "now", "request_id": request_id, **more}
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def test_a_line_is_found_by_its_id() -> None:
    recent = Recent(1000)
    recent.keep(line("a-1") + line("a-2", path="/x") + line("a-3"))
    recent.keep(line("b-1"))
    assert recent.count == 4
    assert recent.find("a-1") == line("a-1")[:-1]
    assert recent.find("a-2") == line("a-2", path="/x")[:-1]
    assert recent.find("b-1") == line("b-1")[:-1]
    assert recent.find("a-") is None
    assert recent.find("") is None


def test_the_callers_own_id_is_found_where_ours_is_not() -> None:
    recent = Recent(1000)
    recent.keep(line("a-1") + line("a-2", caller_request_id="a-1"))
    recent.keep(line("a-3", caller_request_id="mine") + line("a-4", caller_request_id="mine"))
    assert recent.find("a-1") == line("a-1")[:-1]
    assert recent.find("mine") == line("a-4", caller_request_id="mine")[:-1]


def test_no_text_of_a_caller_passes_for_an_id() -> None:
    recent = Recent(1000)
    recent.keep(line("a-1", path=',"request_id":"a-2"') + line("a-3", path='\n"request_id":"a-2"'))
    assert recent.find("a-2") is None
    assert recent.find('a-1","path') is None
    assert recent.find("a" * 1000) is None


def test_the_oldest_are_forgotten_first() -> None:
    size = len(line("a-1"))
    recent = Recent(2 * size)
    for number in range(1, 5):
        recent.keep(line(f"a-{number}"))
    assert (recent.count, recent.find("a-2"), recent.find("a-3")) == (2, None, line("a-3")[:-1])
    recent.keep(b"".join(line(f"b-{number}") for number in range(1, 5)))
    assert (recent.count, recent.find("a-4"), recent.find("b-2")) == (2, None, None)
    assert recent.find("b-3") == line("b-3")[:-1]
    recent.keep(b"x" * 10 * size + b"\n")
    assert recent.find("b-4") is not None


@given(st.lists(st.lists(st.integers(0, 40), max_size=5), max_size=20), st.integers(0, 300))
def test_what_is_kept_is_within_its_bound_and_whole(batches: list[list[int]], most: int) -> None:
    recent = Recent(most)
    for number, lengths in enumerate(batches):
        recent.keep(b"".join(line(f"{number}-{n}", path="x" * n) for n in lengths))
    kept = b"".join(recent._batches)
    assert len(kept) <= most
    assert all(json.loads(one) for one in kept.splitlines())
    assert recent.count == len(kept.splitlines())
