"""What calls go on in: HTTP/1.1, HTTP/2, or what their callers speak; and where that only might be.

`clusters` compiles it of a target, a DestinationRule and the ServiceEntries.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.config.addresses import target_of
from sidecar.config.clusters import cluster_of, note_upgrade, upgrades
from sidecar.config.documents import DestinationRule, ServiceEntry
from sidecar.config.limits import Limits
from sidecar.config.loaded import parse_documents
from sidecar.config.problem import Notes, Place
from sidecar.config.traffic_specs import H2UpgradePolicy
from sidecar.errors import Where

LIMITS = Limits()


def ruled(spec: dict[str, Any]) -> list[DestinationRule]:
    """Return the rule that says *spec*."""
    text = {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule"}
    written = json.dumps(text | {"metadata": {"name": "r"}, "spec": spec})
    loaded = parse_documents(written.encode(), "f.yaml", namespace="prod")
    assert loaded.problems == ()
    return [one for one in loaded.documents if isinstance(one, DestinationRule)]


def rules(host: str, policy: dict[str, Any] | None) -> list[DestinationRule]:
    """Return the rule of *host* with that policy, none without one."""
    return ruled({"host": host, "trafficPolicy": policy}) if policy else []


def entries(text: str) -> list[ServiceEntry]:
    loaded = parse_documents(text.encode(), "f.yaml", namespace="prod")
    assert loaded.problems == ()
    return [one for one in loaded.documents if isinstance(one, ServiceEntry)]


[TWO] = entries(
    """
    {apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: a}, spec: {
      hosts: [two.example], resolution: STATIC, endpoints: [{address: 127.0.0.1}],
      ports: [{number: 80, name: a, protocol: http2}, {number: 81, name: b}]}}
    """
)
KEPT = {"connectionPool": {"http": {"useClientProtocol": True}}}
OTHER = {"connectionPool": {"http": {"maxRetries": 3}}}


def test_upgrades_happen_as_in_istio(vectors: Callable[[str], dict[str, Any]]) -> None:
    cases = vectors("destination_rule.json")["h2_upgrade"]
    for case in cases:
        found = upgrades(
            H2UpgradePolicy(case["h2UpgradePolicy"]),
            H2UpgradePolicy(case["meshH2UpgradePolicy"]),
            is_http=case["portProtocol"] == "HTTP",
            use_client_protocol=case["useClientProtocol"],
        )
        assert found is case["upgrade"], case
    assert len(cases) == 7


@pytest.mark.parametrize(
    ("policy", "h2c", "tls", "http2"),
    [
        ("UPGRADE", True, False, True),
        ("UPGRADE", False, False, False),
        ("UPGRADE", False, True, True),
        ("DEFAULT", True, True, False),
        ("DO_NOT_UPGRADE", True, True, False),
    ],
)
def test_an_upgrade_acts_over_tls_and_in_plaintext_by_choice(
    policy: str, h2c: bool, tls: bool, http2: bool
) -> None:
    written: dict[str, Any] = {
        "connectionPool": {"http": {"h2UpgradePolicy": policy, "maxConcurrentStreams": 7}}
    }
    if tls:
        written["tls"] = {"mode": "SIMPLE", "sni": "files.example"}
    target, asked = target_of("http://127.0.0.1:9000"), rules("files", written)
    made = cluster_of(target, "files", [], asked, LIMITS, h2c=h2c)
    assert (made.pool.http2, made.pool.max_streams) == (http2, 7)
    assert made.upgrade is (policy == "UPGRADE")


@pytest.mark.parametrize("policy", ["DEFAULT", "DO_NOT_UPGRADE"])
@pytest.mark.parametrize(
    ("h2c", "tls", "http2"), [(False, True, True), (True, False, True), (False, False, False)]
)
def test_a_callers_own_protocol_is_kept_where_the_server_may_speak_it(
    policy: str, h2c: bool, tls: bool, http2: bool
) -> None:
    http = {"useClientProtocol": True, "h2UpgradePolicy": policy}
    written: dict[str, Any] = {"connectionPool": {"http": http}}
    if tls:
        written["tls"] = {"mode": "SIMPLE", "sni": "files.example"}
    target, asked = target_of("http://127.0.0.1:9000"), rules("files", written)
    made = cluster_of(target, "files", [], asked, LIMITS, h2c=h2c)
    assert (made.pool.http2, made.pool.preserve) == (http2, True)
    notes = Notes()
    note_upgrade([made], Place(Where("f", 1, 1)), notes)
    assert [one.code for one in notes.problems] == ([] if http2 else ["SC0613"])
    assert all("`useClientProtocol`" in one.message for one in notes.problems)


@pytest.mark.parametrize(
    ("whole", "port", "subset", "kept"),
    [
        (KEPT, None, None, (True, True)),
        (KEPT, OTHER, None, (False, False)),
        (OTHER, KEPT, None, (True, True)),
        (KEPT, None, OTHER, (True, False)),
        (OTHER, None, KEPT, (False, True)),
        (OTHER, KEPT, OTHER, (True, False)),
    ],
)
def test_settings_of_ports_and_subsets_replace_whether_a_callers_protocol_is_kept(
    whole: dict[str, Any],
    port: dict[str, Any] | None,
    subset: dict[str, Any] | None,
    kept: tuple[bool, bool],
) -> None:
    spec: dict[str, Any] = {"host": "two.example", "trafficPolicy": dict(whole)}
    if port is not None:
        spec["trafficPolicy"]["portLevelSettings"] = [{"port": {"number": 80}, **port}]
    spec["subsets"] = [
        {"name": "one", "labels": {}} | ({"trafficPolicy": subset} if subset else {})
    ]
    target, found = target_of("http://two.example:80"), ruled(spec)
    made = [cluster_of(target, "two.example", [TWO], found, LIMITS, part) for part in ("", "one")]
    assert tuple(one.pool.preserve for one in made) == kept


@pytest.mark.parametrize("policy", [None, "DO_NOT_UPGRADE"])
@pytest.mark.parametrize(("port", "http2"), [(80, True), (81, False), (0, True)])
def test_a_port_of_http_2_is_called_so_whatever_upgrades(
    policy: str | None, port: int, http2: bool
) -> None:
    written = policy and {"connectionPool": {"http": {"h2UpgradePolicy": policy}}}
    target = target_of(f"http://two.example:{port}" if port else "http://two.example")
    made = cluster_of(target, "two.example", [TWO], rules("two.example", written), LIMITS)
    assert (made.pool.http2, made.upgrade, made.h2c) == (http2, http2, http2)
    kept = rules("two.example", KEPT)
    made = cluster_of(target, "two.example", [TWO], kept, LIMITS)
    assert (made.pool.http2, made.pool.preserve) == (http2, True), "which wins over the port's"
