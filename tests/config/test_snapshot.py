"""Documents together: whom they are for, which mode a port has, and who may call."""

from __future__ import annotations

import pytest
from support.policies import ALICE, call
from support.snapshots import (
    HARM,
    LISTEN,
    allowed,
    bootstrap,
    codes,
    compiled,
    document,
    entry,
    inspection,
    peers,
    policy,
    service,
)

from sidecar.config.documents import MtlsMode
from sidecar.config.snapshot import callers
from sidecar.policy.decide import decide
from sidecar.policy.path import Normalisation
from sidecar.policy.verdict import Reason, Refusal


def test_an_inbound_becomes_a_service_with_our_defaults() -> None:
    snapshot = compiled(bootstrap())
    (found,) = snapshot.services.values()
    assert list(snapshot.services) == [LISTEN] == [found.listen]
    assert (found.port, found.cluster, found.authority) == (8443, "127.0.0.1", b"127.0.0.1:9000")
    assert found.preserve_host is False
    assert found.normalization is Normalisation.BASE
    assert found.mtls is MtlsMode.STRICT
    assert found.body_bytes == 65_536
    assert found.policy.max_depth == 64
    assert [one.name for one in snapshot.clusters] == ["127.0.0.1"]
    assert (snapshot.warnings, snapshot.policies, snapshot.allow_empty) == ((), (), False)
    assert (snapshot.workload.namespace, snapshot.workload.labels) == ("prod", {"app": "files"})


def test_what_the_bootstrap_says_comes_out() -> None:
    inbound = (
        '{listen: "[::1]:8443", to: "unix:/run/a.sock", host: preserve, service: tools, '
        "plainPaths: [/metrics]}"
    )
    spec = (
        "mtls: PERMISSIVE\n  allowEmpty: true\n  pathNormalization: MERGE_SLASHES\n"
        "  limits: {requestBodyBytes: 2KiB, jsonDepth: 7}"
    )
    text = bootstrap(inbound, spec=spec)
    (found,) = compiled(text).services.values()
    assert (found.listen, found.port, found.cluster) == ("[::1]:8443", 8443, "tools")
    assert (found.authority, found.preserve_host) == (b"localhost", True)
    assert (found.mtls, found.body_bytes) == (MtlsMode.PERMISSIVE, 2048)
    assert found.normalization is Normalisation.MERGE_SLASHES
    assert (found.policy.plain_paths, found.policy.max_depth) == ({"/metrics"}, 7)
    assert compiled(text).allow_empty is True


PAGES = [
    "http://localhost:3000",
    "http://10.0.0.5:8443",
    "https://app.example",
    "https://b.example",
]


@pytest.mark.parametrize(
    ("allowed", "spec", "admitted"),
    [
        ("", "", PAGES[:2]),
        ("allowedOrigins: ['https://app.example']", "", PAGES[2:3]),
        ("allowedOrigins: ['*']", "", PAGES),
        ("", "compat: istio", PAGES),
        ("allowedOrigins: ['https://app.example']", "compat: istio", PAGES[2:3]),
    ],
)
def test_whose_pages_may_call_is_said_for_each_inbound(
    allowed: str, spec: str, admitted: list[str]
) -> None:
    inbound = f"{{listen: '10.0.0.5:8443', to: 'unix:/run/a.sock', {allowed}}}"
    (found,) = compiled(bootstrap(inbound, spec=spec)).services.values()
    assert [page for page in PAGES if found.policy.origins.admit(page)] == admitted


# -- whom documents are for

NOT_OURS = [
    ("namespace: other", ""),
    ("", "selector: {matchLabels: {app: flies}}"),
    ("", "selector: {matchLabels: {app: files, tier: back}}"),
    ("namespace: other", "selector: {matchLabels: {app: files}}"),
    ("namespace: istio-system", "selector: {matchLabels: {app: flies}}"),
]


@pytest.mark.parametrize(("metadata", "selector"), NOT_OURS)
@pytest.mark.parametrize("kind", ["policy", "peers", "inspection", "plugin"])
def test_a_document_that_is_not_for_us_has_no_effect_and_says_so(
    kind: str, metadata: str, selector: str
) -> None:
    more = f", {selector}" if selector else ""
    texts = {
        "policy": policy(f"{{rules: [{{}}]{more}}}", metadata),
        "peers": peers(f"{{mtls: {{mode: DISABLE}}{more}}}", metadata),
        "inspection": inspection(f"maxBodyBytes: 1KiB{more}", metadata),
        "plugin": document(
            "WasmPlugin",
            f'{{pluginConfig: {{blocked_patterns: ["{HARM}"], max_body_size_kb: 1}}{more}}}',
            metadata,
        ),
    }
    snapshot = compiled(texts[kind])
    (warning,) = snapshot.warnings
    assert (warning.code, warning.is_error) == ("SC0901", False)
    assert (warning.where.file, warning.where.line) == ("f.yaml", 8)
    assert "`one`" in warning.message
    assert "`prod`" in warning.why
    assert "app=files" in warning.why
    found = snapshot.services[LISTEN]
    assert (found.mtls, found.body_bytes) == (MtlsMode.STRICT, 65_536)
    assert (snapshot.policies, snapshot.allow_policies) == ((), 0)
    assert not allowed(found, call("GET", "/"))
    assert found.policy.requests.refuse is found.policy.replies.refuse is None


