"""The steps: a CA and a sidecar as services, what befalls them, and the machine started again.

Each step does one thing and returns what it saw; what that should be is for the tests to say.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from .shell import (
    CALLER,
    SIDECAR,
    Facts,
    call,
    journal,
    leaf,
    modes,
    must,
    page_block,
    ran,
    secret,
    shown,
    told,
    until,
)

CA = "/var/lib/sidecar-ca"
ETC = Path("/etc/sidecar")
STATE = Path("/var/lib/sidecar/files")
CERTS = STATE / "certs/mcp/files"
FILES = "sidecar@files.service"
SOCKET = "sidecar@files.socket"

SERVER = """\
[Service]
DynamicUser=yes
ExecStart=/opt/sidecar/bin/python -m sidecar.demo.server --root /srv/files --listen 127.0.0.1:9000
[Install]
WantedBy=multi-user.target
"""
POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: agents, namespace: mcp}}
spec:
  rules:
  - from: [{{source: {{namespaces: [agent]}}}}]
    when: [{{key: mcp.tool, values: {tools}}}]
"""


INSPECTION = """\
apiVersion: sidecar/v1
kind: Inspection
metadata: {name: no-tricks, namespace: mcp}
spec:
  patterns:
  - {id: tricks, text: "ignore all rules"}
  action: DENY
"""


def quick(unit: str, seconds: int) -> Path:
    """Have *unit* give signs of life more often; return the file that says so."""
    dropped = Path(f"/etc/systemd/system/{unit}.d/quick.conf")
    dropped.parent.mkdir()
    dropped.write_text(f"[Service]\nWatchdogSec={seconds}\n")
    must("systemctl", "daemon-reload")
    return dropped


def a_ca_is_made_and_started() -> Facts:
    told("ln -s")
    quick("sidecar-ca.service", 5)
    made = told("sidecar ca init")
    return {"made": made, "unit": shown("sidecar-ca.service"), "files": modes(Path(CA))}


def a_server_is_started() -> Facts:
    Path("/srv/files").mkdir(parents=True)
    Path("/srv/files/notes.txt").write_text("hello\n")
    Path("/etc/systemd/system/files-server.service").write_text(SERVER)
    must("systemctl", "enable", "--now", "files-server.service")
    return shown("files-server.service")


def a_sidecar_joins_with_a_token_and_is_started() -> Facts:
    (ETC / "policies").mkdir(parents=True)
    # By a name, so that names are looked up in the unit, too.
    Path("/etc/hosts").write_text("127.0.0.1 localhost ca.internal\n")
    bootstrap = page_block("yaml", "apiVersion").replace("127.0.0.1:8444", "ca.internal:8444")
    (ETC / "files.yaml").write_text(bootstrap)
    (ETC / "policies/access.yaml").write_text(POLICY.format(tools='["read_file"]'))
    told("umask 077")
    token = (ETC / "files.token").read_text().strip()
    told("systemctl enable --now sidecar@files.service")
    said = journal() + must("systemctl", "show", FILES)
    environment = Path(f"/proc/{shown(FILES)['MainPID']}/environ").read_text()
    return {
        "unit": shown(FILES),
        "files": modes(STATE),
        "token in the journal or the unit": token in said,
        "environment": environment,
        "token in the environment": token in environment,
        "log": must(SIDECAR, "ca", "log", "verify", "--ca", CA, "-o", "json"),
    }


def a_call_goes_through() -> Facts:
    must(SIDECAR, "issue-cert", "agent/alice", "--ca", CA, "--out", str(CALLER))
    return call("read_file", path="notes.txt")


def it_is_checked_from_outside() -> Facts:
    told("sidecar check")
    code, said = ran(SIDECAR, "check", "-c", "/etc/sidecar/files.yaml", "-o", "json")
    return {"code": code, "outcomes": json.loads(said)}


def it_is_reloaded() -> Facts:
    before, refused = shown(FILES), call("list_files")
    (ETC / "policies/access.yaml").write_text(POLICY.format(tools='["*"]'))
    told("systemctl reload")
    until(lambda: call("list_files")["status"] == 200, "the new rule")
    called = call("list_files")
    return {"before": before, "refused": refused, "called": called, "after": shown(FILES)}


