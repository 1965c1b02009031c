"""The demo's server speaks both eras of MCP as the specification says."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import orjson
import pytest

from sidecar.demo.files import Folder
from sidecar.demo.protocol import LEGACY, Answer, FilesProtocol
from sidecar.demo.tools import Tools

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
PLAIN = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


@pytest.fixture
def protocol(tmp_path: Path) -> FilesProtocol:
    (tmp_path / "notes.txt").write_text("hello")
    return FilesProtocol(Tools(Folder(tmp_path)))


def ask(
    protocol: FilesProtocol, message: object, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    body = message if isinstance(message, bytes) else orjson.dumps(message)
    answer = protocol.answer({**PLAIN, **(headers or {})}, body)
    return answer.status, orjson.loads(answer.body) if answer.body else None


def request(method: str, params: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}, **more}


def modern(method: str, headers: dict[str, str] | None = None, **params: Any) -> tuple[Any, Any]:
    sent = {"mcp-protocol-version": "2026-07-28", "mcp-method": method, **(headers or {})}
    return request(method, {"_meta": META, **params}), sent


@pytest.mark.parametrize("version", LEGACY)
def test_initialize_agrees_on_a_version_it_knows(protocol: FilesProtocol, version: str) -> None:
    status, reply = ask(protocol, request("initialize", {"protocolVersion": version}))
    assert (status, reply["result"]["protocolVersion"]) == (200, version)
    assert reply["result"]["serverInfo"]["name"] == "files"


def test_initialize_offers_its_newest_for_a_version_it_does_not_know(
    protocol: FilesProtocol,
) -> None:
    _, reply = ask(protocol, request("initialize", {"protocolVersion": "2030-01-01"}))
    assert reply["result"]["protocolVersion"] == "2025-11-25"


def test_ping_and_notifications_and_responses(protocol: FilesProtocol) -> None:
    assert ask(protocol, request("ping")) == (200, {"jsonrpc": "2.0", "id": 1, "result": {}})
    notification = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert ask(protocol, notification) == (202, None)
    assert ask(protocol, {"jsonrpc": "2.0", "id": 7, "result": {}}) == (202, None)


def test_the_list_has_four_tools_with_schemas_and_hints(protocol: FilesProtocol) -> None:
    _, reply = ask(protocol, request("tools/list"))
    tools = {tool["name"]: tool for tool in reply["result"]["tools"]}
    assert list(tools) == ["list_files", "read_file", "write_file", "delete_file"]
    assert tools["read_file"]["annotations"]["readOnlyHint"] is True
    assert tools["read_file"]["annotations"]["destructiveHint"] is False
    assert tools["delete_file"]["annotations"]["destructiveHint"] is True
    assert tools["write_file"]["inputSchema"]["required"] == ["path", "content"]


@pytest.mark.parametrize(
    ("name", "arguments", "text", "failed"),
    [
        ("list_files", {}, "notes.txt", False),
        ("read_file", {"path": "notes.txt"}, "hello", False),
        ("write_file", {"path": "new.txt", "content": "x"}, "wrote 1 bytes to new.txt", False),
        ("delete_file", {"path": "notes.txt"}, "deleted notes.txt", False),
        ("read_file", {"path": "absent"}, "no file `absent`", True),
        ("read_file", {}, "the arguments of `read_file` are `path`", True),
        ("read_file", {"path": 1}, "the arguments of `read_file` are strings", True),
        ("list_files", {"path": "x"}, "the arguments of `list_files` are nothing", True),
    ],
)
def test_a_call_returns_text_and_says_whether_the_tool_failed(
    protocol: FilesProtocol, name: str, arguments: dict[str, object], text: str, failed: bool
) -> None:
    status, reply = ask(protocol, request("tools/call", {"name": name, "arguments": arguments}))
    assert status == 200
    assert reply["result"] == {"content": [{"type": "text", "text": text}], "isError": failed}


@pytest.mark.parametrize(
    ("message", "status", "code"),
    [
        (b"{", 400, -32700),
        (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', 400, -32700),
        (b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}', 400, -32700),
        (b"[" * 5000, 400, -32700),
        ({"id": 1, "method": "ping"}, 400, -32600),
        ({"jsonrpc": "2.0", "id": None, "method": "ping"}, 400, -32600),
        ({"jsonrpc": "2.0", "id": 1}, 400, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": 5}, 400, -32600),
        (request("resources/list"), 200, -32601),
        (request("server/discover"), 200, -32601),
        (request("tools/call", {"name": "rm"}), 200, -32602),
        (request("tools/call", {"name": "read_file", "arguments": []}), 200, -32602),
        ({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}, 400, -32602),
    ],
)
def test_what_cannot_be_served_is_a_json_rpc_error(
    protocol: FilesProtocol, message: object, status: int, code: int
) -> None:
    answered, reply = ask(protocol, message)
    assert (answered, reply["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/json; charset=utf-8"}, 200),
        ({"accept": "text/html"}, 406),
        ({"accept": "*/*"}, 200),
        ({"mcp-protocol-version": "1999-01-01"}, 400),
    ],
)
def test_headers_decide_whether_a_message_is_read(
    protocol: FilesProtocol, headers: dict[str, str], status: int
) -> None:
    assert ask(protocol, request("ping"), headers)[0] == status


def test_arrays_are_for_2025_03_26_alone(protocol: FilesProtocol) -> None:
    notification = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    status, replies = ask(protocol, [request("ping", id=1), notification, request("ping", id=2)])
    assert (status, [reply["id"] for reply in replies]) == (200, [1, 2])
    assert ask(protocol, [notification]) == (202, None)
    assert ask(protocol, [])[0] == 400
    assert ask(protocol, [request("ping")] * 33)[0] == 400
    later = {"mcp-protocol-version": "2025-06-18"}
    assert ask(protocol, [request("ping")], later)[0] == 400


def test_discover_tells_all_versions(protocol: FilesProtocol) -> None:
    status, reply = ask(protocol, *modern("server/discover"))
    assert status == 200
    assert reply["result"]["supportedVersions"][0] == "2026-07-28"
    assert reply["result"]["resultType"] == "complete"


def test_a_modern_list_says_how_long_it_holds_and_a_call_does_not(protocol: FilesProtocol) -> None:
    _, listed = ask(protocol, *modern("tools/list"))
    assert listed["result"]["ttlMs"] > 0
    assert listed["result"]["cacheScope"] == "public"
    call = modern("tools/call", {"mcp-name": "list_files"}, name="list_files", arguments={})
    _, called = ask(protocol, *call)
    assert called["result"]["content"][0]["text"] == "notes.txt"
    assert "ttlMs" not in called["result"]


def test_a_wrapped_name_is_unwrapped(protocol: FilesProtocol) -> None:
    wrapped = f"=?base64?{base64.b64encode(b'list_files').decode()}?="
    call = modern("tools/call", {"mcp-name": wrapped}, name="list_files", arguments={})
    assert ask(protocol, *call)[0] == 200


@pytest.mark.parametrize(
    ("message", "status", "code"),
    [
        (modern("tools/list", {"mcp-method": "tools/call"}), 400, -32020),
        (modern("tools/call", name="list_files", arguments={}), 400, -32020),
        (modern("tools/call", {"mcp-name": "x"}, name="list_files", arguments={}), 400, -32020),
        (modern("tools/call", {"mcp-name": "=?base64?%?="}, name="list_files"), 400, -32020),
        (modern("tools/list", {"mcp-protocol-version": "2025-11-25"}), 400, -32020),
        (modern("resources/list"), 404, -32601),
        (modern("ping"), 404, -32601),
        (modern("initialize"), 404, -32601),
        (modern("tools/call", {"mcp-name": "rm"}, name="rm", arguments={}), 400, -32602),
        ((request("tools/list"), {"mcp-protocol-version": "2026-07-28"}), 400, -32602),
        (
            (
                request(
                    "tools/list",
                    {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}},
                ),
                {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list"},
            ),
            400,
            -32602,
        ),
    ],
)
def test_a_modern_request_that_is_wrong_is_told_so(
    protocol: FilesProtocol, message: tuple[Any, Any], status: int, code: int
) -> None:
    answered, reply = ask(protocol, *message)
    assert (answered, reply["error"]["code"]) == (status, code)


def test_a_version_nobody_knows_names_those_that_are_known(protocol: FilesProtocol) -> None:
    meta = {**META, "io.modelcontextprotocol/protocolVersion": "2099-01-01"}
    headers = {"mcp-protocol-version": "2099-01-01", "mcp-method": "tools/list"}
    status, reply = ask(protocol, request("tools/list", {"_meta": meta}), headers)
    assert (status, reply["error"]["code"]) == (400, -32022)
    assert "2026-07-28" in reply["error"]["data"]["supported"]
    assert reply["error"]["data"]["requested"] == "2099-01-01"


def test_an_answer_without_a_body_has_none() -> None:
    assert Answer(202).body == b""