@pytest.mark.parametrize(
    ("metadata", "selector"),
    [
        ("", ""),
        ("namespace: prod", ""),
        ("", "selector: {matchLabels: {app: files}}"),
        ("namespace: istio-system", ""),
        ("namespace: istio-system", "selector: {matchLabels: {app: files}}"),
    ],
)
def test_a_document_that_is_for_us_counts(metadata: str, selector: str) -> None:
    more = f", {selector}" if selector else ""
    snapshot = compiled(
        policy(f"{{rules: [{{}}]{more}}}", metadata), inspection(selector, metadata)
    )
    assert snapshot.warnings == ()
    assert snapshot.allow_policies == 1
    assert allowed(snapshot.services[LISTEN], call("GET", "/"))
    assert snapshot.services[LISTEN].policy.requests.refuse is not None


def test_a_workload_without_labels_is_told_so() -> None:
    text = bootstrap(labels="")
    (warning,) = compiled(text, policy("{selector: {matchLabels: {app: x}}}")).warnings
    assert warning.why.endswith("its labels are: none")


def test_documents_of_servers_are_for_whoever_is_given_them() -> None:
    rule = document("DestinationRule", "{host: 127.0.0.1}", "namespace: other")
    assert compiled(rule, entry("a.local", "127.0.0.1")).warnings == ()


def test_the_root_namespace_is_the_one_that_the_bootstrap_names() -> None:
    text = bootstrap(spec="rootNamespace: mesh")
    both = policy(metadata="namespace: mesh"), policy(metadata="namespace: istio-system")
    snapshot = compiled(text, *both)
    assert [one.namespace for one in snapshot.policies] == ["mesh"]
    assert codes(snapshot.warnings) == ["SC0901"]


# -- which mode a port has

OURS = "selector: {matchLabels: {app: files}}"


@pytest.mark.parametrize(
    ("spec", "texts", "wanted"),
    [
        ("", [], "STRICT"),
        ("mtls: DISABLE", [], "DISABLE"),
        ("compat: istio", [], "PERMISSIVE"),
        ("", [peers("{mtls: {mode: PERMISSIVE}}")], "PERMISSIVE"),
        (
            "mtls: PERMISSIVE",
            [peers("{mtls: {mode: STRICT}}", "namespace: istio-system")],
            "STRICT",
        ),
        ("mtls: PERMISSIVE", [peers("{mtls: {}}")], "PERMISSIVE"),
        (
            "",
            [peers(f"{{{OURS}, portLevelMtls: {{8443: {{mode: DISABLE}}}}}}")],
            "DISABLE",
        ),
        (
            "",
            [peers(f"{{{OURS}, portLevelMtls: {{9000: {{mode: DISABLE}}}}}}")],
            "STRICT",
        ),
    ],
)
def test_a_port_has_the_mode_that_documents_or_else_the_bootstrap_say(
    spec: str, texts: list[str], wanted: str
) -> None:
    snapshot = compiled(bootstrap(spec=spec), *texts)
    assert snapshot.services[LISTEN].mtls.value == wanted
    assert snapshot.warnings == ()


@pytest.mark.parametrize("namespace", ["prod", "istio-system"])
def test_a_selector_in_the_root_namespace_makes_a_mode_void_and_that_is_said(
    namespace: str,
) -> None:
    text = bootstrap(spec="mtls: PERMISSIVE").replace("namespace: prod", f"namespace: {namespace}")
    spec = "{selector: {matchLabels: {app: files}}, mtls: {mode: STRICT}}"
    snapshot = compiled(text, peers(spec, "namespace: istio-system"))
    assert snapshot.services[LISTEN].mtls is MtlsMode.PERMISSIVE
    (warning,) = snapshot.warnings
    assert (warning.code, warning.is_error, warning.where.line) == ("SC0901", False, 8)
    assert "has a selector in the root namespace and has no effect" in warning.message


# -- who may call


def test_without_a_policy_nobody_may_call() -> None:
    found = service(bootstrap())
    verdict = decide(call("GET", "/"), found.policy, 0.0)
    assert isinstance(verdict, Refusal)
    assert verdict.reason is Reason.DENIED


