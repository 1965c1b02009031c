from __future__ import annotations

import json
from pathlib import Path

import pytest

from sidecar.cli import main

BOOT = """\
apiVersion: sidecar/v1
kind: Sidecar
metadata: {name: files, namespace: home, labels: {app: files}}
spec:
  inbound: [{listen: "127.0.0.1:8443", to: "http://127.0.0.1:9000"}]
  documents: [./policies]
"""
POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers}
spec:
  rules:
  - from: [{source: {namespaces: [agent]}}]
    to: [{operation: {tools: [read_file]}}]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bootstrap and one sound policy in a folder of our own."""
    tmp_path.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    Path("policies").mkdir(mode=0o755)
    write("boot.yaml", BOOT)
    write("policies/a.yaml", POLICY)


def write(name: str, text: str) -> None:
    Path(name).write_text(text)
    Path(name).chmod(0o644)


def test_nothing_wrong_is_said_and_is_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "boot.yaml"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "no problems: 2 documents in 2 files\n"


def test_every_problem_is_shown_and_an_error_is_exit_78(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(
        "policies/a.yaml",
        POLICY.replace("tools:", "tool:").replace("rules:", "selector: {}\n  rules:"),
    )
    write("policies/b.yaml", "a: [\n")
    assert main(["validate", "boot.yaml"]) == 78
    out, err = capsys.readouterr()
    assert out == ""
    assert "error[SC0204]: unknown field `tool` in spec.rules[0].to[0].operation" in err
    assert "--> policies/a.yaml:8:23" in err
    assert "warning[SC0411]" in err
    assert "error[SC0102]" in err
    assert err.endswith("\n2 errors, 1 warning.\n")


def test_warnings_alone_are_success(capsys: pytest.CaptureFixture[str]) -> None:
    write("policies/a.yaml", POLICY.replace("rules:", "selector: {}\n  rules:"))
    assert main(["validate", "boot.yaml"]) == 0
    assert capsys.readouterr().err.endswith("\n1 warning.\n")


def test_json_is_a_list_of_problems_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    write("policies/a.yaml", POLICY.replace("tools:", "tool:"))
    assert main(["validate", "-o", "json", "boot.yaml"]) == 78
    out, err = capsys.readouterr()
    (problem,) = json.loads(out)
    assert (problem["level"], problem["code"], problem["file"], problem["line"]) == (
        "error",
        "SC0204",
        "policies/a.yaml",
        7,
    )
    assert problem["help"] == "did you mean `tools`?"
    assert err == ""


def test_json_of_nothing_wrong_is_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "-o", "json", "boot.yaml"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_what_documents_get_wrong_together_is_found_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("boot.yaml", BOOT.replace("http://127.0.0.1:9000", "gone.example"))
    write(
        "policies/a.yaml",
        POLICY.replace("rules:", "selector: {matchLabels: {app: fils}}\n  rules:"),
    )
    assert main(["validate", "boot.yaml"]) == 78
    err = capsys.readouterr().err
    assert "gone.example" in err
    assert "`readers` is not for this workload" in err


def test_documents_without_a_bootstrap_are_checked_one_by_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["validate", "policies"]) == 0
    assert "one by one only" in capsys.readouterr().err


def test_a_missing_file_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "gone.yaml"]) == 78
    assert "error[SC0801]: `gone.yaml` does not exist" in capsys.readouterr().err


def test_no_colour_is_written_to_what_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    write("policies/a.yaml", "a: [\n")
    main(["validate", "boot.yaml"])
    assert "\x1b" not in capsys.readouterr().err


def test_without_files_the_usage_is_wrong() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["validate"])
    assert caught.value.code == 2
