"""One question, one line: who may what, by which rule, and if not, what was missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.authz import Check, policy

RULES = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: mcp-prod}
spec:
  selector: {matchLabels: {app: files}}
  rules:
  - from: [{source: {principals: ["cluster.local/ns/agent/sa/alice"]}}]
    to:
    - operation: {paths: [/mcp], tools: ["read_*"]}
    - operation: {paths: [/mcp], prompts: [review]}
    - operation: {paths: [/mcp], resources: ["a:*"]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-secrets, namespace: mcp-prod}
spec:
  action: DENY
  rules:
  - to: [{operation: {tools: [read_secret]}}]
  - when: [{key: "mcp.argumentPaths[path]", values: ["/etc/*"]}]
"""
ALICE = ("--as", "agent/alice")
NEAREST = "nearest mcp-prod/readers#0 at rules.yaml:7: "


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.yaml").write_text(RULES)
    return Check(tmp_path)


def ask(check: Check, *argv: str) -> str:
    return check.run("--policy", "rules.yaml", *argv)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            (*ALICE, "--tool", "read_file"),
            "allow  agent/alice  tools/call read_file  mcp-prod/readers#0 at rules.yaml:7\n",
        ),
        (
            (*ALICE, "--tool", "read_secret"),
            "deny   agent/alice  tools/call read_secret  mcp-prod/no-secrets#0 at rules.yaml:19\n",
        ),
        (
            (*ALICE, "--tool", "read_file", "--arg", "path=/etc/passwd"),
            "deny   agent/alice  tools/call read_file  mcp-prod/no-secrets#1 at rules.yaml:20\n",
        ),
        (
            (*ALICE, "--tool", "delete_file"),
            f"deny   agent/alice  tools/call delete_file  {NEAREST}`tools` must be `read_*`\n",
        ),
        (
            ("--as", "agent/bob", "--tool", "read_file"),
            f"deny   agent/bob  tools/call read_file  {NEAREST}"
            "`principals` must be `cluster.local/ns/agent/sa/alice`\n",
        ),
        (
            (*ALICE, "--prompt", "review", "--arg", "a=b"),
            "allow  agent/alice  prompts/get review  mcp-prod/readers#0 at rules.yaml:7\n",
        ),
        (
            (*ALICE, "--resource", "a:1"),
            "allow  agent/alice  resources/read a:1  mcp-prod/readers#0 at rules.yaml:7\n",
        ),
        (
            (*ALICE, "--mcp-method", "tools/list"),
            "allow  agent/alice  tools/list  mcp-prod/readers#0 at rules.yaml:7\n",
        ),
        (
            (*ALICE, "--mcp-method", "notifications/initialized"),
            "allow  agent/alice  notifications/initialized  mcp-prod/readers#0 at rules.yaml:7\n",
        ),
        (
            (*ALICE, "--method", "GET"),
            "allow  agent/alice  GET /mcp  mcp-prod/readers#0 at rules.yaml:7\n",
        ),
        (
            (*ALICE, "--tool", "read_file", "--path", "/x/../mcp"),
            "allow  agent/alice  tools/call read_file  mcp-prod/readers#0 at rules.yaml:7\n",
        ),
        (
            ("--as", "spiffe://cluster.local/ns/agent/sa/alice", "--tool", "read_file"),
            "allow  spiffe://cluster.local/ns/agent/sa/alice  tools/call read_file  "
            "mcp-prod/readers#0 at rules.yaml:7\n",
        ),
        (
            (*ALICE, "--tool", "read_file", "--header", "content-type: text/plain"),
            "refuse agent/alice  tools/call read_file  "
            "`Content-Type` must be application/json in UTF-8\n",
        ),
        (
            (*ALICE, "--mcp-method", "tools/call"),
            "refuse agent/alice  tools/call  "
            "`tools/call` needs `name`: a string of 1 to 256 printable characters\n",
        ),
    ],
)
def test_one_question_is_answered_in_one_line(
    argv: tuple[str, ...], line: str, check: Check
) -> None:
    assert ask(check, *argv) == line
    assert check.code == (0 if line.startswith("allow") else 3)
    assert check.told == ""


def test_the_answer_in_json_has_everything_the_line_has(check: Check) -> None:
    said = ask(check, *ALICE, "--tool", "read_secret", "-o", "json")
    assert json.loads(said) == {
        "name": None,
        "verdict": "deny",
        "status": 403,
        "policy": "mcp-prod/no-secrets",
        "rule": 0,
        "at": "rules.yaml:19",
        "reason": "this rule denies it",
    }
    said = json.loads(ask(check, *ALICE, "--tool", "write", "-o", "json"))
    assert said["reason"] == (
        f"no rule allows it; {NEAREST}`tools` must be `read_*`, here it is `write`"
    )
    assert (said["policy"], said["rule"], said["at"]) == (None, None, None)


