from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.config.addresses import Address
from sidecar.config.bootstrap import Compat, DefaultAction, HostMode, Sidecar
from sidecar.config.documents import MtlsMode
from sidecar.config.limits import Limits
from sidecar.config.loaded import Loaded, parse_documents
from sidecar.errors import Where
from sidecar.policy.path import Normalisation

TEXT = """\
apiVersion: sidecar/v1
kind: Sidecar
metadata: {name: files, namespace: mcp-prod, labels: {app: mcp-server}}
spec:
  trustDomain: example.org
  trustDomainAliases: [old.example.org]
  trustBundles: {partner.example: ./bundles/partner.pem}
  rootNamespace: mesh
  identity: {ca: ./certs/ca}
  workload: {serviceAccount: reader}
  mtls: PERMISSIVE
  defaultAction: DENY
  allowEmpty: true
  pathNormalization: MERGE_SLASHES
  numTrustedProxies: 2
  inbound:
  - listen: 127.0.0.1:8443
    to: unix:/run/files.sock
    plainPaths: [/metrics]
    allowedOrigins: ["https://App.example:443", "http://dev.example:3000"]
  - {listen: "[::1]:8444", to: files.example, host: upstream, service: files}
  admin: {listen: "unix:/run/admin.sock"}
  documents: [./policies, /etc/shared.yaml]
  limits: {requestBodyBytes: 1MiB, callTimeout: 1m}
  log: {access: ./access.log}
"""
INBOUND = [{"listen": "127.0.0.1:8443", "to": "http://127.0.0.1:9000"}]


def read(spec: dict[str, Any], name: str = "files") -> Loaded:
    written = {
        "apiVersion": "sidecar/v1",
        "kind": "Sidecar",
        "metadata": {"name": name, "namespace": "prod"},
        "spec": {"inbound": INBOUND, **spec},
    }
    return parse_documents(json.dumps(written).encode(), "etc/boot.yaml")


def sidecar(spec: dict[str, Any]) -> Sidecar:
    loaded = read(spec)
    assert loaded.errors == ()
    assert loaded.bootstrap is not None
    return loaded.bootstrap


def codes(loaded: Loaded) -> list[str]:
    return [problem.code for problem in loaded.problems]


def test_every_field_comes_out() -> None:
    loaded = parse_documents(TEXT.encode(), "etc/boot.yaml")
    assert loaded.problems == ()
    found = loaded.bootstrap
    assert found is not None
    spec = found.spec
    assert found.spiffe_id == "spiffe://example.org/ns/mcp-prod/sa/reader"
    assert found.metadata.labels == {"app": "mcp-server"}
    assert spec.trust_domain_aliases == ("old.example.org",)
    assert spec.trust_bundles["partner.example"].path == "etc/bundles/partner.pem"
    assert spec.root_namespace == "mesh"
    assert (spec.identity.certs, spec.identity.ca) == ("", "etc/certs/ca")
    assert (spec.mtls, spec.default_action) == (MtlsMode.PERMISSIVE, DefaultAction.DENY)
    assert spec.allow_empty
    assert spec.path_normalization is Normalisation.MERGE_SLASHES
    assert spec.trusted_proxies == 2
    first, second = spec.inbound
    assert first.listen == Address("127.0.0.1", 8443)
    assert (first.to.address, first.service, first.host) == (
        "unix:/run/files.sock",
        "files",
        HostMode.UPSTREAM,
    )
    assert first.plain_paths == ("/metrics",)
    assert first.allowed_origins == ("https://app.example", "http://dev.example:3000")
    assert second.allowed_origins == ()
    assert first.at == Where("etc/boot.yaml", 17, 5)
    assert (second.to.host, second.to.address) == ("files.example", "")
    assert (second.host, second.service) == (HostMode.UPSTREAM, "files")
    assert spec.admin.listen == Address(unix="/run/admin.sock")
    assert [ref.path for ref in spec.documents] == ["etc/policies", "/etc/shared.yaml"]
    assert spec.limits == Limits(request_body_bytes=1 << 20, call_timeout=60.0)
    assert spec.log.access == "etc/access.log"


def test_what_is_not_written_is_closed_and_local() -> None:
    found = sidecar({})
    spec = found.spec
    assert found.spiffe_id == "spiffe://cluster.local/ns/prod/sa/files"
    assert (spec.mtls, spec.default_action, spec.compat) == (
        MtlsMode.STRICT,
        DefaultAction.DENY,
        None,
    )
    assert spec.identity.certs == "etc/certs/prod/files"
    assert spec.root_namespace == "istio-system"
    assert spec.path_normalization is Normalisation.BASE
    assert spec.trusted_proxies == 0
    assert (spec.limits, spec.log.access, spec.admin.listen) == (Limits(), "stdout", None)
    assert (spec.documents, spec.allow_empty) == ((), False)


def test_istios_defaults_come_with_compat_and_yield_to_what_is_written() -> None:
    spec = sidecar({"compat": "istio"}).spec
    assert (spec.compat, spec.mtls, spec.default_action) == (
        Compat.ISTIO,
        MtlsMode.PERMISSIVE,
        DefaultAction.ALLOW,
    )
    spec = sidecar({"compat": "istio", "mtls": "STRICT", "defaultAction": "DENY"}).spec
    assert (spec.mtls, spec.default_action) == (MtlsMode.STRICT, DefaultAction.DENY)


