"""Readers tell what is there, what is missing, and what cannot be determined, apart."""

from __future__ import annotations

import pytest
from support.policies import call, message, tool_call

from sidecar.policy import facts
from sidecar.policy.call import Call
from sidecar.policy.facts import Facts, facts_of


def mcp(found: Facts) -> tuple[str | None, ...]:
    return (found.mcp_method, found.tool, found.prompt, found.resource)


@pytest.mark.parametrize(
    ("asked", "wanted", "session"),
    [
        (tool_call("read"), ("tools/call", "read", "", ""), False),
        (message("prompts/get", {"name": "hi"}), ("prompts/get", "", "hi", ""), False),
        (message("resources/read", {"uri": "a:b"}), ("resources/read", "", "", "a:b"), False),
        (message("tools/list"), ("tools/list", "", "", ""), True),
        (call("GET"), ("", "", "", ""), True),
        (call("DELETE"), ("", "", "", ""), True),
        (call("OPTIONS"), ("", "", "", ""), False),
        (call("POST"), (None, None, None, None), False),
        (call("GET", body=b"x"), (None, None, None, None), False),
        (call("POST", body=b"x"), (None, None, None, None), False),
    ],
)
def test_the_facts_of_a_call(asked: Call, wanted: tuple[str | None, ...], session: bool) -> None:
    found = facts_of(asked)
    assert mcp(found) == wanted
    assert found.session is session


def test_a_host_is_lower_case_and_keeps_its_port() -> None:
    assert facts_of(call(host="A.Test:80")).host == "a.test:80"


@pytest.mark.parametrize(
    ("uri", "settled"),
    [
        ("file:///srv/a", True),
        ("file:///srv/a..b", True),
        ("file:///srv/...", True),
        ("db://t/a%2Fb", True),
        ("file:///srv/..", False),
        ("file:///srv/%2E%2E/a", False),
        ("file:///srv/.%2e/a", False),
        ("file:///srv/..%2Fa", False),
        ("file:///srv/..\\a", False),
        ("file:///srv/..%5Ca", False),
        ("..", False),
    ],
)
def test_a_uri_that_climbs_is_not_settled(uri: str, settled: bool) -> None:
    assert facts.settled_uri(uri) == (uri if settled else None)


@pytest.mark.parametrize(
    ("path", "claims", "wanted"),
    [
        (["a"], {"a": "x y"}, ("x y",)),
        (["s"], {"s": "x  y "}, ("x", "y")),
        (["a"], {"a": ["x", 1, "y", None]}, ("x", "y")),
        (["a", "b"], {"a": {"b": "x"}}, ("x",)),
        (["a", "s"], {"a": {"s": "x y"}}, ("x y",)),
        (["a"], {"a": 1}, ()),
        (["a"], {"a": {"b": "x"}}, ()),
        (["a", "b"], {"a": ["b"]}, ()),
        (["a"], {}, ()),
        (["a"], None, ()),
    ],
)
def test_a_claim_is_a_string_or_a_list_of_strings(
    path: list[str], claims: dict[str, object] | None, wanted: tuple[str, ...]
) -> None:
    read = facts.claim(path, frozenset({"s"}))
    assert read(facts_of(call(claims=claims))) == wanted


def test_a_header_is_read_whatever_its_bytes() -> None:
    asked = call()
    asked.headers = [(b"x", b"\xff\xfe"), (b"y", b"1"), (b"x", "é".encode())]
    assert facts.header("X")(facts_of(asked)) == (
        b"\xff\xfe".decode("utf-8", "surrogateescape"),
        "é",
    )


def test_the_target_of_a_call_holds_its_query() -> None:
    asked = call(path="/a")
    asked.query = "b=c"
    assert facts.header(":path")(facts_of(asked)) == ("/a?b=c",)


def test_the_callers_address_is_the_connections_unless_a_hop_reports_one() -> None:
    assert [str(one) for one in facts.remote_ip(facts_of(call(ip="10.0.0.9")))] == ["10.0.0.9"]
    found = facts.remote_ip(facts_of(call(ip="10.0.0.9", remote_ip="::1")))
    assert [str(one) for one in found] == ["::1"]
    assert facts.destination_ip(facts_of(call())) == ()


def test_only_an_identity_with_a_path_is_of_a_trust_domain() -> None:
    assert facts.trust_domain(call(principal="spiffe://td/ns/a/sa/b").peer) == "td"
    assert facts.trust_domain(call(principal="spiffe://td").peer) == ""
    assert facts.trust_domain(call(principal=None).peer) == ""


@pytest.mark.parametrize("keys", [["path"], ["path", "other"], ["other"], []])
def test_a_key_without_a_twin_is_read_or_missing(keys: list[str]) -> None:
    asked = facts_of(tool_call("x", dict.fromkeys(keys, "v")))
    assert facts.argument(["path"])(asked) == ("v" if "path" in keys else "")


@pytest.mark.parametrize("twin", ["Path", "PATH", "paTh"])
@pytest.mark.parametrize("beside", [True, False])
def test_a_key_with_a_twin_cannot_be_determined(twin: str, beside: bool) -> None:
    arguments = {twin: "v"} | ({"path": "w"} if beside else {})
    assert facts.argument(["path"])(facts_of(tool_call("x", arguments))) is None


def test_letters_that_fold_to_ascii_are_twins() -> None:
    assert facts.argument(["key"])(facts_of(tool_call("x", {"\u212aey": "v"}))) is None
    assert facts.argument(["is"])(facts_of(tool_call("x", {"i\u017f": "v"}))) is None
