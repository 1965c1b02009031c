"""Keys that look like words of the protocol, and keys that only resemble them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import MessageError
from sidecar.mcp import twins

WORDS = twins.Words("`here`", frozenset({"name", "taskId", "_meta"}), frozenset({"title"}))


@pytest.mark.parametrize(
    ("key", "word"),
    [
        ("Name", "name"),
        ("NAME", "name"),
        (" name", "name"),
        ("name\t", "name"),
        ("\x1fname", "name"),
        ("ｎａｍｅ", "name"),
        ("𝓷ame", "name"),
        ("na\u1d50e", "name"),
        ("n_a_m_e", "name"),
        ("taskid", "taskId"),
        ("task_id", "taskId"),
        ("task-id", "taskId"),
        ("taſkId", "taskId"),
        ("tasKId", "taskId"),
        ("taskıd", "taskId"),
        ("taskİd", "taskId"),
        ("meta", "_meta"),
        ("Meta", "_meta"),
    ],
)
def test_a_look_alike_is_found_and_its_word_named(key: str, word: str) -> None:
    assert WORDS.twin([key]) == (key, word)
    with pytest.raises(MessageError, match=f"in `here` looks like `{word}`"):
        WORDS.refuse_twins({"other": 1, key: 2})


@pytest.mark.parametrize(
    "key",
    ["name", "taskId", "_meta", "title", "Title", "", "names", "na me", "nаme", "_" * 65 + "name"],
)
def test_a_word_or_another_word_is_no_look_alike(key: str) -> None:
    assert WORDS.twin([key]) is None


def test_a_long_key_costs_nothing() -> None:
    # Each of these characters is eighteen after normalisation.
    assert twins.fold("\ufdfa" * 100_000) == ""


def test_a_refusal_quotes_no_more_than_a_line() -> None:
    with pytest.raises(MessageError) as refusal:
        WORDS.refuse_twins({" " * 50_000 + "NAME": 1})
    assert len(str(refusal.value)) < 200


@given(st.sampled_from(sorted(twins.MESSAGE.guarded)), st.data())
def test_no_change_of_case_hides_a_word(word: str, data: st.DataObject) -> None:
    flips = data.draw(st.lists(st.booleans(), min_size=len(word), max_size=len(word)))
    key = "".join(
        letter.upper() if flip else letter for letter, flip in zip(word, flips, strict=True)
    )
    found = twins.MESSAGE.twin([key])
    assert found == (None if key == word else (key, word))


def test_no_two_guarded_words_look_alike() -> None:
    for words in (twins.MESSAGE, twins.KNOWN_PARAMS, twins.RESULT, twins.ERROR, twins.REFERENCE):
        assert len({twins.fold(word) for word in words.guarded}) == len(words.guarded)
        assert words.twin(words.known) is None


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("Mask_id", True),
        ("MA\u017f\u212a_ID", True),
        ("mask_\u0131d", True),
        ("mask_\u0130d", True),
        ("mask_id", False),
        ("maskid", False),
        ("mask-id", False),
        ("mask_id ", False),
        ("m\u00e4sk_id", False),
    ],
)
def test_an_argument_has_twins_in_case_alone(key: str, wanted: bool) -> None:
    assert twins.same_but_for_case(key, "mask_id") is wanted
