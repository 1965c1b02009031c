"""Row 25 once more: what smuggles as a request, said by a server as its reply."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.raw_caller import Broken
from support.raw_upstream import RawUpstream

from .world import World, raw, started

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors" / "smuggling.json"


def replies() -> dict[str, bytes]:
    """Each HTTP/1 request that must be refused, with a status line in its first line's place."""
    found = json.loads(VECTORS.read_text())["vectors"] if VECTORS.is_file() else []
    requests = {
        one["id"]: base64.b64decode(one["raw_b64"])
        for one in found
        if one["proto"] == "h1" and one["expect"] == "reject" and "raw_b64" in one
    }
    return {
        name: b"HTTP/1.1 200 OK\r\n" + request.partition(b"\n")[2]
        for name, request in requests.items()
    }


REPLIES = replies()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    scripts = {f"/{number}": raw(reply) for number, reply in enumerate(REPLIES.values())}
    servers = {"mcp": RawUpstream(scripts)}
    with started(tmp_path_factory.mktemp("replayed"), servers) as running:
        yield running


@pytest.mark.skipif(not REPLIES, reason="vectors/smuggling.json is not here")
def test_row_25_what_smuggles_as_a_request_smuggles_nothing_as_a_reply(world: World) -> None:
    """Two requests in a row: a reply that passes is one, and the next is the server's own."""
    passed, rest = [], list(enumerate(REPLIES))
    while rest:
        with world.caller() as alice:
            while rest:
                number, name = rest.pop()
                try:
                    answer = alice.ask("GET", f"/{number}")
                except Broken:
                    break
                assert answer.status in (200, 502), name
                assert b"HTTP/1." not in answer.body, name
                if answer.status == 200:
                    passed.append(name)
                assert alice.ask("GET", "/next").body == b"ok", name
    # What is wrong with a request's own line, or with `Host`, is nothing in a reply.
    assert {name.partition("-")[0] for name in passed} <= {"rl", "host"}
