"""One question, one line: who may what, by which rule, and if not, what was missing."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

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
        ((*ALICE, "--header", "x"), 2, "NAME:VALUE"),
        ((*ALICE, "--ip", "x"), 2, "not an IP address"),
        ((*ALICE, "--port", "0"), 2, "not a port"),
        ((*ALICE, "--workload", "files"), 2, "not NS/NAME"),
        ((*ALICE, "--workload", "A/b"), 2, "not a namespace"),
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
        ('{"pathNormalization": "ALL"}', "`pathNormalization`"),
    ],
)
def test_a_mesh_that_is_wrong_is_told(text: str, told: str, check: Check) -> None:
    (check.folder / "mesh.json").write_text(text)
    assert ask(check, *ALICE, "--mesh", "mesh.json") == ""
    assert check.code == 2
    assert told in check.told


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


# -- many requests


def test_what_is_no_request_keeps_its_place_and_is_told(check: Check) -> None:
    long = '{"name": "' + "x" * (4 << 20) + '"}'
    good = json.dumps({"name": "good", "source": {"principal": "spiffe://a/b"}, "path": "/"})
    lines = [good, "{", "", "[]", '{"a": 1, "a": 2}', long, '{"path": "\\udcff"}', good]
    (check.folder / "r.jsonl").write_text("\n".join(lines))
    check.document("a.json", policy({"rules": [{}]}))
    answers = check.answers("--policy", str(check.policies), "--requests", "r.jsonl")
    verdicts = ["allow", "refuse", "refuse", "refuse", "refuse", "refuse", "allow"]
    assert [one["verdict"] for one in answers] == verdicts
    assert [one["reason"][:7] for one in answers[1:5]] == [
        "line 2 ",
        "line 4 ",
        "line 5 ",
        "line 6 ",
    ]
    assert check.code == 1


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"protocol": "udp"}, "`protocol`"),
        ({"source": []}, "`source` is not an object"),
        ({"source": {"principle": "x"}}, "`source.principle` is not known"),
        ({"source": {"mtls": 1}}, "`source.mtls`"),
        ({"source": {"mtls": False, "principal": "spiffe://a/b"}}, "without `mtls`"),
        ({"source": {"ip": "x"}}, "`source.ip`"),
        ({"destination": {"port": "80"}}, "`destination.port`"),
        ({"headers": "x"}, "`headers`"),
        ({"headers": [["a"]]}, "`headers`"),
        ({"headers": {"a": 1}}, "header `a`"),
        ({"jwtClaims": []}, "`jwtClaims`"),
        ({"method": 1}, "`method`"),
    ],
)
def test_a_field_that_is_wrong_is_named(request_: dict[str, Any], why: str, check: Check) -> None:
    (answer,) = check.ask([request_])
    assert (answer["verdict"], answer["status"], check.code) == ("refuse", 0, 1)
    assert why in answer["reason"]


OPEN = policy({"rules": [{}]})


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"path": "/a%00"}, 400),
        ({"path": "/a b"}, 400),
        ({"path": "/a\r\nx: y"}, 400),
        ({"path": "a"}, 400),
        ({"method": "get"}, 400),
        ({"host": "a b"}, 400),
        ({"headers": [["a b", "c"]]}, 400),
        ({"headers": [["a", "b\nc: d"]]}, 400),
        ({"headers": [["host", "c"]]}, 200),
        ({"host": "b", "headers": [["host", "c"]]}, 400),
        ({"headers": [["content-length", "5"]]}, 400),
        ({"headers": [["transfer-encoding", "chunked"]]}, 400),
        ({"headers": [["a", "x" * 20_000]]}, 431),
        ({"mcp": {"a": "x" * 70_000}}, 413),
        ({"path": "/a%2Fb"}, 200),
        ({"mcp": "not a message"}, 200),
        ({"headers": {"a": ["b", "c"], "d": "e"}}, 200),
        ({"protocol": "tcp"}, 0),
    ],
)
def test_a_request_is_read_as_a_running_sidecar_reads_it(
    request_: dict[str, Any], status: int, check: Check
) -> None:
    check.document("a.json", OPEN)
    (answer,) = check.ask([{"source": {"principal": "spiffe://a/b"}, **request_}])
    assert (answer["verdict"], answer["status"]) == (
        "allow" if status in (0, 200) else "refuse",
        status,
    )


@pytest.mark.parametrize(
    ("source", "mode", "refused"),
    [
        ({}, "STRICT", True),
        ({"mtls": True}, "STRICT", True),
        ({"principal": "spiffe://a/b"}, "STRICT", False),
        ({}, "PERMISSIVE", False),
        ({"mtls": True}, "PERMISSIVE", True),
        ({"principal": "spiffe://a/b"}, "PERMISSIVE", False),
        ({}, "DISABLE", False),
        ({"principal": "spiffe://a/b"}, "DISABLE", True),
        ({"principal": "spiffe://a"}, "STRICT", False),
        ({"principal": "spiffe://A/b"}, "STRICT", True),
        ({"principal": "ns/sa"}, "STRICT", True),
    ],
)
def test_what_a_handshake_refuses_is_refused_first(
    source: dict[str, Any], mode: str, refused: bool, check: Check
) -> None:
    check.document("a.json", OPEN)
    peers = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "p", "namespace": "foo"},
        "spec": {"mtls": {"mode": mode}},
    }
    check.document("b.json", peers)
    (answer,) = check.ask([{"name": "n", "source": source, "path": "/"}])
    assert (answer["name"], answer["verdict"], answer["status"]) == (
        ("n", "refuse", 0) if refused else ("n", "allow", 200)
    )
    assert check.code == (3 if refused else 0)


def test_requests_are_read_from_stdin(check: Check) -> None:
    check.document("a.json", OPEN)
    line = json.dumps({"name": "one", "source": {"principal": "spiffe://a/b"}})
    argv = ["authz", "check", "--policy", "policies", "--requests", "-"]
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", *argv],
        input=f"{line}\n{line}\n",
        capture_output=True,
        text=True,
        cwd=check.folder,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(one)["at"] for one in done.stdout.splitlines()] == ["policies/a.json:1"] * 2
    assert io.StringIO(done.stdout).readline().startswith('{"name": "one", "verdict": "allow"')
