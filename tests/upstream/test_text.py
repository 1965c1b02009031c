from __future__ import annotations

import pytest

from sidecar.upstream.text import How, TextMatch, holds_for_any


@pytest.mark.parametrize(
    ("match", "holding", "others"),
    [
        (TextMatch(How.EXACT, "/mcp"), ["/mcp"], ["/mcp/", "/MCP", "", None]),
        (TextMatch(How.EXACT, "/mcp", True), ["/mcp", "/MCP"], ["/mcp/", None]),
        (TextMatch(How.PREFIX, "/a"), ["/a", "/ab", "/a/b"], ["/A", "", "b/a", None]),
        (TextMatch(How.PREFIX, "/A", True), ["/a", "/Ab"], ["/", None]),
        (TextMatch(How.SUFFIX, ".txt"), [".txt", "a.txt"], ["a.txt ", None]),
        (TextMatch(How.PRESENT), ["", "anything"], [None]),
    ],
)
def test_a_comparison_holds_for_what_it_says(
    match: TextMatch, holding: list[str], others: list[str | None]
) -> None:
    assert [text for text in holding if not match.holds(text)] == []
    assert [text for text in others if match.holds(text)] == []


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("search", TextMatch(How.EXACT, "search")),
        ("read_*", TextMatch(How.PREFIX, "read_")),
        ("*_list", TextMatch(How.SUFFIX, "_list")),
        ("*", TextMatch(How.PRESENT)),
    ],
)
def test_a_star_stands_for_what_is_left_out(pattern: str, meant: TextMatch) -> None:
    assert TextMatch.pattern(pattern) == meant


def test_one_of_several_is_enough_and_one_of_none_is_not() -> None:
    matches = [TextMatch.pattern("a"), TextMatch.pattern("b*")]
    assert holds_for_any(matches, "bee")
    assert not holds_for_any(matches, "c")
    assert not holds_for_any([], "a")
