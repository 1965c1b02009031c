"""Arrays of messages: what they may hold, and that each piece is the bytes that stood there."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import MessageError
from sidecar.mcp.batch import MAX_BATCH, split
from sidecar.mcp.message import NOT_A_MESSAGE, NOT_JSON, parse

PING = b'{"jsonrpc":"2.0","id":%d,"method":"ping"}'
NEWS = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'


def array(*pieces: bytes) -> bytes:
    return b"[" + b",".join(pieces) + b"]"


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (array(PING % 1), [PING % 1]),
        (array(PING % 1, NEWS), [PING % 1, NEWS]),
        (b" [\n\t" + PING % 1 + b" ,\r\n " + NEWS + b" ] ", [PING % 1, NEWS]),
        (array(b'{"jsonrpc":"2.0","id":"]","method":"a,[\\"{"}', NEWS), None),
        (array('{"jsonrpc":"2.0","id":"\u00e9\U0001f600","method":"a"}'.encode(), NEWS), None),
        (array(b'{"jsonrpc":"2.0","id":7,"result":{}}', PING % 7), None),
        (array(PING % 1, PING.replace(b"%d", b'"1"')), None),
        (array(PING.replace(b"%d", b"9" * 4000)), None),
    ],
)
def test_pieces_are_the_bytes_of_the_messages(body: bytes, wanted: list[bytes] | None) -> None:
    pieces = split(body)
    assert [json.loads(piece) for piece in pieces] == json.loads(body)
    assert wanted is None or pieces == wanted


REFUSED = {
    "empty": (b"[]", NOT_A_MESSAGE),
    "no array": (PING % 1, NOT_A_MESSAGE),
    "too long": (array(*(PING % n for n in range(MAX_BATCH + 1))), NOT_A_MESSAGE),
    "nested": (array(PING % 1, array(PING % 2)), NOT_A_MESSAGE),
    "a number in it": (array(PING % 1, b"1"), NOT_A_MESSAGE),
    "null in it": (array(b"null", PING % 1), NOT_A_MESSAGE),
    "no message in it": (array(PING % 1, b"{}"), NOT_A_MESSAGE),
    "two requests of one id": (array(PING % 1, PING % 1), NOT_A_MESSAGE),
    "two requests of one id, spelled apart": (
        array(PING % 1, PING.replace(b"%d", b"1.0")),
        NOT_A_MESSAGE,
    ),
    "a session begins in it": (
        array(PING % 1, b'{"jsonrpc":"2.0","id":2,"method":"initialize","params":{}}'),
        NOT_A_MESSAGE,
    ),
    "a trailing comma": (b"[" + PING % 1 + b",]", NOT_JSON),
    "no end": (b"[" + PING % 1, NOT_JSON),
    "a second value": (array(PING % 1) + PING % 2, NOT_JSON),
    "a key twice": (array(b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}'), NOT_JSON),
    "a form feed between": (b"[" + PING % 1 + b"\x0c," + NEWS + b"]", NOT_JSON),
}


@pytest.mark.parametrize(("body", "code"), REFUSED.values(), ids=REFUSED)
def test_what_a_batch_must_not_be(body: bytes, code: int) -> None:
    with pytest.raises(MessageError) as caught:
        split(body)
    assert caught.value.code == code


def test_a_batch_may_be_as_long_as_its_bound() -> None:
    assert len(split(array(*(PING % n for n in range(MAX_BATCH))))) == MAX_BATCH


def test_depth_counts_from_the_array() -> None:
    body = array(b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"a":{}}}')
    assert split(body, 4)
    with pytest.raises(MessageError):
        split(body, 3)


SPACE = st.text(" \t\r\n", max_size=3)


@given(
    st.lists(st.tuples(st.text(max_size=5), SPACE, SPACE), min_size=1, max_size=5),
    st.booleans(),
)
def test_however_it_is_written_every_message_is_found(
    wanted: list[tuple[str, str, str]], escaped: bool
) -> None:
    written = [
        before
        + json.dumps(
            {"jsonrpc": "2.0", "id": number, "method": "m", "params": {"a": text}},
            ensure_ascii=escaped,
        )
        + after
        for number, (text, before, after) in enumerate(wanted)
        if "\0" not in text
    ]
    if not written:
        return
    pieces = split(f"[{','.join(written)}]".encode())
    assert [piece.decode() for piece in pieces] == [one.strip() for one in written]
    assert [parse(piece).id for piece in pieces] == list(
        json.loads(piece)["id"] for piece in pieces
    )
