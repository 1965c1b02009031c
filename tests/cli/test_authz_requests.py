"""Many requests, a line each: judged in order, read as a running sidecar reads them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.authz import Check, policy

from sidecar.cli.authz_judge import Judge
from sidecar.cli.authz_request import Malformed, from_line
from sidecar.config.loaded import parse_documents
from sidecar.config.report import visible

BOOTSTRAP = {
    "apiVersion": "sidecar/v1",
    "kind": "Sidecar",
    "metadata": {"name": "a", "namespace": "foo"},
    "spec": {"inbound": [{"listen": "127.0.0.1:8443", "to": "http://127.0.0.1:9000"}]},
}


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.chdir(tmp_path)
    return Check(tmp_path)


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


def test_a_request_that_is_wrong_keeps_its_name(check: Check) -> None:
    answers = check.ask([{"name": "a", "path": 1}, {"name": 5}, {"path": 1}])
    assert [one["name"] for one in answers] == ["a", None, None]


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
    assert done.stdout.startswith('{"name": "one", "verdict": "allow"')


def sidecar_reading(check: Check, *, stdin: int | None = None) -> subprocess.Popen[str]:
    """Start the command as whoever pipes requests through it would."""
    check.document("a.json", OPEN)
    argv = ("authz", "check", "--policy", str(check.policies), "--requests", "-")
    return subprocess.Popen(
        [sys.executable, "-m", "sidecar", *argv, "--compat", "istio"],
        stdin=subprocess.PIPE if stdin is None else stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_each_line_is_answered_before_the_next_one_comes(check: Check) -> None:
    with sidecar_reading(check) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for name in ("a", "b"):
            process.stdin.write(json.dumps({"name": name}) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["name"] == name
        process.stdin.close()
        assert process.wait(10) == 0


def test_a_reader_that_leaves_ends_the_command_quietly(check: Check) -> None:
    file = check.folder / "many.jsonl"
    file.write_text(json.dumps({"name": "x" * 1000}) + "\n")
    file.write_text(file.read_text() * 500)
    with file.open("rb") as many, sidecar_reading(check, stdin=many.fileno()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait(10)) == ("", 1)


def test_what_istios_validation_refuses_is_taken_as_its_compiler_takes_it(check: Check) -> None:
    ports = {"to": [{"operation": {"ports": ["81", "x"]}}]}
    check.document("a.json", policy({"action": "DENY", "rules": [ports]}))
    questions = [{"destination": {"port": port}} for port in (80, 81)]
    assert check.ask(questions) == []
    assert check.code == 78
    answers = check.ask(questions, "--compat", "istio")
    assert [one["verdict"] for one in answers] == ["allow", "deny"]
    assert "warning[SC0407]" in check.told
    assert check.run("--policy", str(check.policies), "--as", "a/b", "--compat", "istio") == ""
    assert check.code == 78


def test_what_no_filter_says_is_missing_in_recorded_requests(check: Check) -> None:
    condition = {"key": "experimental.envoy.filters.a.b[c]", "values": ["d"]}
    check.document("a.json", policy({"action": "DENY", "rules": [{"when": [condition]}]}))
    assert check.ask([{}]) == []
    assert check.code == 78
    answers = check.ask([{}, {"protocol": "tcp"}], "--compat", "istio")
    assert [one["verdict"] for one in answers] == ["allow", "allow"]


@pytest.mark.parametrize(
    "spec",
    [
        {"rules": [{"to": []}]},  # would ask nothing at all, as would the next
        {"rules": [{"form": []}]},
        {"rules": [{}], "selecter": {}},
        {"action": "DENY"},
        {"rules": [{"from": [{"source": {"principals": [""]}}]}]},
        {"rules": [{"from": [{"source": {"serviceAccounts": ["a"], "principals": ["b"]}}]}]},
        {"rules": [{"to": [{"operation": {"paths": ["/{a}"]}}]}]},
        {"rules": [{}], "action": "CUSTOM"},
    ],
)
def test_what_istios_compiler_would_not_leave_out_is_refused(
    spec: dict[str, Any], check: Check
) -> None:
    check.document("a.json", policy(spec))
    assert check.ask([{}], "--compat", "istio") == []
    assert check.code == 78


def judge() -> Judge:
    allow = policy({"rules": [{"to": [{"operation": {"tools": ["a"], "paths": ["/mcp"]}}]}]})
    text = f"{json.dumps(BOOTSTRAP)}\n---\n{json.dumps(allow)}"
    loaded = parse_documents(text.encode(), "f.yaml")
    assert loaded.bootstrap is not None
    return Judge(loaded.bootstrap, loaded.documents)


JUDGE = judge()
TEXTS = st.text(st.sampled_from('aZ0 /:%\r\n\0é\u202e\ud800{}"\\'), max_size=9)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
SOURCES = st.dictionaries(
    st.sampled_from(["mtls", "principal", "ip", "remoteIp"]),
    VALUES | st.sampled_from([True, "spiffe://a/b", "10.0.0.1"]),
)
NAMES = ("name", "protocol", "source", "destination", "method", "path", "host", "headers")


@settings(max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from([*NAMES, "sni", "jwtClaims", "mcp"]),
        VALUES | SOURCES | st.sampled_from(["GET", "POST", "/mcp", "tcp", "http"]),
    )
)
def test_every_line_has_an_answer(request_: dict[str, Any]) -> None:
    try:
        question = from_line(json.dumps(request_))
    except Malformed:
        return
    answer = JUDGE.answer(question, 0.0)
    assert answer.verdict in ("allow", "deny", "refuse")
    assert answer.reason
    assert json.loads(json.dumps(answer.as_dict()))["verdict"] == answer.verdict
    assert "\n" not in visible(answer.line("a", "b"))