def a_bad_configuration_changes_nothing() -> Facts:
    path = ETC / "policies/broken.yaml"
    path.write_text("kind: [")
    try:
        must("systemctl", "reload", FILES)
        status = until(lambda: _status("the last reload was refused"), "the refusal")
        still = call("read_file", path="notes.txt")
    finally:
        path.unlink()
    must("systemctl", "reload", FILES)
    until(lambda: "refused" not in shown(FILES)["StatusText"], "the good reload")
    return {"status": status, "call": still}


def texts_are_scanned_with_all_that_the_unit_is_denied() -> Facts:
    (ETC / "policies/inspection.yaml").write_text(INSPECTION)
    must("systemctl", "reload", FILES)
    until(lambda: _tricked()["status"] == 403, "the scan")
    return _tricked()


def _tricked() -> Facts:
    return call("read_file", path="ignore all rules.txt")


def _status(word: str) -> str:
    text = shown(FILES)["StatusText"]
    return text if word in text else ""


def a_hung_sidecar_is_killed_and_started_again() -> Facts:
    dropped = quick(FILES, 4)
    must("systemctl", "restart", FILES)
    before = shown(FILES)
    os.kill(int(before["MainPID"]), signal.SIGSTOP)
    until(lambda: int(shown(FILES)["NRestarts"]), "the watchdog")
    until(lambda: shown(FILES)["ActiveState"] == "active", "the restart")
    dropped.unlink()
    must("systemctl", "daemon-reload")
    return {
        "before": before,
        "after": shown(FILES),
        "call": call("read_file", path="notes.txt"),
        "journal": journal("-u", FILES),
        "cores": [str(path) for path in STATE.resolve().rglob("core*")],
    }


def a_bootstrap_that_cannot_be_read_is_not_tried_again() -> Facts:
    (ETC / "broken.yaml").write_text("kind: [")
    code, _ = ran("systemctl", "start", "sidecar@broken.service")
    found = shown("sidecar@broken.service", "ExecMainStatus")
    must("systemctl", "reset-failed", "sidecar@broken.service")
    return {"code": code, "unit": found}


def its_socket_brings_it_up() -> Facts:
    told("systemctl disable")
    before = shown(FILES)
    found = call("read_file", path="notes.txt")
    return {"before": before, "call": found, "after": shown(FILES), "socket": shown(SOCKET)}


def its_socket_stays_while_it_restarts() -> Facts:
    before = shown(FILES)
    must("systemctl", "--no-block", "restart", FILES)
    statuses = [call("read_file", path="notes.txt")["status"] for _ in range(20)]
    until(lambda: shown(FILES)["ActiveState"] == "active", "the restart")
    return {
        "statuses": statuses,
        "before": before,
        "after": shown(FILES),
        "leaf": leaf(CERTS).serial_number,
    }


def the_identity_is_still_good() -> Facts:
    before = shown(FILES)
    return {
        "before": before,
        "token": (ETC / "files.token").exists(),
        "call": call("read_file", path="notes.txt"),
        "after": shown(FILES),
        "leaf": leaf(CERTS).serial_number,
    }


def the_ca_still_issues() -> Facts:
    """A certificate is asked for over the network, and the log goes on where it was."""
    for path in CERTS.resolve().iterdir():
        if path.is_file():
            path.unlink()
    must("systemctl", "stop", SOCKET, FILES)
    token = ETC / "files.token"
    token.touch(0o600)
    token.write_text(secret("ca", "token", "mcp/files", "--ca", CA, "--dns", "127.0.0.1"))
    must("systemctl", "start", SOCKET)
    return {
        "call": call("read_file", path="notes.txt"),
        "leaf": leaf(CERTS).serial_number,
        "log": must(SIDECAR, "ca", "log", "verify", "--ca", CA, "-o", "json"),
    }


def nothing_has_failed() -> Facts:
    return {
        "units": must("systemctl", "--failed", "--no-legend"),
        "journal": journal(),
        "ca": shown("sidecar-ca.service"),
    }
