from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sidecar.config.documents import MtlsMode, PeerAuthentication
from sidecar.config.loaded import Loaded

Document = Callable[..., Loaded]


def test_istios_specs_are_judged_as_istio_judges_them(
    vectors: Callable[[str], dict[str, Any]], document: Document
) -> None:
    cases = vectors("peer_authentication.json")["validation"]
    for case in cases:
        loaded = document("PeerAuthentication", case["spec"])
        assert bool(loaded.errors) != case["valid"], case
        assert bool(set(loaded.problems) - set(loaded.errors)) == case["warning"], case
    assert len(cases) == 9


@pytest.mark.parametrize("mode", list(MtlsMode))
def test_a_mode_comes_out_as_it_was_written(mode: MtlsMode, document: Document) -> None:
    (found,) = document("PeerAuthentication", {"mtls": {"mode": mode.value}}).documents
    assert isinstance(found, PeerAuthentication)
    assert found.spec.mode is mode
    assert found.spec.port_modes == {}


@pytest.mark.parametrize("spec", [{}, {"mtls": {}}])
def test_a_mode_that_is_not_written_is_unset(spec: dict[str, Any], document: Document) -> None:
    (found,) = document("PeerAuthentication", spec).documents
    assert isinstance(found, PeerAuthentication)
    assert found.spec.mode is MtlsMode.UNSET


def test_ports_have_modes_of_their_own(document: Document) -> None:
    spec = {
        "selector": {"matchLabels": {"app": "x"}},
        "mtls": {"mode": "STRICT"},
        "portLevelMtls": {"8080": {"mode": "DISABLE"}, "90": {}},
    }
    (found,) = document("PeerAuthentication", spec).documents
    assert isinstance(found, PeerAuthentication)
    assert found.spec.port_modes == {8080: MtlsMode.DISABLE, 90: MtlsMode.UNSET}


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"mtls": {"mode": "strict"}}, "SC0205"),
        ({"mtls": {"mode": "MUTUAL"}}, "SC0205"),
        ({"mtls": "STRICT"}, "SC0203"),
        ({"mode": "STRICT"}, "SC0204"),
        ({"portLevelMtls": {"80": {}}}, "SC0501"),
        ({"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"0": {}}}, "SC0407"),
        ({"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"65536": {}}}, "SC0407"),
        ({"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"x": {}}}, "SC0407"),
        ({"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {}}, "SC0210"),
        ({"targetRef": {}}, "SC0304"),
    ],
)
def test_what_a_peer_authentication_may_not_say(
    spec: dict[str, Any], code: str, document: Document
) -> None:
    loaded = document("PeerAuthentication", spec)
    assert [problem.code for problem in loaded.problems] == [code]
    assert loaded.documents == ()


def test_a_mode_beside_mtls_is_told_where_it_belongs(document: Document) -> None:
    (problem,) = document("PeerAuthentication", {"mode": "STRICT"}).problems
    assert problem.help == "did you mean `mtls.mode`?"
