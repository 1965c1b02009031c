"""Two sidecars make a mesh: what the server is told, and who is not called at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.two_sidecars import Pair
from support.wire import JSON, Recorder, tool

pytestmark = pytest.mark.timeout(120)


def test_a_local_process_calls_in_plain_http_and_the_server_knows_who(tmp_path: Path) -> None:
    with Recorder() as server, Pair(tmp_path).run(server.url) as (near, far):
        with near.local() as caller:
            forged = [("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/agent/sa/root")]
            reply = caller.ask("POST", "/mcp?a=b", tool("search"), [*JSON, *forged])
            assert reply.status == 200
            assert caller.ask("GET", "/other").status == 200
        first, second = server.heard
        assert first.body == tool("search")
        assert first.path == "/mcp?a=b"
        assert first.get("x-forwarded-client-cert").endswith(
            "URI=spiffe://cluster.local/ns/agent/sa/alice"
        )
        assert first.connection == second.connection
        near_line = near.record(far_line(far, "/mcp")["caller_request_id"])
        assert near_line["upstream"].endswith(str(far.port))
        assert (near_line["caller"], near_line["verdict"]) == ("", "allow")
        assert near.stats()["cluster.files.mesh.upstream_cx_total"] == 1


def far_line(far, path: str) -> dict:
    return far.event(path=path)
