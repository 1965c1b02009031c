"""Which route a call takes, and what that says of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from sidecar.errors import PathError
from sidecar.upstream.route import (
    Action,
    Asked,
    Destination,
    Fault,
    Match,
    Rewrite,
    Route,
    Routes,
)
from sidecar.upstream.text import How, TextMatch


def exact(text: str) -> TextMatch:
    return TextMatch(How.EXACT, text)


def prefix(text: str, *, ignore_case: bool = False) -> TextMatch:
    return TextMatch(How.PREFIX, text, ignore_case)


PRESENT = TextMatch(How.PRESENT)


def call(**changed: Any) -> Asked:
    known: dict[str, Any] = {
        "method": "POST",
        "path": "/mcp",
        "query": "v=2&v=3&empty",
        "host": "files.example",
        "port": 8443,
        "headers": [(b"x-env", b"test"), (b"x-many", b"a"), (b"x-many", b"b"), (b"x-none", b"")],
        "principal": "cluster.local/ns/agent/sa/alice",
        "mcp_method": "tools/call",
        "tool": "search",
    }
    return Asked(**(known | changed))


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        (Match(), True),
        (Match(uri=exact("/mcp")), True),
        (Match(uri=exact("/mc")), False),
        (Match(uri=prefix("/m")), True),
        (Match(uri=prefix("/MCP", ignore_case=True)), True),
        (Match(method=exact("POST")), True),
        (Match(method=exact("post")), False),
        (Match(authority=exact("files.example")), True),
        (Match(authority=prefix("other")), False),
        (Match(port=8443), True),
        (Match(port=80), False),
        (Match(headers=(("x-env", exact("test")),)), True),
        (Match(headers=(("x-env", exact("prod")),)), False),
        (Match(headers=(("x-env", exact("test")), ("x-other", PRESENT))), False),
        (Match(headers=(("x-many", exact("a,b")),)), True),
        (Match(headers=(("x-none", PRESENT),)), True),
        (Match(headers=(("x-other", exact("")),)), False),
        (Match(without=(("x-other", PRESENT),)), True),
        (Match(without=(("x-env", PRESENT),)), False),
        (Match(without=(("x-env", exact("prod")),)), True),
        (Match(without=(("x-other", exact("")),)), False),
        (Match(without=(("x-other", prefix("a")),)), True),
        (Match(without=(("x-none", exact("")),)), False),
        (Match(parameters=(("v", exact("2")),)), True),
        (Match(parameters=(("v", exact("3")),)), False),
        (Match(parameters=(("empty", exact("")),)), True),
        (Match(parameters=(("w", PRESENT),)), False),
        (Match(tool=exact("search")), True),
        (Match(tool=prefix("read_")), False),
        (Match(mcp_method=exact("tools/call")), True),
        (Match(principal=prefix("cluster.local/ns/agent/")), True),
        (Match(principal=exact("cluster.local/ns/agent/sa/bob")), False),
        (Match(uri=exact("/mcp"), tool=exact("other")), False),
    ],
)
def test_a_match_holds_if_all_it_asks_holds(match: Match, holds: bool) -> None:
    assert match.holds(call()) is holds


@pytest.mark.parametrize(
    "match",
    [Match(tool=PRESENT), Match(mcp_method=PRESENT), Match(principal=PRESENT)],
)
def test_what_a_call_does_not_have_matches_nothing(match: Match) -> None:
    assert not match.holds(call(tool=None, mcp_method=None, principal=""))


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("v=a%20b", "a%20b"),
        ("v=a+b", "a+b"),
        ("%76=2&v=3", "3"),
        ("v=a=b&v=c", "a=b"),
        ("w=1;v=2", None),
        ("&&v&v=1", ""),
        ("&".join(["w=1"] * 1000 + ["v=2"]), "2"),
        ("", None),
    ],
)
def test_a_query_parameter_is_the_first_of_its_name_as_it_was_written(
    query: str, value: str | None
) -> None:
    assert call(query=query).parameter("v") == value


def action(*weights: int) -> Action:
    named = [Destination("files", f"v{number}", weight) for number, weight in enumerate(weights, 1)]
    return Action(tuple(named))


def test_the_first_route_that_matches_decides() -> None:
    first, second, last = action(1), action(1), action(1)
    routes = Routes(
        (
            Route(first, (Match(uri=exact("/a")), Match(tool=exact("search")))),
            Route(second, (Match(uri=prefix("/")),)),
            Route(last),
        )
    )
    assert routes.find(call()) == (first, None)
    assert routes.find(call(path="/a", tool=None)) == (first, exact("/a"))
    assert routes.find(call(tool="other")) == (second, prefix("/"))
    assert routes.uses_mcp
    found = Routes((Route(last),)).find(call())
    assert found is not None
    assert found[0] is last


def test_a_call_that_no_route_matches_has_none() -> None:
    routes = Routes((Route(action(1), (Match(uri=exact("/a")),)),))
    assert routes.find(call()) is None
    assert not routes.uses_mcp


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ((90, 10), {"v1": 900, "v2": 100}),
        ((0, 100), {"v2": 1000}),
        ((100, 0), {"v1": 1000}),
        ((1,), {"v1": 1000}),
        ((0,), {"v1": 1000}),
        ((1, 1, 2), {"v1": 250, "v2": 250, "v3": 500}),
        ((1, 0, 1), {"v1": 500, "v3": 500}),
        ((3, 1), {"v1": 750, "v2": 250}),
    ],
)
def test_destinations_are_taken_by_weight(weights: tuple[int, ...], shares: dict[str, int]) -> None:
    made = action(*weights)
    found = Counter(made.destination(number / 1000).cluster for number in range(1000))
    assert found == shares


@pytest.mark.parametrize(
    ("uri", "match", "path", "wanted"),
    [
        ("/new", exact("/old"), "/old", "/new"),
        ("/new", prefix("/old"), "/old/a", "/new/a"),
        ("/new", prefix("/old"), "/old", "/new"),
        ("/new/", prefix("/old/"), "/old/a", "/new/a"),
        ("/", prefix("/old"), "/old/a", "/a"),
        ("/", prefix("/old"), "/old", "/"),
        ("/", prefix("/old/"), "/old/a", "/a"),
        ("/new/", prefix("/old"), "/old/a", "/new/a"),
        ("/new", None, "/a", "/newa"),
        ("/new/", None, "/a", "/new/a"),
        ("", prefix("/old"), "/old/a", "/old/a"),
        ("/new", prefix("/OLD", ignore_case=True), "/old/a", "/new/a"),
    ],
)
def test_what_matched_of_the_path_is_replaced(
    uri: str, match: TextMatch | None, path: str, wanted: str
) -> None:
    assert Rewrite(uri).path(path, match) == wanted


@pytest.mark.parametrize("path", ["/old..", "/old./a", "/old../a"])
def test_a_path_that_would_climb_out_is_refused(path: str) -> None:
    with pytest.raises(PathError):
        Rewrite("/new/").path(path, prefix("/old"))


@pytest.mark.parametrize(
    ("fault", "drawn", "wanted"),
    [
        (Fault(delay=3.0), (0.0, 0.0), (0.0, 0)),
        (Fault(delay=3.0, delay_percent=100), (0.999, 0.0), (3.0, 0)),
        (Fault(delay=3.0, delay_percent=20), (0.2, 0.0), (0.0, 0)),
        (Fault(delay=3.0, delay_percent=20), (0.19, 0.0), (3.0, 0)),
        (Fault(status=503), (0.0, 0.0), (0.0, 0)),
        (Fault(status=503, abort_percent=0.001), (0.0, 0.000009), (0.0, 503)),
        (Fault(status=503, abort_percent=0.001), (0.0, 0.00001), (0.0, 0)),
        (Fault(1.0, 100, 404, 100), (0.5, 0.5), (1.0, 404)),
    ],
)
def test_a_fault_meets_its_share_and_no_share_is_nobody(
    fault: Fault, drawn: tuple[float, float], wanted: tuple[float, int]
) -> None:
    assert fault.draw(*drawn) == wanted
