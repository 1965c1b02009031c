"""Keys of conditions name attributes; what they name is asked as the asker says."""

from __future__ import annotations

import pytest
from support.policies import call, tool_call

from sidecar.policy import attributes
from sidecar.policy.attributes import Mesh, bracketed
from sidecar.policy.facts import facts_of

MESH = Mesh()


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("mcp.tool", ("mcp.tool", ())),
        ("request.headers[x]", ("request.headers", ("x",))),
        ("request.headers.x.y", ("request.headers", ("x.y",))),
        ("request.auth.claims[a][b-c]", ("request.auth.claims", ("a", "b-c"))),
    ],
)
def test_a_key_is_a_stem_and_names(key: str, wanted: tuple[str, tuple[str, ...]]) -> None:
    assert bracketed(key) == wanted


@pytest.mark.parametrize(
    "key",
    [
        *("", "x", "request.headers", "request.headers[]", "request.headers[a][b]"),
        *("request.headers[a", "request.auth.claims", "request.auth.claims[a][]"),
        *("request.auth.claims[a]b", "request.auth.claims[[a]]", "mcp.arguments[a]]"),
        *("mcp.argumentPaths", "destination.labels[a]", "source.user", "mcp.unknown"),
        *("experimental.envoy.filters.a.b", "request.headers."),
    ],
)
def test_what_names_no_attribute_is_refused(key: str) -> None:
    assert attributes.of_peer(key, MESH, "ns") is None
    with pytest.raises(ValueError):
        attributes.of_call(key, MESH)


@pytest.mark.parametrize("unknown", [True, False])
@pytest.mark.parametrize("negated", [True, False])
def test_what_cannot_be_determined_is_answered_as_the_asker_says(
    unknown: bool, negated: bool
) -> None:
    asked = facts_of(call("POST", body=b"no message"))
    assert attributes.TOOL.make(["x"], negated, unknown)(asked) is unknown
    known = facts_of(tool_call("x"))
    assert attributes.TOOL.make(["x"], negated, unknown)(known) is not negated


@pytest.mark.parametrize(
    ("attribute", "good", "bad"),
    [
        (attributes.PORT, "80", "http"),
        (attributes.REMOTE_IP, "10.0.0.0/8", "10"),
        (attributes.PATH, "/{*}", "/{*}x"),
        (attributes.TOOL, "*", ""),
    ],
)
def test_an_attribute_knows_which_values_mean_something(
    attribute: attributes.OfCall, good: str, bad: str
) -> None:
    assert attribute.accepts(good)
    assert not attribute.accepts(bad)


def test_claims_that_the_mesh_names_are_split_and_others_are_not() -> None:
    mesh = Mesh(space_delimited_claims=("teams",))
    asked = facts_of(call(claims={"teams": "a b", "other": "a b", "permission": "a b"}))
    held = {
        name: attributes.of_call(f"request.auth.claims[{name}]", mesh).make(["b"], False, False)(
            asked
        )
        for name in ("teams", "other", "permission")
    }
    assert held == {"teams": True, "other": False, "permission": True}
