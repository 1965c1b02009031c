"""The sidecar's own line of a request is found, however late it is written."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from sidecar.demo import access
from sidecar.demo.access import AccessLog, Line

FIRST = {"request_id": "a", "verdict": "deny", "reason": "denied", "rule": "ns/p#0", "at": "f:3"}
FAILED = {"event": "handshake_failed", "reason": "no_certificate"}


def lines(*records: dict[str, object]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def test_a_line_is_found_by_its_request(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text(lines({"request_id": "b"}, FIRST, FAILED))
    assert AccessLog(path).line_of("a") == Line("deny", "denied", "ns/p#0", "f:3")
    assert AccessLog(path).line_with("event", "handshake_failed").reason == "no_certificate"


def test_a_line_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    half = lines(FIRST)[:20]
    path.write_text(half)
    late = threading.Timer(0.1, lambda: path.write_text(lines(FIRST)))
    late.start()
    assert AccessLog(path).line_of("a").rule == "ns/p#0"
    late.join()


def test_no_line_is_an_empty_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "PATIENCE", 0.05)
    assert AccessLog(tmp_path / "absent").line_of("a") == Line()
    assert AccessLog(tmp_path / "absent").line_of("") == Line()
