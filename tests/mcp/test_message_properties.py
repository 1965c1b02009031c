"""`parse` against a slow reading by other means: they take and refuse the same bytes."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import MessageError
from sidecar.mcp.message import Message, leaves, parse

MAX_DEPTH = 6

texts = st.text(max_size=6) | st.sampled_from(["\0", "a\0", "id", "Name", "\ud800", "\\u0000"])
numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([math.inf, -math.inf, math.nan, 10**400, 1e308, -0.0])
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
# JSON that says more than a value can: repeats, wild numbers, escapes, debris.
REPEATS = ['"a":1', '"a":2', '"\\u0061":3', '"m":{"x":{},"x":1}']
NUMBERS = ['"b":1e999', '"c":1e30', '"d":-1E+400', '"j":NaN', '"n":01', '"k":1' + "0" * 320]
STRINGS = ['"f":"\\u0000"', '"g":"\\\\u0000"', '"h":"\\ud83d\\ude00"', '"i":"\\ud83d"', '"u":"\\/"']
DEBRIS = ['"o":"\t"', '"p":"\x7f"', '"r":[1,]', "", "x", '"t":"é"', '"l":1' + "0" * 320 + ".5"]
DEEP = ['"e":[[[[[[[]]]]]]]', '"s":{}', '"q":{"\\u0000":[]}']
fragments = st.sampled_from([*REPEATS, *NUMBERS, *STRINGS, *DEBRIS, *DEEP])
envelopes = st.lists(fragments, max_size=4).map(
    lambda parts: '{"jsonrpc":"2.0","id":1,"method":"ping","params":{' + ",".join(parts) + "}}"
)


class Refused(Exception):
    """The slow reading says no."""


def slow(raw: bytes) -> Any:
    """Read *raw* with the standard library, then look at every rule one by one."""
    try:
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=no_repeats, parse_constant=no_constant
        )
    except (ValueError, RecursionError) as error:
        raise Refused from error
    if depth(value) > MAX_DEPTH:
        raise Refused
    for leaf in walk(value):
        if isinstance(leaf, float) and not math.isfinite(leaf):
            raise Refused
        if isinstance(leaf, str) and ("\0" in leaf or not encodes(leaf)):
            raise Refused
    return value


def no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise Refused
    return dict(pairs)


def no_constant(name: str) -> Any:
    raise Refused


def encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return 0
    return 1 + max((depth(child) for child in value), default=0)


def walk(value: Any) -> list[Any]:
    """Every key and every value that holds no others."""
    if isinstance(value, dict):
        return [*value, *(leaf for child in value.values() for leaf in walk(child))]
    if isinstance(value, list):
        return [leaf for child in value for leaf in walk(child)]
    return [value]


def outcome(raw: bytes) -> tuple[Message | None, MessageError]:
    try:
        return parse(raw, max_depth=MAX_DEPTH), MessageError("none")
    except MessageError as error:
        return None, error


def check(raw: bytes) -> None:
    try:
        expected = slow(raw)
    except Refused:
        expected = None
    message, refusal = outcome(raw)
    if message is None:
        assert expected is None or refusal.code == -32600 or "looks like" in str(refusal)
        return
    assert expected is not None
    assert message.value == expected
    strings = [leaf for leaf in walk(expected) if isinstance(leaf, str)]
    assert sorted(leaves(message.value).split("\0")) == sorted(strings)


@given(values)
def test_any_params_are_judged_as_the_slow_reading_judges_them(params: Any) -> None:
    value = {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": params}}
    check(json.dumps(value).encode())


@given(values)
def test_any_params_written_without_escapes_are_judged_alike(params: Any) -> None:
    value = {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": params}}
    check(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))


@given(envelopes)
def test_any_debris_is_judged_as_the_slow_reading_judges_it(text: str) -> None:
    check(text.encode())


@given(envelopes, st.integers(min_value=0, max_value=400), st.binary(min_size=1, max_size=2))
def test_any_damaged_byte_is_judged_as_the_slow_reading_judges_it(
    text: str, at: int, damage: bytes
) -> None:
    raw = text.encode()
    check(raw[:at] + damage + raw[at + len(damage) :])


@given(st.binary(max_size=60))
def test_no_bytes_bring_anything_but_a_message_or_a_refusal(raw: bytes) -> None:
    check(raw)


@given(values)
def test_the_text_holds_each_string_once(value: Any) -> None:
    strings = [leaf for leaf in walk(value) if isinstance(leaf, str)]
    sound = not any("\0" in text for text in strings)
    try:
        text = leaves(value)
    except MessageError:
        assert not sound
        return
    assert sound
    assert sorted(text.split("\0")) == (sorted(strings) or [""])
