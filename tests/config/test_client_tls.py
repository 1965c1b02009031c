"""`tls` of a DestinationRule: each mode with what it takes, and nothing that it does not use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sidecar.config.loaded import Loaded
from sidecar.config.traffic_specs import ClientTls
from sidecar.upstream.cluster import TlsMode, TlsSpec

Document = Callable[[str, dict[str, Any]], Loaded]


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ({}, None),
        ({"mode": "DISABLE"}, None),
        ({"mode": "ISTIO_MUTUAL"}, TlsSpec(TlsMode.ISTIO_MUTUAL)),
        (
            {"mode": "ISTIO_MUTUAL", "subjectAltNames": ["spiffe://a/b"], "sni": "x.y"},
            TlsSpec(TlsMode.ISTIO_MUTUAL, "x.y", ("spiffe://a/b",)),
        ),
        (
            {"mode": "SIMPLE", "caCertificates": "/etc/ca.pem"},
            TlsSpec(TlsMode.SIMPLE, ca="/etc/ca.pem"),
        ),
        (
            {"mode": "MUTUAL", "clientCertificate": "/c.pem", "privateKey": "/k.pem"},
            TlsSpec(TlsMode.MUTUAL, certificate="/c.pem", key="/k.pem"),
        ),
    ],
    ids=str,
)
def test_what_is_written_comes_out(
    written: dict[str, Any], wanted: TlsSpec | None, document: Document
) -> None:
    loaded = document("DestinationRule", {"host": "a", "trafficPolicy": {"tls": written}})
    assert loaded.problems == ()
    (rule,) = loaded.documents
    assert rule.spec.traffic_policy.tls == ClientTls(wanted)  # type: ignore[union-attr]
