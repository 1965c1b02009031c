"""Commands on the machine, and calls of its sidecar."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509

from sidecar.demo.client import Caller

Facts = dict[str, Any]
T = TypeVar("T")

CALLER = Path("/srv/alice")
PATIENCE = 20.0
SIDECAR = "/opt/sidecar/bin/sidecar"
_SHOWN = ("ActiveState", "SubState", "MainPID", "NRestarts", "StatusText", "Result", "UID")


def ran(*argv: str) -> tuple[int, str]:
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout


def must(*argv: str) -> str:
    code, said = ran(*argv)
    if code:
        journal = ran("journalctl", "-b", "-n", "60", "--no-pager")[1]
        raise RuntimeError(f"{argv} ended with {code}\n{said}\n{journal}")
    return said


def page_block(kind: str, start: str) -> str:
    """Return the one block of the page on services that begins with *start*."""
    page = Path("/opt/steps/page.md").read_text()
    blocks = re.findall(rf"^```{kind}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    [found] = [block for block in blocks if block.startswith(start)]
    return str(found)


def told(start: str) -> str:
    """Do what the page on services says, in the block that begins with *start*."""
    return must("bash", "-euc", page_block("bash", start))


def secret(*argv: str) -> str:
    """Run `sidecar ...`; return what it prints to stdout alone."""
    done = subprocess.run([SIDECAR, *argv], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


def shown(unit: str, *more: str) -> dict[str, str]:
    """What systemd says of *unit*."""
    names = ",".join((*_SHOWN, *more))
    lines = must("systemctl", "show", unit, f"--property={names}").splitlines()
    return dict(line.split("=", 1) for line in lines)


def until(what: Callable[[], T | None], name: str) -> T:
    deadline = time.monotonic() + PATIENCE
    while not (found := what()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{name}: {journal()}")
        time.sleep(0.05)
    return found


def journal(*more: str) -> str:
    return ran("journalctl", "-b", "-n", "400", "--no-pager", *more)[1]


def call(tool: str, **arguments: str) -> Facts:
    """Call *tool* as agent/alice through the sidecar."""
    return call_at(8443, tool, **arguments)


def call_at(port: int, tool: str, **arguments: str) -> Facts:
    """Call *tool* as agent/alice through the sidecar on *port*."""
    caller = Caller(port, CALLER / "svid_bundle.pem", CALLER)
    try:
        reply = caller.call(tool, **arguments)
        return {"status": reply.status, "text": reply.text, "reason": reply.reason}
    finally:
        caller.close()


def leaf(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "svid.pem").read_bytes())


def modes(folder: Path) -> dict[str, tuple[str, bool]]:
    """Of every file below *folder*: its mode, and whether it is root's."""
    found = [folder.resolve(), *sorted(folder.resolve().rglob("*"))]
    status = {str(path.relative_to(found[0])): path.stat() for path in found}
    return {name: (oct(one.st_mode & 0o777), one.st_uid == 0) for name, one in status.items()}
