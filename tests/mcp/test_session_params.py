"""`Mcp-Param-*`: what of the arguments a header may mirror, and when both disagree."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.errors import MessageError
from sidecar.mcp.message import NOT_A_MESSAGE, parse
from sidecar.mcp.session import HEADER_MISMATCH, check_headers

VERSION = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": VERSION}


def check(arguments: Any, *more: tuple[str, str], version: str = VERSION) -> None:
    params = {"name": "sql", "arguments": arguments}
    if version == VERSION:
        params["_meta"] = META
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    headers = [
        ("mcp-protocol-version", version),
        ("mcp-method", "tools/call"),
        ("mcp-name", "sql"),
        *more,
    ]
    check_headers(
        parse(body.encode()), [(name.encode(), value.encode("latin-1")) for name, value in headers]
    )


REGION = "mcp-param-region"
AGREE = {
    "a string": ({"region": "eu"}, (REGION, "eu")),
    "a string in Base64": ({"region": "z\u00fcrich"}, (REGION, "=?base64?esO8cmljaA==?=")),
    "a word that joins": ({"project_id": "7"}, ("mcp-param-project-id", "7")),
    "in another case": ({"projectId": "7"}, ("mcp-param-project-id", "7")),
    "deeper": ({"where": {"at": {"region": "eu"}}}, (REGION, "eu")),
    "one of two of the name": ({"region": "us", "spare": {"region": "eu"}}, (REGION, "eu")),
    "a number": ({"region": 42}, (REGION, "42")),
    "a number with a point": ({"region": 42}, (REGION, "42.0")),
    "a whole number as some write it": ({"region": 42.0}, (REGION, "42")),
    "below zero": ({"region": -7}, (REGION, "-7")),
    "true": ({"region": True}, (REGION, "true")),
    "false": ({"region": False}, (REGION, "false")),
    "no argument of the name": ({"area": "eu"}, (REGION, "us")),
    "no arguments": ({}, (REGION, "us")),
    "only in a list": ({"all": [{"region": "eu"}]}, (REGION, "us")),
    "a list of the name": ({"region": ["eu"]}, (REGION, "us")),
    "no name": ({"": "eu"}, ("mcp-param-", "us")),
    "a name that is too long to be one": ({"x" * 99: "eu"}, ("mcp-param-" + "x" * 99, "us")),
    "not encoded, and nobody's": ({"area": "eu"}, (REGION, "=?base64?!?=")),
}


@pytest.mark.parametrize(("arguments", "header"), AGREE.values(), ids=AGREE)
def test_a_header_may_say_what_the_argument_says(arguments: Any, header: tuple[str, str]) -> None:
    check(arguments, header)


DISAGREE = {
    "another string": ({"region": "eu"}, "us"),
    "another case of letters": ({"region": "eu"}, "EU"),
    "a prefix": ({"region": "eu-1"}, "eu"),
    "nothing": ({"region": "eu"}, ""),
    "Base64 of another": ({"region": "eu"}, "=?base64?dXM=?="),
    "Base64 that is not canonical": ({"region": "eu"}, "=?base64?ZXV=?="),
    "Base64 unfinished": ({"region": "eu"}, "=?base64?ZXU?="),
    "bytes that are not ASCII": ({"region": "\u00fc"}, "\u00fc"),
    "text for a number": ({"region": 42}, "forty"),
    "another number": ({"region": 42}, "42.5"),
    "a number for true": ({"region": True}, "1"),
    "True": ({"region": True}, "True"),
    "a string for null": ({"region": None}, "null"),
    "neither of two": ({"region": "us", "spare": {"region": "eu"}}, "ap"),
    "a twin's": ({"Region": "us"}, "eu"),
}


@pytest.mark.parametrize(("arguments", "value"), DISAGREE.values(), ids=DISAGREE)
def test_a_header_that_says_something_else_is_refused(arguments: Any, value: str) -> None:
    with pytest.raises(MessageError) as caught:
        check(arguments, (REGION, value))
    assert caught.value.code == HEADER_MISMATCH


def test_of_two_headers_each_must_agree() -> None:
    check({"region": "eu"}, (REGION, "eu"), (REGION, "eu"))
    with pytest.raises(MessageError):
        check({"region": "eu"}, (REGION, "eu"), (REGION, "us"))


def test_older_versions_know_no_such_header() -> None:
    check({"region": "eu"}, (REGION, "us"), version="2025-11-25")


@pytest.mark.parametrize(
    "name",
    [
        *("x-http-method-override", "x-http-method", "x-method-override"),
        *("x-original-url", "x-rewrite-url"),
    ],
)
def test_a_header_that_makes_another_request_is_refused_in_every_version(name: str) -> None:
    for version in (VERSION, "2025-11-25"):
        check({}, version=version)
        with pytest.raises(MessageError) as caught:
            check({}, (name, "/admin"), version=version)
        assert caught.value.code == NOT_A_MESSAGE
