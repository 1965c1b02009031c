"""The demo's output: a table of at most 100 columns, JSON, and colour only where it is wanted."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from sidecar.cli import demo, main
from sidecar.demo.play import Row

GOOD = Row(
    4,
    "mallory",
    "tools/call read_file",
    "DENY",
    "DENY",
    "server/no-mallory#0",
    "policies/policy.yaml:19",
    ms=0.53,
)


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_a_row_says_who_what_verdict_rule_place_and_time() -> None:
    line = demo._table_line(GOOD, coloured=False)
    assert line.split() == [
        "4",
        "mallory",
        "tools/call",
        "read_file",
        "DENY",
        "server/no-mallory#0",
        "policy.yaml:19",
        "0.5",
    ]


@pytest.mark.parametrize("long", ["caller", "request", "verdict", "rule", "at", "why"])
def test_no_row_is_wider_than_100_columns(long: str) -> None:
    fields: dict[str, Any] = {
        "n": 12,
        "caller": "alice",
        "request": "r",
        "verdict": "ALLOW",
        "expected": "ALLOW",
        "ms": 12345.6,
    }
    fields[long] = "x" * 300
    assert len(demo._table_line(Row(**fields), coloured=False)) <= 100
    assert len(demo._line(demo._TITLES)) <= 100


def test_an_unexpected_verdict_says_what_was_expected() -> None:
    row = Row(1, "alice", "tools/list", "BYPASSED", "ALLOW")
    assert "expected ALLOW" in demo._table_line(row, coloured=False)
    assert "\x1b[31mBYPASSED" in demo._table_line(row, coloured=True)


def test_colour_is_for_terminals_and_not_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert demo._coloured(Terminal())
    assert not demo._coloured(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not demo._coloured(Terminal())
    assert "\x1b" not in demo._table_line(GOOD, coloured=False)


def test_a_terminal_without_the_character_gets_another() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    demo.Talk(stream).done("CA", "ready")
    stream.flush()
    assert stream.buffer.getvalue() == b"? CA          ready\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("called", "command"),
    [
        ("sidecar", "sidecar"),
        (".venv/bin/sidecar", ".venv/bin/sidecar"),
        ("/a b/bin/sidecar", "'/a b/bin/sidecar'"),
    ],
)
def test_next_steps_can_be_pasted(
    monkeypatch: pytest.MonkeyPatch, called: str, command: str
) -> None:
    monkeypatch.setattr("sys.argv", [called])
    steps = demo._next_steps().strip().splitlines()
    assert len(steps) == 3
    assert all(f"  {command} " in step for step in steps)


def test_as_a_module_the_command_names_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/x/sidecar/__main__.py"])
    assert demo._command().endswith(" -m sidecar")


class FakeMesh:
    def require_alive(self) -> None:
        pass


def test_json_is_one_list_with_every_field(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "play", lambda _: iter([GOOD]))
    demo._played(FakeMesh(), "json")  # type: ignore[arg-type]
    [row] = json.loads(capsys.readouterr().out)
    assert {"n", "caller", "request", "verdict", "expected", "rule", "ms"} <= set(row)


@pytest.mark.parametrize("option", ["-o yaml", "--nope"])
def test_a_wrong_option_is_a_usage_error(option: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["demo", *option.split()])
    assert caught.value.code == 2