@pytest.mark.parametrize(
    ("to", "host", "service"),
    [
        ("http://127.0.0.1:9000", HostMode.UPSTREAM, "127.0.0.1"),
        ("http://localhost:9000", HostMode.UPSTREAM, "localhost"),
        ("unix:/run/a.sock", HostMode.UPSTREAM, "files"),
        ("files.example", HostMode.PRESERVE, "files.example"),
        ("http://10.0.0.1:80", HostMode.PRESERVE, "10.0.0.1"),
    ],
)
def test_the_host_and_the_service_follow_from_the_target(
    to: str, host: HostMode, service: str
) -> None:
    (found,) = sidecar({"inbound": [{"listen": "127.0.0.1:1", "to": to}]}).spec.inbound
    assert (found.host, found.service) == (host, service)


@pytest.mark.parametrize(
    ("access", "expected"),
    [
        ("stdout", "stdout"),
        ("stderr", "stderr"),
        ("none", "none"),
        ("off", "none"),
        ("logs/a.log", "etc/logs/a.log"),
        ("/var/log/a.log", "/var/log/a.log"),
    ],
)
def test_access_lines_go_to_a_stream_a_file_or_nowhere(access: str, expected: str) -> None:
    assert sidecar({"log": {"access": access}}).spec.log.access == expected


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({"inbound": []}, ["SC0210"]),
        ({"inbound": [{"to": "a.example"}]}, ["SC0202"]),
        ({"inbound": [{"listen": "127.0.0.1:1", "to": "https://127.0.0.1"}]}, ["SC0304"]),
        ({"inbound": INBOUND * 2}, ["SC0705"]),
        ({"admin": {"listen": "127.0.0.1:8443"}}, ["SC0705"]),
        ({"admin": {"listen": "0.0.0.0:1"}}, ["SC0703"]),
        ({"identity": {}}, ["SC0701"]),
        ({"identity": {"certs": "a", "ca": "b"}}, ["SC0701"]),
        ({"mtls": "UNSET"}, ["SC0205"]),
        ({"mtls": "strict"}, ["SC0205"]),
        ({"defaultAction": "AUDIT"}, ["SC0205"]),
        ({"compat": "envoy"}, ["SC0205"]),
        ({"trustDomain": "Example.org"}, ["SC0211"]),
        ({"trustDomain": "a/b"}, ["SC0211"]),
        ({"trustBundles": {"cluster.local": "x"}}, ["SC0706"]),
        ({"trustBundles": {"Bad Name": "x"}}, ["SC0211"]),
        ({"rootNamespace": "Root"}, ["SC0211"]),
        ({"workload": {"serviceAccount": "a b"}}, ["SC0211"]),
        ({"limits": {"requestBodyBytes": 0}}, ["SC0208"]),
        ({"limits": {"callTimeout": "0s"}}, ["SC0207"]),
        ({"limits": {"callTimeout": 30}}, ["SC0203"]),
        ({"limits": {"connections": -1}}, ["SC0206"]),
        ({"limits": {"request_body_bytes": 1}}, ["SC0204"]),
        ({"documents": []}, ["SC0210"]),
        ({"documents": "policies"}, ["SC0203"]),
        ({"log": {"access": ""}}, ["SC0401"]),
        ({"outbound": []}, ["SC0210"]),
        ({"pathNormalization": "ALL"}, ["SC0205"]),
        (
            {"inbound": [{**INBOUND[0], "plainPaths": ["/a/*", "b"]}]},
            ["SC0211", "SC0211"],
        ),
        (
            {"inbound": [{**INBOUND[0], "allowedOrigins": ["app.example", "null", "https://a/b"]}]},
            ["SC0211", "SC0211", "SC0211"],
        ),
        ({"inbound": [{**INBOUND[0], "allowedOrigins": []}]}, ["SC0210"]),
    ],
)
def test_what_a_bootstrap_may_not_say(spec: dict[str, Any], found: list[str]) -> None:
    loaded = read(spec)
    assert codes(loaded) == found
    assert loaded.bootstrap is None


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({"defaultAction": "ALLOW"}, ["SC0702"]),
        ({"compat": "istio"}, []),
        ({"inbound": [{"listen": "127.0.0.1:1", "to": "http://10.0.0.1:80"}]}, ["SC0704"]),
        (
            {"inbound": [{"listen": "127.0.0.1:0", "to": "unix:/a"}] * 2},
            [],
        ),
    ],
)
def test_what_is_open_draws_a_warning(spec: dict[str, Any], found: list[str]) -> None:
    loaded = read(spec)
    assert codes(loaded) == found
    assert loaded.bootstrap is not None


def test_access_off_without_quotes_is_told_to_be_quoted(
    codes: Callable[[str], list[str]], load: Callable[[str], Loaded]
) -> None:
    text = TEXT.replace("./access.log", "off")
    assert codes(text) == ["SC0105"]
    assert '`"off"`' in load(text).problems[0].help
