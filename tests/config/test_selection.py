"""Which documents reach a workload, and which mode its ports have: Istio's own cases, then ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.documents import (
    Metadata,
    MtlsMode,
    PeerAuthentication,
    PeerAuthenticationSpec,
    Selector,
)
from sidecar.config.selection import Workload, mtls_of
from sidecar.errors import Where

Vectors = Callable[[str], dict[str, Any]]

STRICT, PERMISSIVE = MtlsMode.STRICT, MtlsMode.PERMISSIVE
DISABLE, UNSET = MtlsMode.DISABLE, MtlsMode.UNSET
ROOT, OURS, OTHER = "root", "ours", "other"
LABELS = {"app": "foo", "tier": "back"}
ME = Workload(OURS, LABELS, ROOT)


def peer(
    mode: MtlsMode,
    namespace: str = OURS,
    labels: Mapping[str, str] | None = None,
    ports: Mapping[int, MtlsMode] | None = None,
    created: float = 0.0,
) -> PeerAuthentication:
    return PeerAuthentication(
        Metadata("one", namespace, created=created),
        PeerAuthenticationSpec(Selector(labels or {}), mode, ports or {}),
        Where("f.yaml", 1),
    )


FOO = {"app": "foo"}


def of_vector(written: dict[str, Any]) -> PeerAuthentication:
    spec = written["spec"]
    assert spec.keys() <= {"selector", "mtls", "portLevelMtls"}, "a field this test would drop"
    return peer(
        MtlsMode(spec.get("mtls", {}).get("mode", "UNSET")),
        written["namespace"],
        spec.get("selector", {}).get("matchLabels"),
        {
            int(port): MtlsMode(asked.get("mode", "UNSET"))
            for port, asked in spec.get("portLevelMtls", {}).items()
        },
        1e9 + written.get("createdOffsetSeconds", 0),
    )


def test_istios_own_cases_merge_as_in_istio(vectors: Vectors) -> None:
    cases = vectors("peer_authentication.json")["merge"]
    for case in cases:
        workload = Workload("my-ns", {"app": "foo", "stage": "prod"}, case["rootNamespace"])
        policies = [of_vector(one) for one in case["policies"]]
        mode, ports = mtls_of(workload, policies, PERMISSIVE)
        assert mode.value == case["effectiveMode"], case["name"]
        assert {str(port): one.value for port, one in ports.items()} == case["perPort"], case[
            "name"
        ]
    assert len(cases) == 14


def test_a_mode_takes_from_whom_istio_takes(vectors: Vectors) -> None:
    """As far as the mode alone decides it; certificates are judged at the handshake."""
    cases = [
        case
        for case in vectors("peer_authentication.json")["connection"]
        if case["client"] in ("plaintext", "mtls_valid_svid")
    ]
    for case in cases:
        mode, _ = mtls_of(ME, [peer(MtlsMode(case["mode"]))], UNSET)
        plaintext = case["client"] == "plaintext"
        taken = mode is not STRICT if plaintext else mode is not DISABLE
        identified = mode is not DISABLE and not plaintext
        wanted = "refuse" if not taken else f"accept_with{'' if identified else 'out'}_identity"
        assert case["result"] == wanted, case
    assert len(cases) == 5


@pytest.mark.parametrize(
    ("policies", "default", "wanted"),
    [
        ([], STRICT, STRICT),
        ([], PERMISSIVE, PERMISSIVE),
        ([peer(UNSET)], STRICT, STRICT),
        # The narrower level wins, whether it is laxer or stricter.
        ([peer(STRICT, ROOT)], PERMISSIVE, STRICT),
        ([peer(STRICT, ROOT), peer(DISABLE)], PERMISSIVE, DISABLE),
        ([peer(STRICT, ROOT), peer(DISABLE), peer(PERMISSIVE, labels=FOO)], STRICT, PERMISSIVE),
        ([peer(DISABLE, ROOT), peer(STRICT, labels=FOO)], PERMISSIVE, STRICT),
        # UNSET takes what the level above says, however many levels up.
        ([peer(STRICT, ROOT), peer(UNSET), peer(UNSET, labels=FOO)], DISABLE, STRICT),
        ([peer(UNSET, ROOT), peer(UNSET), peer(UNSET, labels=FOO)], DISABLE, DISABLE),
        ([peer(STRICT, ROOT), peer(DISABLE), peer(UNSET, labels=FOO)], STRICT, DISABLE),
        # Of another namespace, or for another workload: nothing to us.
        ([peer(DISABLE, OTHER)], STRICT, STRICT),
        ([peer(DISABLE, OTHER, FOO)], STRICT, STRICT),
        ([peer(DISABLE, labels={"app": "bar"})], STRICT, STRICT),
        ([peer(DISABLE, labels={**FOO, "stage": "prod"})], STRICT, STRICT),
        ([peer(DISABLE, labels={"app": "Foo"})], STRICT, STRICT),
        ([peer(DISABLE, labels={"app": ""})], STRICT, STRICT),
        ([peer(DISABLE, labels=LABELS)], STRICT, DISABLE),
        # In the root namespace a selector makes a policy one that is ignored.
        ([peer(DISABLE, ROOT, FOO)], STRICT, STRICT),
        ([peer(DISABLE, ROOT, FOO), peer(PERMISSIVE, ROOT)], STRICT, PERMISSIVE),
        # Without a namespace of its own a document belongs to the workload's.
        ([peer(DISABLE, "")], STRICT, DISABLE),
        ([peer(DISABLE, "", FOO)], STRICT, DISABLE),
        # `istio-system` means nothing where the root is another.
        ([peer(DISABLE, "istio-system")], STRICT, STRICT),
    ],
)
def test_the_narrower_level_says_the_mode(
    policies: list[PeerAuthentication], default: MtlsMode, wanted: MtlsMode
) -> None:
    for order in permutations(policies):
        assert mtls_of(ME, order, default) == (wanted, {})


@pytest.mark.parametrize("level", [{"namespace": ROOT}, {}, {"labels": FOO}])
def test_the_oldest_of_a_level_wins_whatever_their_order(level: dict[str, Any]) -> None:
    policies = [
        peer(STRICT, created=30.0, **level),
        peer(DISABLE, created=10.0, **level),
        peer(PERMISSIVE, created=20.0, **level),
    ]
    for order in permutations(policies):
        assert mtls_of(ME, order, STRICT)[0] is DISABLE


def test_the_oldest_of_a_level_wins_though_it_says_nothing() -> None:
    policies = [peer(DISABLE, created=20.0), peer(UNSET, created=10.0)]
    assert mtls_of(ME, policies, STRICT)[0] is STRICT


def test_of_equally_old_ones_the_first_wins() -> None:
    assert mtls_of(ME, [peer(DISABLE), peer(PERMISSIVE)], STRICT)[0] is DISABLE
    assert mtls_of(ME, [peer(PERMISSIVE), peer(DISABLE)], STRICT)[0] is PERMISSIVE


def test_a_port_has_its_own_mode_or_the_workloads() -> None:
    ports = {80: DISABLE, 90: UNSET, 100: PERMISSIVE}
    policies = [peer(STRICT, ROOT), peer(UNSET, labels=FOO, ports=ports)]
    assert mtls_of(ME, policies, DISABLE) == (
        STRICT,
        {80: DISABLE, 90: STRICT, 100: PERMISSIVE},
    )
    policies.append(peer(PERMISSIVE))
    assert mtls_of(ME, policies, DISABLE)[1][90] is PERMISSIVE


def test_an_unset_port_takes_the_mode_beside_it() -> None:
    own = peer(DISABLE, labels=FOO, ports={90: UNSET})
    assert mtls_of(ME, [peer(STRICT), own], STRICT) == (DISABLE, {90: DISABLE})


@pytest.mark.parametrize(
    "policy",
    [
        peer(STRICT, ports={80: DISABLE}),
        peer(STRICT, ROOT, ports={80: DISABLE}),
        peer(STRICT, ROOT, FOO, ports={80: DISABLE}),
        peer(STRICT, OTHER, FOO, ports={80: DISABLE}),
        peer(STRICT, labels={"app": "bar"}, ports={80: DISABLE}),
    ],
)
def test_ports_count_only_on_a_policy_that_selects_this_workload(
    policy: PeerAuthentication,
) -> None:
    assert mtls_of(ME, [policy], STRICT) == (STRICT, {})


def test_ports_of_a_younger_policy_do_not_count() -> None:
    policies = [
        peer(STRICT, labels=FOO, created=10.0),
        peer(STRICT, labels=FOO, created=20.0, ports={80: DISABLE}),
    ]
    assert mtls_of(ME, policies, STRICT) == (STRICT, {})


def test_a_workload_of_the_root_namespace_has_only_the_meshs_mode() -> None:
    root = Workload(ROOT, LABELS, ROOT)
    policies = [peer(STRICT, ROOT), peer(DISABLE, ROOT, FOO, {80: DISABLE})]
    assert mtls_of(root, policies, PERMISSIVE) == (STRICT, {})


MODES = st.sampled_from(list(MtlsMode))


@given(
    st.lists(
        st.builds(
            peer,
            MODES,
            st.sampled_from([ROOT, OURS, OTHER, ""]),
            st.sampled_from([{}, FOO, {"app": "bar"}]),
            st.dictionaries(st.sampled_from([80, 90]), MODES),
            st.sampled_from([0.0, 1.0, 2.0]),
        ),
        max_size=6,
    ),
    st.sampled_from([STRICT, PERMISSIVE, DISABLE]),
)
def test_every_port_has_a_mode_that_somebody_wrote(
    policies: list[PeerAuthentication], default: MtlsMode
) -> None:
    mode, ports = mtls_of(ME, policies, default)
    written = {default, *(one.spec.mode for one in policies)}
    assert mode in written - {UNSET}
    assert UNSET not in ports.values()
    strangers = [one for one in policies if one.metadata.namespace != OTHER]
    assert mtls_of(ME, strangers, default) == (mode, ports)


@pytest.mark.parametrize(
    ("namespace", "labels", "reaches", "selects"),
    [
        (OURS, {}, True, True),
        ("", {}, True, True),
        (ROOT, {}, True, True),
        (OTHER, {}, False, False),
        ("Ours", {}, False, False),
        (OURS, FOO, True, True),
        (ROOT, FOO, True, True),
        (OTHER, FOO, False, False),
        (OURS, LABELS, True, True),
        (OURS, {"app": "fooo"}, True, False),
        (OURS, {"App": "foo"}, True, False),
        (OURS, {**LABELS, "more": "x"}, True, False),
        (ROOT, {"app": "bar"}, True, False),
    ],
)
def test_a_document_is_for_a_workload_by_namespace_and_labels(
    namespace: str, labels: dict[str, str], reaches: bool, selects: bool
) -> None:
    metadata = Metadata("one", namespace)
    assert ME.reaches(metadata) is reaches
    assert ME.selects(metadata, Selector(labels)) is selects


def test_a_workload_without_labels_is_selected_by_no_label() -> None:
    bare = Workload(OURS)
    assert bare.selects(Metadata("one", OURS), Selector())
    assert not bare.selects(Metadata("one", OURS), Selector({"app": ""}))
    assert bare.reaches(Metadata("one", "istio-system"))
