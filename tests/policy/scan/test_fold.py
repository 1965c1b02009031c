"""What folding makes equal, what it leaves apart, and what it cannot cost."""

from __future__ import annotations

from unicodedata import normalize

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.policy.scan.fold import Fold, fold_point

# Every code point that may fold, surrogates aside.
POINTS = [point for point in range(0x30000) if not 0xD800 <= point < 0xE000]
# They would say too much at once, so they stay as they are.
TOO_LONG = {0xFDFA, 0xFDFB, 0x321D}


@pytest.mark.parametrize(
    "written",
    [
        "JailBreak",
        "ｊａｉｌｂｒｅａｋ",
        "𝐉𝐚𝐢𝐥𝐛𝐫𝐞𝐚𝐤",
        "ⓙⓐⓘⓛⓑⓡⓔⓐⓚ",
        "JA\u0130LBREA\u212a",
        "jáïl̴break",
        "j\u00e1ilbreak",
        "j\u20dda\u20e3ilbreak",
        "jail\u200bbreak",
        "jail\u00adbreak",
        "jail\u2060\ufeffbreak",
        "jail\u202ebreak",
        "jail\ufe0f\U000e0100break",
        "jail\U000e0020\U000e007fbreak",
        "jail\u3164\u115f\uffa0break",
        "jail\x7f\x08\x1bbreak",
        "jail\ufffdbreak",
    ],
)
def test_one_word_written_oddly_is_that_word(written: str) -> None:
    assert Fold()(written) == "jailbreak"


SPACES = [
    "  ",
    "\t",
    "\r\n",
    "\v\f",
    "\x1c",
    "\x85",
    "\xa0",
    "\u2003",
    "\u2028",
    "\u3000",
    "\u2800",
]


@pytest.mark.parametrize("space", [*SPACES, "\u200b \u200b ", " \u0301\u00a0"])
def test_white_space_of_any_kind_and_length_is_one_space(space: str) -> None:
    assert Fold()(f"a{space}b") == "a b"


@pytest.mark.parametrize(
    ("one", "other"),
    [("a", "b"), ("ab", "a b"), ("a\0b", "ab"), ("a-b", "ab"), ("1", "l"), ("я", "r")],
)
def test_what_is_read_differently_stays_apart(one: str, other: str) -> None:
    fold = Fold()
    assert fold(one) != fold(other)


def test_ascii_folds_alike_alone_and_among_others() -> None:
    fold = Fold()
    for point in range(128):
        alone = fold(f"x{chr(point)}x")
        assert fold(f"x{chr(point)}xж") == alone + "ж"


def test_compositions_of_a_character_fold_alike() -> None:
    fold = Fold()
    for point in POINTS:
        if point in TOO_LONG:
            continue
        char, folded = chr(point), fold(chr(point))
        for form in ("NFC", "NFD", "NFKC", "NFKD"):
            assert fold(normalize(form, char)) == folded, hex(point)  # type: ignore[arg-type]
        assert fold(char.casefold()) == folded, hex(point)


def test_folding_twice_changes_nothing() -> None:
    fold = Fold()
    for point in POINTS:
        assert fold(fold(chr(point))) == fold(chr(point)), hex(point)


def test_no_character_becomes_many() -> None:
    assert max(len(fold_point(point)) for point in POINTS) <= 6
    assert len(Fold()("\ufdfa" * 1000)) == 1000


def test_a_run_of_marks_leaves_nothing() -> None:
    assert Fold()("a" + "\u0301\u0316" * 5000 + "b") == "ab"


def test_half_a_surrogate_pair_is_nothing() -> None:
    assert Fold()("jail" + chr(0xD800) + "break") == "jailbreak"


def test_what_lies_beyond_letters_stays_but_for_tags() -> None:
    assert Fold()("\U00030000\U000f0000\U0010ffff") == "\U00030000\U000f0000\U0010ffff"
    assert Fold()("a\U000e0001\U000e0fffb") == "ab"


TEXTS = st.text(
    st.one_of(st.characters(), st.sampled_from(" \t\u00a0\u200bA\u0301\ufdfaﬁ\0")), max_size=30
)


def single_spaces(text: str) -> str:
    while "  " in text:
        text = text.replace("  ", " ")
    return text


@given(text=TEXTS, padding=st.sampled_from(["", "x" * 9, "Mostly ASCII, " * 20]))
@example(text="".join(map(chr, range(0xC0, 0xE0))), padding="more kinds than a few " * 20)
@example(text="ÉéÉéжЖß\U000e0041", padding="a few kinds, again and again " * 20)
def test_a_text_folds_character_by_character(text: str, padding: str) -> None:
    whole = padding + text + padding
    assert Fold()(whole) == single_spaces("".join(fold_point(ord(char)) for char in whole))


@given(pieces=st.lists(TEXTS, max_size=5))
def test_a_text_folds_as_its_pieces_do(pieces: list[str]) -> None:
    fold = Fold()
    assert fold("".join(pieces)) == single_spaces("".join(map(fold, pieces)))
