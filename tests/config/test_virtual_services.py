"""What a VirtualService says of which calls, and what it may not say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sidecar.config.documents import VirtualService
from sidecar.config.loaded import Loaded
from sidecar.config.traffic_specs import Goal, HttpRoute
from sidecar.upstream.edit import Edit
from sidecar.upstream.route import Match
from sidecar.upstream.text import How, TextMatch

Document = Callable[..., Loaded]

TO_A = [{"destination": {"host": "a"}}]
BOTH = [{"destination": {"host": "a"}}, {"destination": {"host": "b"}}]


def service(*http: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"hosts": ["a"], "http": list(http) or [{"route": TO_A}], **fields}


def matching(match: dict[str, Any]) -> dict[str, Any]:
    return service({"match": [match], "route": TO_A})


def codes(loaded: Loaded) -> list[str]:
    return [problem.code for problem in loaded.problems]


def only(loaded: Loaded) -> tuple[HttpRoute, ...]:
    assert loaded.problems == ()
    (found,) = loaded.documents
    assert isinstance(found, VirtualService)
    return found.spec.http


def exact(text: str) -> TextMatch:
    return TextMatch(How.EXACT, text)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({}, Match()),
        ({"name": "one"}, Match("one")),
        ({"uri": {"exact": "/mcp"}}, Match(uri=exact("/mcp"))),
        ({"uri": {"prefix": "/a"}}, Match(uri=TextMatch(How.PREFIX, "/a"))),
        (
            {"uri": {"prefix": "/a"}, "ignoreUriCase": True},
            Match(uri=TextMatch(How.PREFIX, "/a", True)),
        ),
        ({"method": {"exact": "POST"}}, Match(method=exact("POST"))),
        ({"authority": {"exact": "a"}}, Match(authority=exact("a"))),
        ({"port": 8443}, Match(port=8443)),
        (
            {"headers": {"X-Env": {"exact": "test"}, "x-any": {}}},
            Match(headers=(("x-env", exact("test")), ("x-any", TextMatch(How.PRESENT)))),
        ),
        ({"withoutHeaders": {"x-a": {}}}, Match(without=(("x-a", TextMatch(How.PRESENT)),))),
        ({"queryParams": {"V": {"exact": "2"}}}, Match(parameters=(("V", exact("2")),))),
        (
            {"mcp": {"tool": {"prefix": "read_"}, "method": {"exact": "tools/call"}}},
            Match(tool=TextMatch(How.PREFIX, "read_"), mcp_method=exact("tools/call")),
        ),
        (
            {"mcp": {"principal": {"exact": "cluster.local/ns/a/sa/b"}}},
            Match(principal=exact("cluster.local/ns/a/sa/b")),
        ),
    ],
)
def test_a_match_comes_out_as_it_is_written(
    written: dict[str, Any], meant: Match, document: Document
) -> None:
    (route,) = only(document("VirtualService", matching(written)))
    assert route.matches == (meant,)


def test_a_whole_route_comes_out(document: Document) -> None:
    written = {
        "name": "canary",
        "route": [
            {"destination": {"host": "a", "subset": "v1", "port": {"number": 80}}, "weight": 90},
            {
                "destination": {"host": "b"},
                "weight": 10,
                "headers": {"request": {"set": {"X-Canary": "yes"}}},
            },
        ],
        "timeout": "5s",
        "mirror": {"host": "c", "subset": "v3"},
        "mirrorPercentage": {"value": 12.5},
        "headers": {"response": {"add": {"x-by": "100%%"}, "remove": ["Server"]}},
    }
    (route,) = only(document("VirtualService", service(written)))
    first, second = route.route
    assert (first.goal, first.weight) == (Goal("a", "v1", 80), 90)
    assert (second.goal, second.weight) == (Goal("b"), 10)
    assert second.request == Edit(set=((b"x-canary", b"yes"),))
    assert (route.name, route.timeout) == ("canary", 5.0)
    assert route.reply == Edit(add=((b"x-by", b"100%"),), remove=frozenset({b"server"}))
    (mirror,) = route.mirrors
    assert (mirror.goal, mirror.percent) == (Goal("c", "v3"), 12.5)


def test_several_mirrors_have_shares_of_their_own(document: Document) -> None:
    mirrors = [
        {"destination": {"host": "b"}},
        {"destination": {"host": "c"}, "percentage": {"value": 50}},
    ]
    (route,) = only(document("VirtualService", service({"route": TO_A, "mirrors": mirrors})))
    assert [(one.goal.host, one.percent) for one in route.mirrors] == [("b", 100.0), ("c", 50.0)]


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({}, ["SC0202", "SC0202"]),
        ({"hosts": ["a"]}, ["SC0202"]),
        (service(hosts=[]), ["SC0210"]),
        (service(hosts=["a b"]), ["SC0211"]),
        (service(hosts=["*"]), ["SC0211"]),
        (service(hosts=["a", "A"]), ["SC0611"]),
        (service(hosts=["*.b.example", "*.example"]), ["SC0611"]),
        (service(hosts=["a.example", "*.example"]), ["SC0611"]),
        (service({"route": [{"destination": {"host": "a", "subset": "v@1"}}]}), ["SC0211"]),
        (service({}), ["SC0202"]),
        (service({"route": []}), ["SC0210"]),
        (service({"route": [{"weight": 1}]}), ["SC0202"]),
        (service({"route": [{"destination": {"host": "*.a"}}]}), ["SC0211"]),
        (service({"route": BOTH}), ["SC0606"]),
        (service({"route": [{**BOTH[0], "weight": -1}]}), ["SC0206"]),
        (service({"route": TO_A, "match": []}), ["SC0210"]),
        (matching({"uri": {"regex": "/a.*"}}), ["SC0304"]),
        (matching({"uri": {}}), ["SC0203"]),
        (matching({"uri": {"exact": "/a", "prefix": "/"}}), ["SC0203"]),
        (matching({"uri": "/a"}), ["SC0203"]),
        (matching({"url": {"exact": "/a"}}), ["SC0204"]),
        (matching({"headers": {"a b": {}}}), ["SC0211"]),
        (matching({"headers": {"\u0436": {}}}), ["SC0211"]),
        (matching({"withoutHeaders": {"x-\u00e9": {}}}), ["SC0211"]),
        (matching({"headers": {"": {}}}), ["SC0211"]),
        (matching({"mcp": {"toll": {"exact": "a"}}}), ["SC0204"]),
        (matching({"port": 0}), ["SC0206"]),
        (matching({"scheme": {"exact": "https"}}), ["SC0304"]),
        (matching({"sourceLabels": {"a": "b"}}), ["SC0304"]),
        (matching({"sourceNamespace": "a"}), ["SC0304"]),
        (matching({"gateways": ["mesh"]}), ["SC0304"]),
        (service({"redirect": {"uri": "/b"}, "route": TO_A}), ["SC0304"]),
        (service({"directResponse": {"status": 403}, "route": TO_A}), ["SC0304"]),
        (service({"route": TO_A, "corsPolicy": {}}), ["SC0304"]),
        (service({"route": TO_A, "delegate": {"name": "x"}}), ["SC0304"]),
        (service({"route": TO_A, "timeout": "5"}), ["SC0207"]),
        (
            service({"route": TO_A, "mirror": {"host": "b"}, "mirrors": [TO_A[0]]}),
            ["SC0607"],
        ),
        (service({"route": TO_A, "mirrorPercent": 101}), ["SC0206"]),
        (service(gateways=["ingress"]), ["SC0304"]),
        (service(tcp=[]), ["SC0304"]),
        (service(tls=[]), ["SC0304"]),
    ],
)
def test_what_a_route_may_not_say(
    spec: dict[str, Any], found: list[str], document: Document
) -> None:
    loaded = document("VirtualService", spec)
    assert codes(loaded) == found
    assert loaded.documents == ()


@pytest.mark.parametrize(
    "spec",
    [
        service(gateways=["mesh"]),
        service({"route": TO_A, "timeout": "0s"}),
        service({"route": [{**BOTH[0], "weight": 0}, {**BOTH[1], "weight": 100}]}),
        service(hosts=["a", "*.b.example", "*-c.example", "*d.example", "127.0.0.1"]),
    ],
)
def test_what_istio_takes_is_taken(spec: dict[str, Any], document: Document) -> None:
    assert codes(document("VirtualService", spec)) == []


@pytest.mark.parametrize(
    "spec", [service(exportTo=["."]), matching({"statPrefix": "a", "uri": {"exact": "/"}})]
)
def test_what_has_no_effect_draws_a_warning(spec: dict[str, Any], document: Document) -> None:
    loaded = document("VirtualService", spec)
    assert codes(loaded) == ["SC0303"]
    assert len(loaded.documents) == 1


def test_an_old_name_draws_a_warning(document: Document) -> None:
    http = {"route": TO_A, "mirror": {"host": "b"}, "mirrorPercent": 5}
    loaded = document("VirtualService", service(http))
    assert codes(loaded) == ["SC0603"]
    assert len(loaded.documents) == 1
