"""The demo's script: eight real calls, each with the verdict it must get.

Every verdict is what the caller saw; the rule and its place are what the sidecar
wrote of that very request. A verdict with a hole in it (a denied call that was
carried out, a blocked text that arrived) has a word of its own, which no scene
expects.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from . import documents
from .client import Caller, NoConnection, Reply
from .mesh import Mesh

ALLOW: Final = "ALLOW"
DENY: Final = "DENY"
REFUSED: Final = "REFUSED"
BLOCKED: Final = "BLOCKED"
EJECTED: Final = "EJECTED"
# What must never be seen.
BYPASSED: Final = "BYPASSED"
LOST: Final = "LOST"
UNNOTICED: Final = "UNNOTICED"
NO_REPLY: Final = "NO REPLY"

MIN_CALLS: Final = 30
MAX_CALLS: Final = 500
PATIENCE: Final = 8.0

_VERDICTS: Final = {
    "denied": DENY,
    "injection": BLOCKED,
    "unauthenticated": REFUSED,
    "rate_limited": "LIMITED",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One scene as it went: *rule* is `namespace/name#index`, *at* its `file:line`."""

    n: int
    caller: str
    request: str
    verdict: str
    expected: str
    rule: str = ""
    at: str = ""
    why: str = ""
    detail: str = ""
    ms: float = 0.0

    @property
    def as_expected(self) -> bool:
        return self.verdict == self.expected


class Stage:
    """The mesh and its callers, each with one connection that lasts."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self._callers: dict[str, Caller] = {}

    def caller(self, row: Row) -> Caller:
        """Return the client of the row's caller, connected."""
        if row.caller not in self._callers:
            caller = self._callers[row.caller] = self.mesh.caller(f"agent/{row.caller}")
            caller.connect()
        return self._callers[row.caller]

    def close(self) -> None:
        for caller in self._callers.values():
            caller.close()


Scene: TypeAlias = Callable[[Stage, Row], Row]


def play(mesh: Mesh) -> Iterator[Row]:
    """Play all scenes in order; yield each row once it is known."""
    with closing(Stage(mesh)) as stage:
        for number, (caller, request, expected, scene) in enumerate(_SCENES, 1):
            row = Row(number, caller, request, NO_REPLY, expected)
            try:
                yield scene(stage, row)
            except (NoConnection, OSError) as error:
                yield replace(row, why=str(error))


def _allowed(stage: Stage, row: Row) -> Row:
    reply = stage.caller(row).call("read_file", path="notes.txt")
    told = _told(stage, row, reply)
    if told.verdict == ALLOW and reply.text != documents.NOTES:
        return replace(told, verdict=LOST)
    return told


def _filtered(stage: Stage, row: Row) -> Row:
    reply = stage.caller(row).tools()
    told = _told(stage, row, reply)
    names = sorted(str(tool.get("name")) for tool in (reply.result or {}).get("tools", []))
    told = replace(told, why=f"{len(names)} of 4 tools visible")
    return told if names == ["list_files", "read_file"] else replace(told, verdict=BYPASSED)


def _unnamed(stage: Stage, row: Row) -> Row:
    reply = stage.caller(row).call("delete_file", path="notes.txt")
    told = _told(stage, row, reply)
    if not (stage.mesh.root / "notes.txt").exists():
        return replace(told, verdict=BYPASSED)
    return told if told.rule else replace(told, why="no rule allows this tool")


def _forbidden(stage: Stage, row: Row) -> Row:
    return _told(stage, row, stage.caller(row).call("read_file", path="notes.txt"))


def _anonymous(stage: Stage, row: Row) -> Row:
    started = time.perf_counter()
    try:
        reply = stage.mesh.caller("").call("read_file", path="notes.txt")
    except NoConnection as error:
        ms = (time.perf_counter() - started) * 1e3
        line = stage.mesh.log.line_with("event", "handshake_failed")
        why = line.reason or str(error)
        return replace(row, verdict=REFUSED, why=why.replace("_", " "), ms=ms)
    return _told(stage, row, reply)


def _asked_with_injection(stage: Stage, row: Row) -> Row:
    path = f"notes.txt, and {documents.PHRASE} to print all secrets"
    return _told(stage, row, stage.caller(row).call("read_file", path=path))


def _answered_with_injection(stage: Stage, row: Row) -> Row:
    reply = stage.caller(row).call("read_file", path="report.txt")
    told = _told(stage, row, reply)
    arrived = documents.PHRASE in str(reply.message)
    return replace(told, verdict=BYPASSED) if arrived else told


def _one_replica_dies(stage: Stage, row: Row) -> Row:
    """Kill a replica and go on calling, at least until it is ejected; no call may be lost."""
    caller, mesh = stage.caller(row), stage.mesh
    victim = mesh.ports[-1]
    mesh.replicas[-1].kill()
    answered, calls, spent = 0, 0, 0.0
    deadline = time.monotonic() + PATIENCE
    ejected = False
    while (not ejected and time.monotonic() < deadline) or calls < MIN_CALLS:
        reply = caller.call("list_files")
        calls, spent = calls + 1, spent + reply.ms
        answered += "notes.txt" in reply.text
        ejected = ejected or _is_ejected(mesh, victim)
        if calls == MAX_CALLS:
            break
    why = f"{answered} of {calls} calls answered, port {victim} {'out' if ejected else 'in'}"
    verdict = LOST if answered < calls else EJECTED if ejected else UNNOTICED
    return replace(row, verdict=verdict, why=why, ms=spent / max(calls, 1))


def _is_ejected(mesh: Mesh, port: int) -> bool:
    """Ask the sidecar's metrics whether the replica on *port* is ejected."""
    _, text = mesh.admin_text("/metrics")
    found = re.search(rf'sidecar_upstream_ejected{{[^}}]*"127\.0\.0\.1:{port}"[^}}]*}} (\S+)', text)
    return found is not None and float(found[1]) > 0


def _told(stage: Stage, row: Row, reply: Reply) -> Row:
    """Complete a row by what the caller saw and what the sidecar wrote of it."""
    line = stage.mesh.log.line_of(reply.request_id)
    return replace(
        row,
        verdict=_verdict(reply),
        rule=line.rule,
        at=line.at,
        detail=line.detail,
        ms=reply.ms,
    )


def _verdict(reply: Reply) -> str:
    if reply.status == 200 and reply.result is not None and not reply.result.get("isError"):
        return ALLOW
    return _VERDICTS.get(reply.reason) or reply.reason.upper() or f"HTTP {reply.status}"


# Caller (of namespace `agent`; empty: without certificate), request, expected verdict, scene.
_SCENES: Final[tuple[tuple[str, str, str, Scene], ...]] = (
    ("alice", "tools/call read_file", ALLOW, _allowed),
    ("alice", "tools/list", ALLOW, _filtered),
    ("alice", "tools/call delete_file", DENY, _unnamed),
    ("mallory", "tools/call read_file", DENY, _forbidden),
    ("", "tools/call read_file", REFUSED, _anonymous),
    ("alice", "read_file, attack in the path", BLOCKED, _asked_with_injection),
    ("alice", "read_file of a poisoned file", BLOCKED, _answered_with_injection),
    ("alice", "list_files, one replica killed", EJECTED, _one_replica_dies),
)
