"""Which calls may be sent a second time: never one that may do something twice."""

from __future__ import annotations

import json

import pytest

from sidecar.mcp.message import parse
from sidecar.upstream.repeat import repeats
from sidecar.upstream.retry import RetryPolicy
from sidecar.upstream.text import TextMatch

POLICY = RetryPolicy(idempotent_tools=(TextMatch.pattern("read_*"),))


def asked(method: str, **params: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


def told(method: str) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": method}).encode()


READ, WRITE = asked("tools/call", name="read_file"), asked("tools/call", name="write_file")
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{}}'


@pytest.mark.parametrize(
    ("method", "body", "may"),
    [
        ("GET", b"", True),
        ("DELETE", b"", True),
        ("PUT", b"anything", True),
        ("POST", b"", True),
        ("POST", b"text", True),
        ("PATCH", b"text", True),
        ("POST", asked("initialize"), True),
        ("POST", asked("ping"), True),
        ("POST", asked("tools/list"), True),
        ("POST", asked("resources/read", uri="a:b"), True),
        ("POST", READ, True),
        ("POST", WRITE, False),
        ("POST", asked("sampling/createMessage"), False),
        ("POST", asked("tasks/cancel", taskId="1"), False),
        ("POST", asked("own/method"), False),
        ("POST", told("notifications/initialized"), False),
        ("POST", ANSWER, False),
        # What may be a call to some reader is one.
        ("POST", b"[" + READ + b"]", False),
        ("POST", b' {"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', False),
        ("POST", b"{", False),
    ],
)
def test_a_call_is_repeated_if_twice_does_what_once_does(
    method: str, body: bytes, may: bool
) -> None:
    assert repeats(method, body, (), POLICY) is may


@pytest.mark.parametrize(("bodies", "may"), [((READ, READ), True), ((READ, WRITE), False)])
def test_a_batch_is_repeated_if_all_of_it_may_be(bodies: tuple[bytes, ...], may: bool) -> None:
    assert repeats("POST", b"[]", [parse(body) for body in bodies], POLICY) is may


def test_without_a_word_from_the_operator_no_tool_is_called_twice() -> None:
    assert not repeats("POST", READ, (), RetryPolicy())
