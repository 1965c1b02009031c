"""What the sidecar itself wrote of a request: its access log, read back by request id."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PATIENCE: Final = 5.0

_POLL: Final = 0.01


@dataclass(frozen=True, slots=True)
class Line:
    """The fields of an access line that the demo shows; empty where the line has none."""

    verdict: str = ""
    reason: str = ""
    rule: str = ""
    at: str = ""
    detail: str = ""


class AccessLog:
    """An access log of one JSON object a line; lines are written in batches, so reading waits."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def line_of(self, request_id: str) -> Line:
        """Return the line of one request, or an empty one if none comes in time."""
        return self._wait_for("request_id", request_id)

    def line_with(self, field: str, value: str) -> Line:
        """Return the newest line whose *field* is *value*, or an empty one."""
        return self._wait_for(field, value)

    def _wait_for(self, field: str, value: str) -> Line:
        deadline = time.monotonic() + PATIENCE
        while value:
            for record in reversed(self._records()):
                if record.get(field) == value:
                    return _line(record)
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL)
        return Line()

    def _records(self) -> list[dict[str, Any]]:
        try:
            whole = self._path.read_text(errors="replace").rpartition("\n")[0]
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in whole.splitlines()]


def _line(record: dict[str, Any]) -> Line:
    fields = ("verdict", "reason", "rule", "at", "detail")
    return Line(*(str(record.get(field) or "") for field in fields))
