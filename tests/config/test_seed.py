"""The documents the project grew from load as they are printed, once indented again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.config.documents import (
    AuthorizationPolicy,
    DestinationRule,
    Direction,
    MtlsMode,
    OnMatch,
    PeerAuthentication,
    Phase,
    WasmPlugin,
)
from sidecar.config.loaded import Loaded, parse_documents
from sidecar.config.traffic_specs import H2UpgradePolicy, OutlierDetection
from sidecar.policy.spec import Action, OperationSpec, SourceSpec

# How deep each line of each document is, in steps of two spaces.
DEPTHS = (
    "00011012312",
    "0001101231111245224411242244",
    "000110123111233322",
    "00011011233332343444",
)
LABELS = {"app": "mcp-server"}


@pytest.fixture
def loaded(seed: Callable[[str], list[str]]) -> Loaded:
    """The four documents, their lines as printed and indented again."""
    lines = seed("004")
    starts = [index for index, line in enumerate(lines) if line.startswith("apiVersion:")]
    documents = []
    for start, depths in zip(starts, DEPTHS, strict=True):
        printed = lines[start : start + len(depths)]
        indented = ("  " * int(depth) + line for depth, line in zip(depths, printed, strict=True))
        documents.append("\n".join(indented))
    return parse_documents("\n---\n".join(documents).encode(), "f")


def test_they_load_with_one_warning_and_no_error(loaded: Loaded) -> None:
    assert [type(one).__name__ for one in loaded.documents] == [
        "PeerAuthentication",
        "AuthorizationPolicy",
        "WasmPlugin",
        "DestinationRule",
    ]
    assert [problem.code for problem in loaded.problems] == ["SC0504"]
    assert loaded.errors == ()
    assert {one.metadata.namespace for one in loaded.documents} == {"mcp-prod"}


def test_mutual_tls_is_strict(loaded: Loaded) -> None:
    peer = loaded.documents[0]
    assert isinstance(peer, PeerAuthentication)
    assert peer.spec.mode is MtlsMode.STRICT
    assert peer.spec.selector.match_labels == LABELS


def test_the_policy_says_who_may_call_which_path(loaded: Loaded) -> None:
    found = loaded.documents[1]
    assert isinstance(found, AuthorizationPolicy)
    assert found.spec.selector.match_labels == LABELS
    assert found.policy.action is Action.ALLOW
    gateway, monitoring = found.policy.rules
    assert gateway.sources == (
        SourceSpec(principals=("cluster.local/ns/agent-prod/sa/agent-gateway",)),
    )
    assert gateway.operations == (OperationSpec(methods=("POST",), paths=("/mcp/tools/*",)),)
    assert monitoring.sources == (SourceSpec(namespaces=("monitoring",)),)
    assert monitoring.operations == (OperationSpec(methods=("GET",), paths=("/metrics",)),)


def test_the_plugin_is_an_inspection(loaded: Loaded) -> None:
    plugin = loaded.documents[2]
    assert isinstance(plugin, WasmPlugin)
    found = plugin.inspection
    assert [pattern.text for pattern in found.patterns] == [
        "ignore previous instructions",
        "system: you are now",
        "JAILBREAK",
    ]
    assert (found.max_body_bytes, found.action) == (65536, OnMatch.DENY)
    assert set(found.directions) == set(Direction)
    assert found.selector.match_labels == LABELS
    assert plugin.spec.phase is Phase.AUTHN


def test_the_rule_ejects_and_limits(loaded: Loaded) -> None:
    rule = loaded.documents[3]
    assert isinstance(rule, DestinationRule)
    assert rule.spec.host == "downstream-api.mcp-prod.svc.cluster.local"
    policy = rule.spec.traffic_policy
    assert policy.outlier_detection == OutlierDetection(
        consecutive_gateway_errors=5,
        interval=30.0,
        base_ejection_time=30.0,
        max_ejection_percent=50,
    )
    pool = policy.connection_pool
    assert pool.tcp.max_connections == 100
    assert pool.http.http1_max_pending_requests == 100
    assert pool.http.max_requests_per_connection == 10
    assert pool.http.h2_upgrade_policy is H2UpgradePolicy.UPGRADE