def test_what_a_name_holds_is_made_visible(check: Check) -> None:
    assert "\\x1b[31m" in ask(check, *ALICE, "--resource", "\x1b[31mred")


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        ((), 2, "one of `--as` and `--requests` is needed"),
        ((*ALICE, "--requests", "x"), 2, "and not both"),
        (("--as", "alice"), 2, "neither NS/SA nor a SPIFFE ID"),
        ((*ALICE, "--tool", "a", "--prompt", "b"), 2, "not allowed with"),
        ((*ALICE, "--tool", "a", "--arg", "b"), 2, "`--arg b` is not written as NAME=VALUE"),
        ((*ALICE, "--arg", "a=b"), 2, "`--arg` is there without"),
        ((*ALICE, "--tool", "a", "--arg", "b=c", "--arg", "b=d"), 2, "`--arg b` is there twice"),
        (("--requests", "x", "--tool", "a"), 2, "`--tool` is there beside `--requests`"),
        (("--requests", "x", "--mcp-method", "a"), 2, "`--mcp-method` is there beside"),
        (("--requests", "x", "--path", ""), 2, "`--path` is there beside"),
        ((*ALICE, "--header", "x"), 2, "NAME:VALUE"),
        ((*ALICE, "--ip", "x"), 2, "not an IP address"),
        ((*ALICE, "--port", "0"), 2, "not a port"),
        ((*ALICE, "--workload", "files"), 2, "not NS/NAME"),
        ((*ALICE, "--workload", "A/b"), 2, "not a namespace"),
        ((*ALICE, "--workload", "a/B"), 2, "`--workload a/B`: `B` is not a name"),
        ((*ALICE, "--labels", "app"), 2, "not K=V,K=V"),
        ((*ALICE, "--mesh", "none.json"), 1, "cannot be read"),
        (("--requests", "none.jsonl"), 1, "cannot be read"),
    ],
)
def test_a_wrong_command_line_is_told_and_answers_nothing(
    argv: tuple[str, ...], code: int, told: str, check: Check
) -> None:
    assert ask(check, *argv) == ""
    assert check.code == code
    assert told in check.told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "is not an object"),
        ("{", "is not JSON"),
        ('{"trustdomain": "a"}', "`trustdomain` is not known"),
        ('{"trustDomain": "A B"}', "`trustDomain`"),
        ('{"trustDomain": 1}', "not a string"),
        ('{"trustDomainAliases": "a"}', "not a list"),
        ('{"rootNamespace": "A"}', "`rootNamespace`"),
        ('{"pathNormalization": "ALL"}', "`ALL` is none of NONE, BASE, MERGE_SLASHES"),
        ('{"trustDomain": "a", "trustDomain": "b"}', "a key stands twice"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_mesh_that_is_wrong_is_told(text: str, told: str, check: Check) -> None:
    (check.folder / "mesh.json").write_text(text)
    assert ask(check, *ALICE, "--mesh", "mesh.json") == ""
    assert check.code == 2
    assert told in check.told


def test_a_setting_of_a_mesh_that_is_null_is_not_given(check: Check) -> None:
    (check.folder / "mesh.json").write_text('{"trustDomainAliases": null, "trustDomain": null}')
    assert ask(check, *ALICE, "--mesh", "mesh.json", "--tool", "read_file") != ""
    assert check.code == 0


@pytest.mark.parametrize("flag", ["--tool", "--prompt", "--resource", "--mcp-method"])
def test_an_empty_name_asks_nothing_else(flag: str, check: Check) -> None:
    """As of a shell's variable that is not set: the call that was meant is not another one."""
    assert ask(check, *ALICE, flag, "").startswith("refuse")
    assert check.code == 3


def test_one_flag_names_several_paths_of_policies(check: Check) -> None:
    closed = check.document("a.json", policy({}, "a"))
    open_ = check.document("b.json", policy({"rules": [{}]}, "b"))
    assert check.run("--policy", str(closed), *ALICE).startswith("deny")
    assert check.run("--policy", str(closed), str(open_), *ALICE).startswith("allow")
    assert check.run("--policy", str(closed), "--policy", str(open_), *ALICE).startswith("allow")


def test_policies_may_come_in_a_list(check: Check) -> None:
    policies = [
        policy({}, "a"),
        policy({"rules": [{"to": [{"operation": {"ports": ["x"]}}]}]}, "b"),
    ]
    listed = check.document("a.json", json.dumps(policies[:1]))
    assert check.run("--policy", str(listed), *ALICE).startswith("deny")
    check.document("a.json", json.dumps(policies))
    (answer,) = check.ask([{}], "--compat", "istio")
    assert (answer["verdict"], check.code) == ("deny", 3)


def test_documents_that_are_wrong_answer_nothing(check: Check) -> None:
    check.document("a.json", policy({"rules": [{"to": [{"operation": {"ports": ["x"]}}]}]}))
    assert check.run("--policy", str(check.policies), *ALICE) == ""
    assert check.code == 78
    assert "SC0407" in check.told
    assert check.run("--policy", "nowhere", *ALICE) == ""
    assert (check.code, "SC0801" in check.told) == (78, True)


def test_an_action_that_asks_an_outside_authorizer_is_refused_in_so_many_words(
    check: Check,
) -> None:
    custom = {"action": "CUSTOM", "provider": {"name": "x"}, "rules": [{}]}
    check.document("a.json", policy(custom))
    for more in ((), ("--compat", "istio")):
        assert check.run("--policy", str(check.policies), *ALICE, *more) == ""
        assert check.code == 78
        assert "outside authorizer" in " ".join(check.told.split())


# -- which workload is asked


def named(check: Check, *argv: str) -> str:
    """Return the rule that decides of `GET /`, or why there is none."""
    check.run("--policy", str(check.policies), *ALICE, "--path", "/", *argv)
    return check.said.split("  ")[-1].strip()


def test_without_a_workload_it_is_the_one_whose_policies_these_are(check: Check) -> None:
    selector = {"selector": {"matchLabels": {"app": "a"}}}
    check.document("a.json", policy({**selector, "rules": [{}]}, "p", "one"))
    check.document("root.json", policy({"rules": []}, "q", "istio-system"))
    assert named(check).startswith("one/p#0")
    assert named(check, "--labels", "app=b").startswith("no ALLOW rule")
    assert named(check, "--workload", "one/x").startswith("no ALLOW rule")
    assert "1 of the documents are not for this workload" in check.told
    assert named(check, "--workload", "one/x", "--labels", "app=a,v=1").startswith("one/p#0")


def test_documents_about_callers_tell_the_workload_too(check: Check) -> None:
    selector = {"selector": {"matchLabels": {"app": "a"}}}
    written = policy({**selector, "mtls": {"mode": "DISABLE"}}, "p", "one")
    check.document("a.json", {**written, "kind": "PeerAuthentication"})
    assert "mTLS DISABLE" in named(check)


def test_where_policies_are_for_several_workloads_one_must_be_named(check: Check) -> None:
    check.document("a.json", policy({"rules": [{}]}, "p", "one"))
    check.document("b.json", policy({"rules": [{}]}, "p", "two"))
    assert named(check) == ""
    assert (check.code, "several namespaces: one, two" in check.told) == (2, True)
    assert named(check, "--workload", "two/x").startswith("two/p#0")
    for name in ("a", "b"):
        selector = {"selector": {"matchLabels": {"app": name}}}
        check.document(f"{name}.json", policy({**selector, "rules": [{}]}, name, "one"))
    assert named(check) == ""
    assert (check.code, "`--labels app=b`" in check.told) == (2, True)
    assert named(check, "--labels", "app=b").startswith("one/b#0")


def test_a_bootstrap_among_the_documents_is_the_one_that_is_asked(check: Check) -> None:
    bootstrap = {
        "apiVersion": "sidecar/v1",
        "kind": "Sidecar",
        "metadata": {"name": "files", "namespace": "one", "labels": {"app": "a"}},
        "spec": {
            "trustDomain": "example.org",
            "numTrustedProxies": 1,
            "inbound": [{"listen": "127.0.0.1:8443", "to": "http://127.0.0.1:9000"}],
            "documents": ["./policies"],
        },
    }
    (check.folder / "sidecar.yaml").write_text(json.dumps(bootstrap))
    source = {"principals": ["example.org/ns/agent/sa/alice"], "remoteIpBlocks": ["10.0.0.1"]}
    selector = {"selector": {"matchLabels": {"app": "a"}}}
    check.document(
        "a.json", policy({**selector, "rules": [{"from": [{"source": source}]}]}, "p", "one")
    )
    argv = ("--policy", "sidecar.yaml", *ALICE)
    assert check.run(*argv, "--header", "x-forwarded-for: 10.0.0.1").startswith("allow")
    assert check.run(*argv).startswith("deny")
