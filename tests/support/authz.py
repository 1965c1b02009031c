"""`sidecar authz check` as tests run it: documents in a folder, questions as lines.

check = Check(tmp_path)
check.document("p.yaml", {...})
(answer,) = check.ask([{"method": "GET", "path": "/a"}], "--compat", "istio")
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from sidecar import cli


class Check:
    """A folder of documents, and the command; `code`, `said` and `told` are of its last run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.policies = folder / "policies"
        self.policies.mkdir(exist_ok=True)
        self.code = -1
        self.said = ""
        self.told = ""

    def document(self, name: str, document: Mapping[str, Any] | str) -> Path:
        """Write one document, as JSON or as text."""
        path = self.policies / name
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    def run(self, *argv: str) -> str:
        """Run `sidecar authz check` with *argv*; return what it says."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                self.code = cli.main(["authz", "check", *argv])
            except SystemExit as error:
                self.code = int(str(error.code))
        self.said, self.told = out.getvalue(), err.getvalue()
        return self.said

    def ask(self, requests: Iterable[Mapping[str, Any]], *argv: str) -> list[dict[str, Any]]:
        """Ask about *requests* with the documents written so far; return the answers."""
        file = self.folder / "requests.jsonl"
        file.write_text("".join(f"{json.dumps(one)}\n" for one in requests))
        return self.answers("--policy", str(self.policies), "--requests", str(file), *argv)

    def answers(self, *argv: str) -> list[dict[str, Any]]:
        """Run the command; return its lines of JSON."""
        return [json.loads(line) for line in self.run(*argv).splitlines()]

    def mesh(self, settings: Mapping[str, Any]) -> list[str]:
        """Return the flags for a mesh with *settings*."""
        path = self.folder / "mesh.json"
        path.write_text(json.dumps(settings))
        return ["--mesh", str(path)]


def workload(namespace: str, labels: Mapping[str, str]) -> list[str]:
    """Return the flags for a workload."""
    pairs = ",".join(f"{key}={value}" for key, value in labels.items())
    return ["--workload", f"{namespace}/server", *(["--labels", pairs] if pairs else [])]


def policy(
    spec: Mapping[str, Any], name: str = "p", namespace: str = "foo", **metadata: Any
) -> dict[str, Any]:
    """Return an AuthorizationPolicy as its file holds it."""
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": spec,
    }
