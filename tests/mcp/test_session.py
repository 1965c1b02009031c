"""Headers that mirror the body: they agree, or the request is refused."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import MessageError
from sidecar.mcp.message import parse
from sidecar.mcp.methods import VERSION_META, is_modern
from sidecar.mcp.session import check_headers, decode_mirror

MODERN = "2026-07-28"
Headers = dict[str, str]


def check(method: str, params: dict[str, object], headers: Headers, version: object = None) -> None:
    if version is not None:
        params = {**params, "_meta": {VERSION_META: version}}
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    check_headers(parse(json.dumps(message).encode()), [(b"host", b"a"), *pairs])


def mirrors(method: str, name: str | None = None, version: str = MODERN) -> Headers:
    headers = {"mcp-protocol-version": version, "mcp-method": method}
    return headers if name is None else {**headers, "mcp-name": name}


@pytest.mark.parametrize(
    ("method", "params", "headers", "version"),
    [
        ("tools/call", {"name": "t"}, mirrors("tools/call", "t"), MODERN),
        ("tools/call", {"name": "é"}, mirrors("tools/call", "=?base64?w6k=?="), MODERN),
        ("tools/call", {"name": " t"}, mirrors("tools/call", "=?base64?IHQ=?="), MODERN),
        ("prompts/get", {"name": "p"}, mirrors("prompts/get", "p"), MODERN),
        ("resources/read", {"uri": "a:b"}, mirrors("resources/read", "a:b"), MODERN),
        ("tasks/get", {"taskId": "x"}, mirrors("tasks/get", "x"), MODERN),
        ("tasks/get", {"taskId": "x"}, mirrors("tasks/get"), MODERN),
        ("tools/list", {}, mirrors("tools/list"), MODERN),
        ("tools/list", {}, mirrors("tools/list", "whatever"), MODERN),
        ("custom/thing", {"name": "a"}, mirrors("custom/thing", "b"), MODERN),
        (
            "completion/complete",
            {"ref": {"type": "ref/prompt", "name": "p"}},
            mirrors("completion/complete"),
            MODERN,
        ),
        (
            "completion/complete",
            {"ref": {"type": "ref/prompt", "name": "p"}},
            mirrors("completion/complete", "another"),
            MODERN,
        ),
        # The version stands in the header alone: the server says what is missing.
        ("tools/call", {"name": "t"}, mirrors("tools/call", "t"), None),
        # The legacy era mirrors nothing but the version.
        ("tools/call", {"name": "t"}, {}, None),
        ("tools/call", {"name": "t"}, {"mcp-protocol-version": "2025-11-25"}, None),
        ("tools/call", {"name": "t"}, {"mcp-method": "tools/call", "mcp-name": "t"}, None),
        ("initialize", {"protocolVersion": "2025-11-25"}, {}, None),
        ("tools/call", {"name": "t"}, {}, "2025-11-25"),
        ("tools/call", {"name": "t"}, {"mcp-protocol-version": "2025-11-25"}, "2025-11-25"),
    ],
)
def test_headers_that_say_what_the_body_says_pass(
    method: str, params: dict[str, object], headers: Headers, version: object
) -> None:
    check(method, params, headers, version)


@pytest.mark.parametrize(
    ("method", "params", "headers", "version", "says"),
    [
        ("tools/call", {"name": "t"}, mirrors("tools/list", "t"), MODERN, "mcp-method"),
        ("tools/call", {"name": "t"}, mirrors("Tools/call", "t"), MODERN, "mcp-method"),
        ("tools/call", {"name": "t"}, mirrors("tools/call", "u"), MODERN, "mcp-name"),
        ("tools/call", {"name": "t"}, mirrors("tools/call", "T"), MODERN, "mcp-name"),
        ("tools/call", {"name": "t"}, mirrors("tools/call", ""), MODERN, "mcp-name"),
        ("tools/call", {"name": "é"}, mirrors("tools/call", "é"), MODERN, "mcp-name"),
        ("tools/call", {"name": "é"}, mirrors("tools/call", "=?base64?w6l=?="), MODERN, "mcp-name"),
        ("tools/call", {"name": "é"}, mirrors("tools/call", "=?BASE64?w6k=?="), MODERN, "mcp-name"),
        ("resources/read", {"uri": "a:"}, mirrors("resources/read", "b:"), MODERN, "mcp-name"),
        ("tasks/get", {"taskId": "x"}, mirrors("tasks/get", "y"), MODERN, "mcp-name"),
        ("tools/call", {"name": "t"}, mirrors("tools/call"), MODERN, "mcp-name` is missing"),
        ("prompts/get", {"name": "t"}, mirrors("prompts/get"), MODERN, "mcp-name` is missing"),
        ("resources/read", {"uri": "a:"}, mirrors("resources/read"), MODERN, "mcp-name` is miss"),
        (
            "tools/list",
            {},
            {"mcp-protocol-version": MODERN},
            MODERN,
            "mcp-method` is missing",
        ),
        ("tools/list", {}, {"mcp-protocol-version": MODERN}, None, "mcp-method` is missing"),
        ("tools/list", {}, {}, MODERN, "mcp-protocol-version` is missing"),
        ("tools/list", {}, {"mcp-method": "tools/list"}, MODERN, "mcp-protocol-version` is miss"),
        ("tools/list", {}, mirrors("tools/list"), "2025-11-25", "is not the version"),
        ("tools/list", {}, mirrors("tools/list", version="2025-11-25"), MODERN, "is not the ver"),
        ("tools/list", {}, mirrors("tools/list"), 20260728, "is not the version"),
        ("tools/list", {}, {}, 20251125, "mcp-protocol-version` is missing"),
        # In the legacy era too, what is there must agree.
        ("tools/call", {"name": "t"}, {"mcp-method": "tools/list"}, None, "mcp-method"),
        ("tools/call", {"name": "t"}, {"mcp-name": "u"}, None, "mcp-name"),
    ],
)
def test_headers_that_say_something_else_are_refused(
    method: str, params: dict[str, object], headers: Headers, version: object, says: str
) -> None:
    with pytest.raises(MessageError, match=says) as refusal:
        check(method, params, headers, version)
    assert refusal.value.code == -32020


@pytest.mark.parametrize("name", [b"mcp-method", b"mcp-name", b"mcp-protocol-version"])
def test_a_header_that_is_there_twice_is_refused_even_if_both_agree(name: bytes) -> None:
    message = parse(b'{"jsonrpc":"2.0","id":1,"method":"ping"}')
    with pytest.raises(MessageError, match="more than once"):
        check_headers(message, [(name, b"ping"), (b"host", b"a"), (name, b"ping")])


def test_an_answer_has_no_method_to_mirror() -> None:
    answer = parse(b'{"jsonrpc":"2.0","id":1,"result":{}}')
    check_headers(answer, [(b"mcp-protocol-version", b"2025-11-25")])
    with pytest.raises(MessageError, match="mcp-method"):
        check_headers(answer, [(b"mcp-method", b"tools/call")])


def test_a_modern_notification_needs_no_method_header() -> None:
    meta = {"_meta": {VERSION_META: MODERN}}
    body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": meta}
    message = parse(json.dumps(body).encode())
    check_headers(message, [(b"mcp-protocol-version", MODERN.encode())])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain text", "plain text"),
        ("", ""),
        ("=?base64??=", ""),
        ("=?base64?", "=?base64?"),
        ("=?base64?=", "=?base64?="),
        ("=?base64?YQ==", "=?base64?YQ=="),
        ("=?base64?YQ==?=", "a"),
        ("=?base64?YQ?=", None),
        ("=?base64?YR==?=", None),
        ("=?base64?Y Q==?=", None),
        ("=?base64?/w==?=", None),
        ("=?base64?\xe9?=", None),
        ("caf\xe9", None),
        ("a\tb", None),
    ],
)
def test_a_mirrored_value_has_one_reading_or_none(value: str, expected: str | None) -> None:
    assert decode_mirror(value) == expected


@given(st.text())
def test_what_the_official_sdk_writes_is_read(text: str) -> None:
    from mcp.shared.inbound import encode_header_value  # takes seconds, also to collect tests

    try:
        written = encode_header_value(text)
    except UnicodeEncodeError:
        return
    assert decode_mirror(written) == text


@given(st.binary(max_size=12), st.booleans())
def test_what_is_read_the_official_sdk_reads_alike(payload: bytes, whole: bool) -> None:
    from mcp.shared.inbound import decode_header_value  # takes seconds, also to collect tests

    encoded = b64encode(payload).decode() if whole else payload.decode("latin-1")
    value = f"=?base64?{encoded}?="
    read = decode_mirror(value)
    assert read is None or read == decode_header_value(value)


@pytest.mark.parametrize(
    ("version", "modern"),
    [
        *(("2026-07-28", True), ("2027-01-01", True), ("2025-11-25", False)),
        *(("2024-11-05", False), ("2026-07-27", False), ("", False), ("latest", False)),
    ],
)
def test_the_modern_era_begins_with_its_first_version(version: str, modern: bool) -> None:
    assert is_modern(version) is modern
