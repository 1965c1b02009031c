"""The script's verdicts come from what was seen: a hole anywhere shows in its row."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sidecar.demo import documents
from sidecar.demo import play as module
from sidecar.demo.access import Line
from sidecar.demo.client import NoConnection, Reply
from sidecar.demo.play import Row, play

FOUR = ["list_files", "read_file", "write_file", "delete_file"]
LINES = {
    "allowed": Line("allow", rule="server/readers#0", at="policy.yaml:9"),
    "denied": Line("deny", "denied"),
    "injection": Line("deny", "injection", "server/injections", "policy.yaml:36", "pattern `p`"),
}


def result(value: dict[str, Any]) -> Reply:
    return Reply(200, "allowed", {"result": value}, 1.0)


def text(value: str) -> Reply:
    return result({"content": [{"type": "text", "text": value}], "isError": False})


def refusal(reason: str) -> Reply:
    return Reply(403, reason, {"error": {"code": -32004, "data": {"reason": reason}}}, 1.0)


class FakeCaller:
    def __init__(self, mesh: FakeMesh, name: str) -> None:
        self.mesh, self.name = mesh, name

    def connect(self) -> None:
        pass

    def close(self) -> None:
        pass

    def tools(self) -> Reply:
        return result({"tools": [{"name": name} for name in self.mesh.visible]})

    def call(self, tool: str, path: str = "") -> Reply:
        if not self.name and not self.mesh.admits_anybody:
            raise NoConnection("CERTIFICATE_REQUIRED")
        if tool == self.mesh.hangs_up_on:
            raise NoConnection("the other end closed it")
        if tool == "delete_file":
            if self.mesh.deletes:
                (self.mesh.root / path).unlink()
            return refusal("denied")
        if self.name == "agent/mallory":
            return refusal("denied")
        if documents.PHRASE in path or (path == "report.txt" and self.mesh.scans):
            return refusal("injection")
        return self._read(tool, path)

    def _read(self, tool: str, path: str) -> Reply:
        if tool == "list_files":
            self.mesh.calls += 1
            lost = self.mesh.loses and self.mesh.calls == 2
            return refusal("upstream") if lost else text("notes.txt\nreport.txt")
        return text((self.mesh.root / path).read_text())


@dataclass
class FakeMesh:
    root: Path
    visible: list[str] = field(default_factory=lambda: FOUR[:2])
    admits_anybody: bool = False
    deletes: bool = False
    scans: bool = True
    loses: bool = False
    ejects: bool = True
    hangs_up_on: str = ""
    calls: int = 0
    killed: int = 0
    ports: list[int] = field(default_factory=lambda: [1, 2, 3])

    @property
    def log(self) -> FakeMesh:
        return self

    @property
    def replicas(self) -> list[FakeMesh]:
        return [self]

    def kill(self) -> None:
        self.killed += 1

    def caller(self, name: str) -> FakeCaller:
        return FakeCaller(self, name)

    def line_of(self, request_id: str) -> Line:
        return LINES.get(request_id, Line())

    def line_with(self, field: str, value: str) -> Line:
        assert (field, value) == ("event", "handshake_failed")
        return Line(reason="no_certificate")

    def admin_text(self, path: str) -> tuple[int, str]:
        assert path == "/metrics"
        value = 1.0 if self.ejects and self.calls > 3 else 0.0
        name = 'sidecar_upstream_ejected{cluster="files",endpoint="127.0.0.1:'
        return 200, f'{name}1"}} 0.0\n{name}3"}} {value}\n'


@pytest.fixture
def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMesh:
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    monkeypatch.setattr(module, "MIN_CALLS", 5)
    monkeypatch.setattr(module, "MAX_CALLS", 20)
    (tmp_path / "notes.txt").write_text(documents.NOTES)
    (tmp_path / "report.txt").write_text(documents.POISON)
    return FakeMesh(tmp_path)


def rows(mesh: Any) -> list[Row]:
    return list(play(mesh))


def test_a_mesh_that_works_gives_eight_rows_as_expected(mesh: FakeMesh) -> None:
    played = rows(mesh)
    assert [row.n for row in played] == list(range(1, 9))
    assert [row.verdict for row in played] == [
        "ALLOW",
        "ALLOW",
        "DENY",
        "DENY",
        "REFUSED",
        "BLOCKED",
        "BLOCKED",
        "EJECTED",
    ]
    assert all(row.as_expected for row in played)
    assert mesh.killed == 1


def test_rules_and_reasons_are_the_sidecars_own(mesh: FakeMesh) -> None:
    played = rows(mesh)
    assert (played[0].rule, played[0].at) == ("server/readers#0", "policy.yaml:9")
    assert played[1].why == "2 of 4 tools visible"
    assert played[2].why == "no rule allows this tool"
    assert played[4].why == "no certificate"
    assert (played[5].rule, played[5].detail) == ("server/injections", "pattern `p`")
    assert played[7].why == "5 of 5 calls answered, port 3 out"


@pytest.mark.parametrize(
    ("fault", "n", "verdict"),
    [
        ({"visible": FOUR}, 2, "BYPASSED"),
        ({"visible": []}, 2, "BYPASSED"),
        ({"deletes": True}, 3, "BYPASSED"),
        ({"admits_anybody": True}, 5, "ALLOW"),
        ({"scans": False}, 7, "BYPASSED"),
        ({"loses": True}, 8, "LOST"),
        ({"ejects": False}, 8, "UNNOTICED"),
        ({"hangs_up_on": "delete_file"}, 3, "NO REPLY"),
        ({"hangs_up_on": "list_files"}, 8, "NO REPLY"),
    ],
)
def test_a_hole_shows_in_its_row(
    mesh: FakeMesh, fault: dict[str, Any], n: int, verdict: str
) -> None:
    for name, value in fault.items():
        setattr(mesh, name, value)
    [wrong] = [row for row in rows(mesh) if not row.as_expected]
    assert (wrong.n, wrong.verdict) == (n, verdict)


def test_a_reply_that_is_neither_is_named_by_its_status(mesh: FakeMesh) -> None:
    mesh.visible = []
    reply = Reply(502, "", {}, 1.0)
    assert module._verdict(reply) == "HTTP 502"
    assert module._verdict(refusal("overloaded")) == "OVERLOADED"
    failed = result({"content": [{"text": "no file"}], "isError": True})
    assert module._verdict(failed) != "ALLOW"
