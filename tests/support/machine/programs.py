"""The steps of a sidecar that starts its server as a program, by the unit that is made for it."""

from __future__ import annotations

import json
from pathlib import Path

from .shell import SIDECAR, Facts, call_at, journal, must, ran, secret, shown, until
from .steps import CA, ETC, FILES, POLICY

PORT = 8445
UNIT = "sidecar-stdio@git.service"
ACCESS = ETC / "git/access.yaml"

BOOTSTRAP = f"""\
apiVersion: sidecar/v1
kind: Sidecar
metadata: {{name: git, namespace: mcp}}
spec:
  identity: {{ca: "https://ca.internal:8444"}}
  inbound:
  - listen: 0.0.0.0:{PORT}
    stdio:
      command: [python3, /opt/steps/program.py]
      inheritEnv: [GIT_TOKEN]
  documents: [./git]
"""


def a_program_is_started_behind_its_sidecar() -> Facts:
    ACCESS.parent.mkdir()
    ACCESS.write_text(POLICY.format(tools='["whoami", "makes", "orphan"]'))
    (ETC / "git.yaml").write_text(BOOTSTRAP)
    _hidden("git.token", secret("ca", "token", "mcp/git", "--ca", CA, "--dns", "127.0.0.1"))
    _hidden("git.env", "GIT_TOKEN=of the program\nOTHER=of nobody\n")
    must("systemctl", "start", UNIT)
    (ETC / "git.token").unlink()
    told = _program()
    code, said = ran(SIDECAR, "check", "-c", str(ETC / "git.yaml"), "-o", "json")
    return {
        "unit": shown(UNIT, "User"),
        "other": shown(FILES, "User"),
        "environment": told["env"],
        "uids": _uids(told["pid"]),
        "check": [code, said],
    }


def _hidden(name: str, text: str) -> None:
    path = ETC / name
    path.touch(0o600)
    path.write_text(text)


def _program() -> Facts:
    """What the program says of itself: which process it is, and what it got."""
    found = call_at(PORT, "whoami")
    if found["status"] != 200:
        raise RuntimeError(f"{found}: {journal('-u', UNIT)}")
    told: Facts = json.loads(found["text"])
    return told


def _uids(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [found] = [line.split()[1:] for line in lines if line.startswith("Uid:")]
    return found


def a_program_may_make_code_and_run_what_it_keeps() -> Facts:
    return call_at(PORT, "makes")


def a_program_goes_on_over_a_reload() -> Facts:
    before, refused = shown(UNIT), call_at(PORT, "echo", text="hello")
    pid = _program()["pid"]
    ACCESS.write_text(POLICY.format(tools='["*"]'))
    must("systemctl", "reload", UNIT)
    until(lambda: call_at(PORT, "echo", text="hello")["status"] == 200, "the new rule")
    same = _program()["pid"] == pid
    return {"before": before, "refused": refused, "after": shown(UNIT), "same program": same}


def a_program_ends_with_a_sidecar_that_is_killed() -> Facts:
    gone = _its_processes()
    must("systemctl", "kill", "--kill-whom=main", "--signal=SIGKILL", UNIT)
    until(lambda: not _living(gone), "the end of the program")
    until(lambda: shown(UNIT)["ActiveState"] == "active", "the restart")
    return {"processes": gone, "unit": shown(UNIT), "again": _program()["pid"] not in gone}


def a_program_ends_with_its_sidecar() -> Facts:
    gone = _its_processes()
    must("systemctl", "stop", UNIT)
    return {"processes": gone, "living": _living(gone), "unit": shown(UNIT)}


def _its_processes() -> list[int]:
    """The program, and one that it started and left to itself."""
    left = call_at(PORT, "orphan")["text"]
    found = [_program()["pid"], int(left)]
    if _living(found) != found:
        raise RuntimeError(f"{found} do not run")
    return found


def _living(processes: list[int]) -> list[int]:
    return [pid for pid in processes if Path(f"/proc/{pid}").exists()]
