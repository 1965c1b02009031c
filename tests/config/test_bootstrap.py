from __future__ import annotations

from sidecar.config.bootstrap import DefaultAction, Sidecar, SidecarSpec
from sidecar.config.documents import Metadata, MtlsMode


def test_the_identity_is_made_of_trust_domain_namespace_and_account() -> None:
    spec = SidecarSpec(trust_domain="example.org", service_account="files")
    sidecar = Sidecar(Metadata("box", "prod"), spec)
    assert sidecar.spiffe_id == "spiffe://example.org/ns/prod/sa/files"


def test_a_bootstrap_made_in_code_is_closed() -> None:
    assert SidecarSpec().mtls is MtlsMode.STRICT
    assert SidecarSpec().default_action is DefaultAction.DENY
    assert SidecarSpec().allow_empty is False