def test_as_in_istio_without_a_policy_everybody_may_call() -> None:
    text = bootstrap(spec="compat: istio")
    assert allowed(service(text), call("GET", "/", principal=None))
    assert not allowed(service(text, policy("{}")), call("GET", "/"))
    assert service(text).mtls is MtlsMode.PERMISSIVE


def test_what_istio_leaves_open_can_be_closed_again() -> None:
    text = bootstrap(spec="compat: istio\n  defaultAction: DENY\n  mtls: STRICT")
    assert not allowed(service(text), call("GET", "/"))
    assert service(text).mtls is MtlsMode.STRICT


def test_a_selector_with_a_typo_opens_nothing_here_but_in_istio() -> None:
    """Why the warning matters: the same slip is harmless or an open door, by the default."""
    slip = policy("{selector: {matchLabels: {app: flies}}, rules: [{from: [{}]}]}")
    slip = slip.replace("from: [{}]", "to: [{operation: {methods: [GET]}}]")
    closed, open_ = compiled(slip), compiled(bootstrap(spec="compat: istio"), slip)
    assert not allowed(closed.services[LISTEN], call("GET", "/"))
    assert allowed(open_.services[LISTEN], call("DELETE", "/"))
    assert codes(closed.warnings) == codes(open_.warnings) == ["SC0901"]


DRY = 'annotations: {istio.io/dry-run: "true"}'
DENY = "{action: DENY, rules: [{}]}"
AUDIT = "{action: AUDIT, rules: [{}]}"


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        ([], 0),
        ([policy()], 1),
        ([policy(), policy(name="two")], 2),
        ([policy("{}")], 1),
        ([policy(metadata=DRY)], 0),
        ([policy(metadata=DRY), policy(name="two")], 1),
        ([policy(DENY), policy(AUDIT, name="two")], 0),
        ([policy("{selector: {matchLabels: {app: x}}}")], 0),
    ],
)
def test_policies_that_let_somebody_in_are_counted(texts: list[str], wanted: int) -> None:
    assert compiled(bootstrap(), *texts).allow_policies == wanted


def test_a_dry_run_lets_nobody_in_but_is_there_to_be_watched() -> None:
    snapshot = compiled(policy(metadata=DRY))
    found = snapshot.services[LISTEN]
    assert not allowed(found, call("GET", "/"))
    shadow = found.policy.rules.shadow(call("GET", "/"))
    assert shadow is not None
    assert shadow.allowed
    assert len(snapshot.policies) == 1


def test_trust_domains_of_ours_are_all_one() -> None:
    principal = "spiffe://old.example/ns/agent/sa/alice"
    text = bootstrap(spec="trustDomain: cluster.local\n  trustDomainAliases: [old.example]")
    rules = policy("{rules: [{from: [{source: {principals: [cluster.local/ns/agent/sa/alice]}}]}]}")
    assert allowed(service(text, rules), call("GET", "/", principal=principal))
    assert not allowed(service(rules), call("GET", "/", principal=principal))
    assert allowed(service(rules), call("GET", "/", principal=ALICE))


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        ([], ()),
        ([policy()], ("anyone with an identity of this mesh",)),
        ([policy("{}")], ()),
        ([policy(DENY), policy(AUDIT, name="two"), policy(metadata=DRY, name="three")], ()),
        (
            [
                policy(
                    "{rules: [{from: [{source: {principals: [a/ns/b/sa/c], namespaces: [d]}}, "
                    "{source: {serviceAccounts: [e/f]}}]}]}"
                ),
                policy("{rules: [{from: [{source: {namespaces: [d, g]}}]}]}", name="two"),
            ],
            ("a/ns/b/sa/c", "namespace d", "e/f", "namespace g"),
        ),
        ([policy("{rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]}")], ("others, by rule",)),
        (
            [policy("{rules: [{from: [{source: {principals: [a/ns/b/sa/c]}}]}, {}]}")],
            ("a/ns/b/sa/c", "anyone with an identity of this mesh"),
        ),
    ],
)
def test_a_person_is_told_who_may_call(texts: list[str], wanted: tuple[str, ...]) -> None:
    assert callers(compiled(bootstrap(), *texts)) == wanted


def test_order_of_documents_does_not_matter() -> None:
    texts = [
        policy("{rules: [{from: [{source: {namespaces: [agent]}}]}]}"),
        policy("{action: DENY, rules: [{to: [{operation: {paths: [/b]}}]}]}", name="two"),
        peers("{mtls: {mode: PERMISSIVE}}"),
        inspection(),
    ]
    for order in (texts, texts[::-1]):
        found = service(bootstrap(), *order)
        assert allowed(found, call("GET", "/a"))
        assert not allowed(found, call("GET", "/b"))
        assert not allowed(found, call("GET", "/a", principal=None))
        assert found.mtls is MtlsMode.PERMISSIVE
        assert found.policy.requests.refuse is not None
