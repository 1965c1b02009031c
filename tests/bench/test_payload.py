"""Requests and replies of the race are what the race says they are."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from race import payload

SIZE = 1024


def _split(request: bytes) -> tuple[list[str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    return head.decode("ascii").split("\r\n"), body


@pytest.mark.parametrize("all_new", [False, True])
def test_a_request_is_one_whole_http_message_around_a_tools_call(all_new: bool) -> None:
    following = payload.requests(SIZE, all_new=all_new)
    for _ in range(2 * payload.LENGTHS):
        lines, body = _split(following())
        assert lines[0] == "POST /mcp HTTP/1.1"
        assert f"Content-Length: {len(body)}" in lines
        message = json.loads(body)
        assert message["params"]["name"] == payload.TOOL
        assert message["params"]["arguments"]["path"].startswith("/srv/")


def test_no_two_requests_have_the_same_head_or_body() -> None:
    following = payload.requests(SIZE)
    requests = [_split(following()) for _ in range(1000)]
    assert len({tuple(lines) for lines, _ in requests}) == 1000
    assert len({body for _, body in requests}) == 1000


def test_bodies_have_64_lengths_from_the_size_asked_for() -> None:
    following = payload.requests(SIZE)
    lengths = {len(_split(following())[1]) for _ in range(1000)}
    assert lengths == set(range(SIZE, SIZE + 64))


def test_in_the_worst_case_only_the_length_and_the_version_come_again() -> None:
    following = payload.requests(SIZE, all_new=True)
    seen = Counter(line for _ in range(1000) for line in _split(following())[0][1:])
    repeated = {line.split(":")[0] for line, count in seen.items() if count > 1}
    assert repeated == {"Content-Length", "MCP-Protocol-Version"}


def test_there_are_a_hundred_patterns_and_ordinary_traffic_holds_none() -> None:
    assert len(set(payload.PATTERNS)) == 100
    traffic = payload.call(60_000) + payload.reply(60_000)
    assert not [pattern for pattern in payload.PATTERNS if pattern in traffic.lower()]


@pytest.mark.parametrize("size", [512, 1024, 60_000])
def test_a_reply_is_the_result_of_a_call_in_the_size_asked_for(size: int) -> None:
    text = payload.reply(size)
    assert len(text) == size
    assert json.loads(text)["result"]["content"][0]["type"] == "text"


def test_a_text_put_into_a_call_does_not_change_its_size() -> None:
    assert len(payload.call(SIZE, text=payload.PATTERNS[0])) == SIZE
    assert payload.PATTERNS[0] in payload.call(SIZE, text=payload.PATTERNS[0])
