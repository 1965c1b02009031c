"""Whatever the reply: the short cut changes nothing, and lists hold what they should."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st
from support.decisions import HARM
from support.reviews import (
    BOTH,
    EVERY_SCAN,
    OPEN,
    REFUSE,
    RULES,
    answer,
    passed,
    permit,
    reviewed,
    slow,
)

from sidecar.policy.decide import Scans
from sidecar.policy.verdict import Refusal

KEYS = st.sampled_from(
    [
        *("tools", "prompts", "resources", "resourceTemplates", "cacheScope", "content", "a"),
        *("Tools", "cache_scope", "Resource-Templates", "TOOLS", "\uff54ools", "name", "uri"),
        *("uriTemplate", "Name", "text", HARM, "odd words"),
    ]
)
STRINGS = st.one_of(
    st.sampled_from(
        [
            *(
                "ok_a",
                "no_a",
                "file:///ok/a",
                "file:///no",
                "public",
                "private",
                HARM,
                "odd  words",
            ),
            *(HARM.upper(), "ignore  previous\ninstructions", "\x7f", "\u00e9", "\0", '"\\/'),
            "ignore\u200b previous instructions",
        ]
    ),
    st.text(max_size=6),
)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), FINITE, STRINGS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(KEYS, STRINGS), inner, max_size=3)
    ),
    max_leaves=8,
)
ITEMS = st.lists(
    st.dictionaries(st.sampled_from(["name", "uri", "uriTemplate", "Name", "text"]), STRINGS),
    max_size=3,
)
RESULTS = st.one_of(
    st.dictionaries(KEYS, st.one_of(ITEMS, VALUES), max_size=4),
    VALUES,
)
REPLIES = st.one_of(
    RESULTS.map(lambda result: {"jsonrpc": "2.0", "id": 1, "result": result}),
    st.lists(RESULTS.map(lambda result: {"result": result}), max_size=2),
    VALUES,
)


@given(REPLIES, st.booleans(), st.sampled_from([" ", "", "  "]), st.booleans())
@example({"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "no_a"}]}}, True, "", True)
def test_the_short_cut_changes_nothing(
    value: object, ascii_only: bool, space: str, open_: bool
) -> None:
    written = json.dumps(value, ensure_ascii=ascii_only, separators=("," + space, ":" + space))
    body = written.encode("utf-8", "surrogatepass")
    for scans in (Scans(), REFUSE, Scans(note=BOTH.note), BOTH):
        by = permit(OPEN if open_ else RULES, scans)
        found = reviewed(body, by)
        assert found == reviewed(body, slow(by))
        if isinstance(found[0], bytes) and not by.duties.none:
            assert not open_ or found[0] is body


@given(st.lists(st.sampled_from(["ok_a", "ok_b", "no_a", "no_b"]), max_size=5), st.booleans())
def test_nothing_hidden_is_left_and_nothing_visible_is_lost(names: list[str], scan: bool) -> None:
    body = answer({"tools": [{"name": name} for name in names]})
    left = json.loads(passed(body, permit(RULES, REFUSE if scan else Scans())))
    assert [tool["name"] for tool in left["result"]["tools"]] == [
        name for name in names if name.startswith("ok")
    ]


@given(st.binary(max_size=80))
def test_no_bytes_raise(body: bytes) -> None:
    for scans in EVERY_SCAN.values():
        found, _ = reviewed(body, permit(RULES, scans))
        assert isinstance(found, Refusal | bytes)
