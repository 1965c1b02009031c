"""Istio's published cases, from files on disk through `sidecar authz check --compat istio`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.authz import Check, policy, workload

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors"


def cases(file: str, group: str) -> list[Any]:
    path = VECTORS / file
    return json.loads(path.read_text())[group] if path.exists() else []


needs_vectors = pytest.mark.skipif(not VECTORS.exists(), reason="the vectors are not here")


@pytest.fixture
def check(tmp_path: Path) -> Check:
    return Check(tmp_path)


@needs_vectors
@pytest.mark.parametrize(
    "suite", cases("authz_policy_requests.json", "cases"), ids=lambda suite: suite["id"]
)
def test_a_published_suite_is_answered_as_istio_would(suite: dict[str, Any], check: Check) -> None:
    for number, document in enumerate(suite["policies"]):
        check.document(f"{number}.json", document)
    answers = check.ask(
        suite["requests"],
        *workload(suite["workload"]["namespace"], suite["workload"]["labels"]),
        *check.mesh(suite["mesh"]),
        *("--compat", "istio"),
    )
    expected = [(one["name"], one["expect"]) for one in suite["requests"]]
    assert [(one["name"], one["verdict"]) for one in answers] == expected, check.told
    http = [one["protocol"] == "http" for one in suite["requests"]]
    statuses = [
        {"allow": 200, "deny": 403}[one] * web for (_, one), web in zip(expected, http, strict=True)
    ]
    assert [one["status"] for one in answers] == statuses
    assert check.code == (3 if "deny" in dict(expected).values() else 0)


def token_authentication(rules: Any, number: int) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": f"tokens-{number}", "namespace": "foo"},
        "spec": rules,
    }


def resolved(value: Any, named: dict[str, Any]) -> Any:
    """Return *value* with `@JWKS` and `@TokenName` replaced by what they name."""
    if isinstance(value, dict):
        return {key: resolved(one, named) for key, one in value.items()}
    if isinstance(value, list):
        return [resolved(one, named) for one in value]
    if isinstance(value, str) and "@" in value:
        for name in sorted(named, key=len, reverse=True):
            value = value.replace(f"@{name}", named[name])
    return value


@needs_vectors
@pytest.mark.parametrize(
    "suite", cases("jwt_request_auth.json", "suites"), ids=lambda suite: suite["id"]
)
def test_tokens_in_headers_are_verified_as_istio_would(suite: dict[str, Any], check: Check) -> None:
    data = json.loads((VECTORS / "jwt_request_auth.json").read_text())
    named = {name: one["jwt"] for name, one in data["tokens"].items()}
    named["JWKS"] = json.dumps(data["jwks"])
    for unreachable in ("JWKS_URI_DELAY_500MS", "JWKS_URI_404"):  # nobody is asked here
        named[unreachable] = "http://127.0.0.1:9/keys"
    for number, spec in enumerate(suite["requestAuthentications"]):
        check.document(f"a{number}.json", token_authentication(resolved(spec, named), number))
    for number, spec in enumerate(suite["authorizationPolicies"]):
        check.document(f"p{number}.json", policy(spec, f"p{number}"))
    requests = [resolved(one, named) for one in suite["requests"]]
    answers = check.ask(requests, *workload("foo", {}), "--compat", "istio")
    found = [(one["name"], one["status"]) for one in answers]
    assert found == [(one["name"], one["status"]) for one in requests], check.told
    refusing = {401: "refuse", 200: "allow"}
    for one in answers:
        assert one["verdict"] in (refusing.get(one["status"]), "deny", "refuse"), one
    assert all(one["verdict"] == "refuse" for one in answers if one["status"] == 401)


@needs_vectors
def test_paths_are_matched_in_the_spelling_that_is_forwarded(check: Check) -> None:
    """A case is asked twice: by a policy that allows its result, and by one that denies it."""
    plain = [
        (one["in"], one["out"], one["mode"])
        for one in cases("path_normalization.json", "normalize")
    ]
    plain += [
        (one["in"], one["out"], "BASE")
        for one in cases("path_normalization.json", "strip_query_and_fragment_for_matching")
        if one["in"].startswith("/") and "#" not in one["in"]
    ]
    asked = 0
    for mode in {mode for _, _, mode in plain}:
        chosen = [(path, out) for path, out, known in plain if known == mode and sendable(path)]
        outs = sorted({out.partition("?")[0] for _, out in chosen if out is not None})
        for name in check.policies.iterdir():
            name.unlink()
        rules = [{"to": [{"operation": {"paths": [out]}}]} for out in outs if is_value(out)]
        check.document("a.json", policy({"rules": rules}))
        answers = check.ask(
            ({"path": path, "method": "GET"} for path, _ in chosen),
            *workload("foo", {}),
            *check.mesh({"pathNormalization": mode}),
            *("--compat", "istio"),
        )
        for (path, out), answer in zip(chosen, answers, strict=True):
            if out is None:
                assert (answer["verdict"], answer["status"]) == ("refuse", 400), (mode, path)
            elif is_value(out.partition("?")[0]):
                wanted = outs.index(out.partition("?")[0])
                assert answer["verdict"] == "allow", (mode, path, out, answer)
                assert rules[answer["rule"]] == {"to": [{"operation": {"paths": [outs[wanted]]}}]}
            asked += 1
    assert asked > 200


def sendable(path: str) -> bool:
    """Whether a request line can hold *path* as the vectors mean it."""
    return path.startswith("/") and "#" not in path


def is_value(path: str) -> bool:
    """Whether a policy can name *path* and nothing else."""
    return bool(path) and not set("*{}") & set(path)


@needs_vectors
def test_path_templates_match_as_envoys_do(check: Check) -> None:
    seen = 0
    for case in cases("path_templates.json", "matching"):
        rules = [{"to": [{"operation": {"paths": case["templates"]}}]}]
        check.document("a.json", policy({"rules": rules}))
        (answer,) = check.ask([{"path": case["path"]}], *workload("foo", {}), "--compat", "istio")
        if answer["verdict"] == "refuse":
            assert not case["match"], (case, answer)
        else:
            assert (answer["verdict"] == "allow") is case["match"], (case, answer)
        seen += 1
    assert seen == 44


@needs_vectors
def test_what_istio_refuses_of_a_policy_answers_nothing(check: Check) -> None:
    seen = 0
    for case in cases("authz_policy_validation.json", "policies"):
        extra = {"annotations": case["annotations"]} if "annotations" in case else {}
        check.document("a.json", policy(case["spec"], **extra))
        check.run("--policy", str(check.policies), "--as", "a/b", *workload("foo", {}))
        valid = case["valid"] and case["name"] != "custom-good"
        assert (check.code != 78) is valid, (case, check.told)
        seen += 1
    for case in cases("authz_policy_validation.json", "when_conditions"):
        when = {"key": case["key"], "values": case["values"]}
        check.document("a.json", policy({"rules": [{"when": [when]}]}))
        check.run("--policy", str(check.policies), "--as", "a/b", *workload("foo", {}))
        assert (check.code != 78) is case["valid"], (case, check.told)
        seen += 1
    assert seen == 96


@needs_vectors
@pytest.mark.parametrize(
    "case", cases("peer_authentication.json", "merge"), ids=lambda case: case["name"]
)
def test_peer_authentications_are_merged_as_istio_merges_them(
    case: dict[str, Any], check: Check
) -> None:
    for number, one in enumerate(case["policies"]):
        second = 30 + one.get("createdOffsetSeconds", 0)
        metadata = {
            "name": f"p{number}",
            "namespace": one["namespace"],
            "creationTimestamp": f"2026-01-01T00:00:{second}Z",
        }
        document = {"kind": "PeerAuthentication", "apiVersion": "security.istio.io/v1"}
        check.document(f"{number}.json", {**document, "metadata": metadata, "spec": one["spec"]})
    check.document("z.json", policy({"rules": [{}]}, namespace=case["rootNamespace"]))
    ports = {9999: case["effectiveMode"]}
    ports |= {int(port): mode for port, mode in case["perPort"].items()}
    for port, mode in ports.items():
        questions = [
            {"source": source, "destination": {"port": port}}
            for source in ({}, {"principal": "spiffe://cluster.local/ns/a/sa/b"})
        ]
        answers = check.ask(
            questions,
            *workload("my-ns", {"app": "foo"}),
            *check.mesh({"rootNamespace": case["rootNamespace"]}),
            *("--compat", "istio"),
        )
        passed = tuple(one["verdict"] == "allow" for one in answers)
        modes = {(False, True): "STRICT", (True, True): "PERMISSIVE", (True, False): "DISABLE"}
        assert modes[passed] == mode, (port, check.told)


@needs_vectors
def test_connections_are_refused_as_their_mode_says(check: Check) -> None:
    sources: dict[str, dict[str, Any]] = {
        "plaintext": {},
        "tls_no_client_cert": {"mtls": True},
        "mtls_valid_svid": {"principal": "spiffe://cluster.local/ns/a/sa/b"},
    }
    check.document("a.json", policy({"rules": [{}]}))
    seen = 0
    for case in cases("peer_authentication.json", "connection"):
        if case["client"] not in sources:
            continue  # what a certificate's chain proves is the handshake's: tests/net/test_tls.py
        spec = {"mtls": {"mode": case["mode"]}}
        document = {"kind": "PeerAuthentication", "apiVersion": "security.istio.io/v1"}
        metadata = {"name": "p", "namespace": "foo"}
        check.document("b.json", {**document, "metadata": metadata, "spec": spec})
        (answer,) = check.ask([{"source": sources[case["client"]]}], *workload("foo", {}))
        assert (answer["verdict"] == "refuse") is (case["result"] == "refuse"), case
        seen += 1
    assert seen == 6


@needs_vectors
def test_identities_are_matched_as_istio_matches_them(check: Check) -> None:
    asked = 0
    for group, field in (("service_accounts", "serviceAccount"), ("namespaces", "namespace")):
        for case in cases("identity_match.json", group):
            rules = [{"from": [{"source": {f"{field}s": [case[field]]}}]}]
            check.document("a.json", policy({"rules": rules}))
            question = {"source": {"principal": case["identity"]}}
            (answer,) = check.ask([question], *workload("foo", {}), "--compat", "istio")
            assert (answer["verdict"] == "allow") is case["match"], (case, answer, check.told)
            asked += 1
    assert asked == 19


@needs_vectors
def test_principals_of_any_of_the_meshs_names_are_the_same(check: Check) -> None:
    asked = 0
    for case in cases("identity_match.json", "trust_domain_aliases"):
        rules = [{"from": [{"source": {"principals": case["principals"]}}]}]
        check.document("a.json", policy({"rules": rules}))
        mesh = {"trustDomain": case["trustDomain"], "trustDomainAliases": case["aliases"]}
        questions = [
            {"source": {"principal": f"spiffe://{one}"}}
            for one in case["expanded"]
            if "*" not in one and not one.startswith("/")
        ]
        questions.append({"source": {"principal": "spiffe://stranger/ns/foo/sa/none"}})
        answers = check.ask(questions, *workload("foo", {}), *check.mesh(mesh), "--compat", "istio")
        verdicts = [one["verdict"] for one in answers]
        open_ = "allow" if "*" in case["principals"] else "deny"
        assert verdicts == ["allow"] * (len(questions) - 1) + [open_], (case, check.told)
        asked += len(questions)
    assert asked > 25


@needs_vectors
def test_only_spiffe_ids_are_identities(check: Check) -> None:
    check.document("a.json", policy({"rules": [{}]}))
    ids = cases("spiffe_ids.json", "spiffe_ids")
    questions = [{"source": {"principal": one["in"]}} for one in ids if one["in"]]
    answers = check.ask(questions, *workload("foo", {}))
    for case, answer in zip((one for one in ids if one["in"]), answers, strict=True):
        assert answer["verdict"] == ("allow" if case["valid"] else "refuse"), (case, answer)
    assert len(answers) == len(ids) - 1
