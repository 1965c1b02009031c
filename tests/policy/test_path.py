"""Every spelling of a path comes out as one, in each of the four modes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import PathError
from sidecar.policy.path import Normalisation, merge_slashes, normalise, without_query

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors" / "path_normalization.json"
needs_vectors = pytest.mark.skipif(
    not VECTORS.exists(), reason="path_normalization.json is not here"
)
BASE, MERGE = Normalisation.BASE, Normalisation.MERGE_SLASHES
DECODE = Normalisation.DECODE_AND_MERGE_SLASHES
MODES = list(Normalisation)

# Pieces of which awkward paths are made.
PIECES = st.sampled_from(
    [
        *("/", "//", ".", "..", "\\", "%2e", "%2E", "%2f", "%5C", "%25"),
        *("%", "2", "e", "%41", "%7e", "%c3%a9", ";", "a", "admin"),
    ]
)
PATHS = st.lists(PIECES, max_size=12).map(lambda pieces: "/" + "".join(pieces))


def outcome(path: str, mode: Normalisation) -> str | None:
    try:
        return normalise(path, mode)
    except PathError:
        return None


def cases(name: str) -> list[Any]:
    return list(json.loads(VECTORS.read_text())[name])


@needs_vectors
def test_the_published_cases_come_out_as_published() -> None:
    wrong = [
        (case["mode"], case["in"], case["out"])
        for case in cases("normalize")
        if outcome(case["in"], Normalisation(case["mode"])) != case["out"]
    ]
    assert wrong == []


@needs_vectors
def test_slashes_merge_and_queries_go_as_published() -> None:
    for case in cases("merge_slashes_only"):
        assert merge_slashes(case["in"]) == case["out"], case
    for case in cases("strip_query_and_fragment_for_matching"):
        assert without_query(case["in"]) == case["out"], case


@pytest.mark.parametrize(
    ("target", "mode", "wanted"),
    [
        ("/mcp", BASE, "/mcp"),
        ("*", BASE, "*"),
        ("/a/..", BASE, "/"),
        ("/a/b/..", BASE, "/a/"),
        ("/a/.", BASE, "/a/"),
        ("/..", BASE, "/"),
        ("/.well-known/x", BASE, "/.well-known/x"),
        ("/a/...", BASE, "/a/..."),
        ("/a/../b?c=/../d%2e", BASE, "/b?c=/../d%2e"),
        ("/a%2e%2e/b", BASE, "/a../b"),
        ("/a/%2e%2e%2fb", BASE, "/a/..%2fb"),
        ("/a/%2e%2e%2fb", DECODE, "/b"),
        ("/a//b", BASE, "/a//b"),
        ("/a//b", MERGE, "/a/b"),
        ("/a%2F%2Fb", DECODE, "/a/b"),
        ("/100%", BASE, "/100%"),
        ("/a%zz", BASE, "/a%zz"),
    ],
)
def test_a_path_gets_the_spelling_of_its_mode(
    target: str, mode: Normalisation, wanted: str
) -> None:
    assert normalise(target, mode) == wanted


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", ["/a%00b", "/a\0b", "/%%0000"])
def test_nul_is_refused_in_every_mode(path: str, mode: Normalisation) -> None:
    assert outcome(path, mode) is None


@pytest.mark.parametrize("path", ["/%2%45%2%45/admin", "/%%32e", "/%%32%45", "/%%41dmin"])
def test_percent_signs_that_would_decode_into_a_new_escape_are_refused(path: str) -> None:
    assert outcome(path, BASE) is None


def test_what_was_escaped_twice_is_decoded_once_at_most() -> None:
    assert normalise("/%252e%252e/admin", DECODE) == "/%252e%252e/admin"


@given(PATHS, st.sampled_from(MODES))
def test_a_path_that_is_normal_stays_as_it_is(path: str, mode: Normalisation) -> None:
    once = outcome(path, mode)
    if once is not None:
        assert normalise(once, mode) == once


@given(PATHS)
def test_no_dot_segment_or_backslash_is_left(path: str) -> None:
    out = outcome(path, DECODE)
    if out is not None:
        assert out.startswith("/")
        assert not {".", ".."} & set(out.split("/"))
        assert "\\" not in out
        assert "//" not in out


@given(PATHS, PATHS)
def test_a_query_passes_as_it_came(path: str, query: str) -> None:
    out = outcome(f"{path}?{query}", BASE)
    if out is not None:
        assert out.partition("?")[2] == query
