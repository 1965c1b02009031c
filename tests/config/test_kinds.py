from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config.kinds import KINDS, LATER_KINDS, is_bootstrap
from sidecar.config.loaded import Loaded, parse_documents
from sidecar.config.parse import parse

Document = Callable[..., Loaded]


def codes(loaded: Loaded) -> list[str]:
    return [problem.code for problem in loaded.problems]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("just text", ["SC0203"]),
        ("[1, {}]", ["SC0203", "SC0202"]),  # each of a list says it
        ("[[{}]]", ["SC0203"]),
        ("{apiVersion: v1, kind: List, items: [{}, 1]}", ["SC0202", "SC0203"]),
        ("{apiVersion: v1, kind: List, items: {}}", ["SC0301"]),
        ("{apiVersion: v1, kind: List, items: [], more: 1}", ["SC0301"]),
        ("{}", ["SC0202"]),
        ("{kind: Sidecar}", ["SC0202"]),
        ("{apiVersion: sidecar/v1}", ["SC0202"]),
        ("{apiVersion: 1, kind: Sidecar}", ["SC0203"]),
        ("{apiVersion: [], kind: Sidecar}", ["SC0203"]),
        ("{apiVersion: v1, kind: ConfigMap}", ["SC0301"]),
        ("{apiVersion: sidecar/v1, kind: AuthorizationPolicy}", ["SC0302"]),
        ("{apiVersion: sidecar/v2, kind: Inspection}", ["SC0302"]),
        ("{apiVersion: networking.istio.io/v1, kind: Sidecar}", ["SC0302"]),
    ],
)
def test_a_document_says_what_it_is(
    text: str, found: list[str], load: Callable[[str], Loaded]
) -> None:
    assert codes(load(text)) == found


def test_a_version_that_is_not_read_names_the_kind_as_it_is_written(
    load: Callable[[str], Loaded],
) -> None:
    (problem, *_) = load("{apiVersion: sidecar/v1, kind: AuthorizationPolicy}").problems
    assert problem.message == "`AuthorizationPolicy` of `sidecar/v1` is not read here"


@pytest.mark.parametrize(
    ("kind", "meant"),
    [
        ("AuthorisationPolicy", "AuthorizationPolicy"),
        ("destinationrule", "DestinationRule"),
        ("WasmPlugins", "WasmPlugin"),
    ],
)
def test_a_mistyped_kind_is_told_which_was_meant(kind: str, meant: str, document: Document) -> None:
    (problem,) = document(kind, {}).problems
    assert (problem.code, problem.help) == ("SC0301", f"did you mean `{meant}`?")


def test_every_version_of_a_kind_is_read_alike(document: Document) -> None:
    for version in ("security.istio.io/v1", "security.istio.io/v1beta1"):
        assert codes(document("PeerAuthentication", {}, version)) == []
    for version in ("v1", "v1beta1", "v1alpha3"):
        loaded = document("DestinationRule", {"host": "a"}, f"networking.istio.io/{version}")
        assert codes(loaded) == []


def test_a_document_needs_metadata_and_spec(load: Callable[[str], Loaded]) -> None:
    text = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
    assert codes(load(text)) == ["SC0202", "SC0202"]
    assert codes(load(text + "metadata: {name: a}\nspec:\n")) == ["SC0209"]
    assert codes(load(text + "metadata: {name: a}\nspec: {}\nstatus: {x: 1}\n")) == []
    assert codes(load(text + "metadata: {name: a}\nspec: {}\nspecs: {}\n")) == ["SC0204"]


@pytest.mark.parametrize("kind", [kind.name for kind in LATER_KINDS])
def test_a_kind_that_keeps_something_out_is_refused_while_it_does_not_act(
    kind: str, document: Document
) -> None:
    version = {one.name: one.versions[0] for one in LATER_KINDS}[kind]
    loaded = document(kind, {"any": ["thing"]}, version)
    assert codes(loaded) == ["SC0304"]
    assert loaded.problems[0].why


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{apiVersion: sidecar/v1, kind: Sidecar}", True),
        ("{apiVersion: networking.istio.io/v1, kind: Sidecar}", False),
        ("{apiVersion: sidecar/v1, kind: Inspection}", False),
        ("{kind: Sidecar}", False),
        ("[]", False),
    ],
)
def test_a_bootstrap_is_known_before_it_is_read(text: str, expected: bool) -> None:
    (node,) = parse(text.encode(), "f").documents
    assert is_bootstrap(node) is expected


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 70000)
    | st.sampled_from(
        ["", "*", "a", "a/b", "/a/*", "10.0.0.1", "30s", "STRICT", "ALLOW", "DENY", "HTTP", "{*}"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                sorted(
                    {name for kind in KINDS for name in kind.struct.known}
                    | {"selector", "rules", "from", "source", "principals", "to", "operation"}
                    | {"when", "key", "values", "host", "trafficPolicy", "tls", "mode", "inbound"}
                    | {"matchLabels", "mtls", "portLevelMtls", "action", "patterns", "pluginConfig"}
                    | {"listen", "hosts", "ports", "endpoints", "address", "number", "name", "x"}
                )
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@given(spec=VALUES)
@settings(max_examples=60)
def test_any_spec_gives_a_document_or_an_error_and_never_raises(kind: Any, spec: object) -> None:
    written = {
        "apiVersion": kind.versions[0],
        "kind": kind.name,
        "metadata": {"name": "a"},
        "spec": spec,
    }
    loaded = parse_documents(json.dumps(written).encode(), "f")
    read = len(loaded.documents) + (loaded.bootstrap is not None)
    assert read == (0 if loaded.errors else 1)
