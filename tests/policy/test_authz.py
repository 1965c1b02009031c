"""The published requests of Istio's own tests and golden configurations, judged by us."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.policy.authz import Mesh, RuleSet
from sidecar.policy.call import Call, Peer
from sidecar.policy.path import normalise
from sidecar.policy.spec import (
    Action,
    ConditionSpec,
    OperationSpec,
    PolicySpec,
    RuleSpec,
    SourceSpec,
)
from sidecar.spiffe.id import SpiffeId

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors" / "authz_policy_requests.json"


def suites() -> list[Any]:
    if not VECTORS.exists():
        return []
    return json.loads(VECTORS.read_text())["cases"]


def snake(key: str) -> str:
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in key)


def fields(document: dict[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {snake(key): tuple(values) for key, values in document.items()}


def rule(document: dict[str, Any]) -> RuleSpec:
    return RuleSpec(
        tuple(SourceSpec(**fields(one["source"])) for one in document.get("from", ())),
        tuple(OperationSpec(**fields(one["operation"])) for one in document.get("to", ())),
        tuple(
            ConditionSpec(
                key=one["key"],
                values=tuple(one.get("values", ())),
                not_values=tuple(one.get("notValues", ())),
            )
            for one in document.get("when", ())
        ),
    )


def policy(document: dict[str, Any]) -> PolicySpec:
    metadata, spec = document["metadata"], document["spec"]
    return PolicySpec(
        metadata["name"],
        metadata["namespace"],
        Action(spec.get("action", "ALLOW")),
        tuple(map(rule, spec.get("rules", ()))),
        dry_run=metadata.get("annotations", {}).get("istio.io/dry-run") == "true",
    )


def applies(document: dict[str, Any], suite: dict[str, Any]) -> bool:
    namespace = document["metadata"]["namespace"]
    if namespace not in (suite["workload"]["namespace"], suite["mesh"]["rootNamespace"]):
        return False
    labels = document["spec"].get("selector", {}).get("matchLabels", {})
    return labels.items() <= suite["workload"]["labels"].items()


def call(request: dict[str, Any]) -> Call:
    source, destination = request["source"], request["destination"]
    principal = source["principal"]
    target = normalise(request.get("path") or "/")
    path, _, query = target.partition("?")
    return Call(
        Peer(SpiffeId.parse(principal) if principal else None, source["ip"]),
        request.get("method") or "",
        path,
        query,
        request.get("host") or "",
        [(name.lower().encode(), value.encode()) for name, value in request.get("headers") or ()],
        b"",
        port=destination["port"],
        destination_ip=destination["ip"],
        remote_ip=source.get("remoteIp") or "",
        claims=request.get("jwtClaims"),
        is_tcp=request["protocol"] == "tcp",
    )


@pytest.mark.skipif(not VECTORS.exists(), reason="authz_policy_requests.json is not here")
@pytest.mark.parametrize("suite", suites(), ids=lambda suite: suite["id"])
def test_a_published_suite_is_judged_as_istio_judges_it(suite: dict[str, Any]) -> None:
    mesh = suite["mesh"]
    rules = RuleSet(
        [policy(one) for one in suite["policies"] if applies(one, suite)],
        Mesh(
            mesh["trustDomain"],
            tuple(mesh["trustDomainAliases"]),
            tuple(mesh.get("spaceDelimitedClaims", ())),
        ),
        default=Action.ALLOW,
    )
    for request in suite["requests"]:
        assert rules.judge(call(request)).allowed is (request["expect"] == "allow"), request
