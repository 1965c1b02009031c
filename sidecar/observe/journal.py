"""The journal: every exchange is counted and written down, in batches.

Lines wait in a bounded list until whoever owns the file takes them. A file
that cannot be written never stops a call: lines are lost and counted.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import orjson

from ..policy.verdict import Refusal
from .metrics import Metrics, Series
from .recent import Recent
from .record import Kind, Record

_MAX_WAITING: Final = 10_000
_KINDS: Final = 256  # of records, for which most of the line is kept
_REMEMBERED: Final = 4 * 1024 * 1024  # bytes


class Journal:
    """Takes records; `take` gives the lines that wait, and `find` one of the last."""

    __slots__ = (
        *("_known", "_lines", "_moment", "_now_ms", "_recent", "_second", "_stamp", "_wall"),
        *("metrics", "writes"),
    )

    def __init__(
        self,
        metrics: Metrics,
        wall: Callable[[], float],
        *,
        writes: bool,
        remembers: int = _REMEMBERED,
    ) -> None:
        self.metrics = metrics
        self._recent = Recent(remembers)
        self.writes = writes  # whether access lines are wanted
        self._wall = wall
        self._lines: list[bytes] = []
        # By their kind: what records are counted in, and what stands between id and times.
        self._known: dict[Kind, tuple[Series, bytes]] = {}
        self._now_ms = self._second = -1
        self._moment = ""
        self._stamp = b""

    def write(self, record: Record, ended: float) -> None:
        """Count *record*, and keep its line for the log; without one, that of a refusal."""
        overhead = record.overhead(ended)
        kind = record.kind()
        known = self._known.get(kind) if kind is not None else None
        if known is not None:
            series, told = known
            series.add(overhead, ended - record.sent if record.sent else None)
        else:
            series = self.metrics.count(record, ended, overhead)
            if not self.writes and type(record.verdict) is Refusal:
                self._recent.keep(self._line(record, overhead))
        if not self.writes:
            return
        if len(self._lines) >= _MAX_WAITING:
            self.metrics.lost_lines += 1
        elif known is not None:
            self._lines.append(
                b'{"ts":"%b","request_id":"%b"%b,"overhead_ms":%.3f}\n'
                % (self._now(), record.request_id.encode(), told, overhead * 1e3)
            )
        else:
            self._lines.append(self._line(record, overhead))
            if kind is not None:
                self._learn(kind, series, record)

    def _learn(self, kind: Kind, series: Series, record: Record) -> None:
        if len(self._known) >= _KINDS:
            del self._known[next(iter(self._known))]
        line = record.line("", 0)
        for name in ("ts", "request_id", "overhead_ms"):
            del line[name]
        self._known[kind] = series, b"," + orjson.dumps(line)[1:-1]

    def _line(self, record: Record, overhead: float) -> bytes:
        line = record.line(self._now().decode(), overhead)
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)

    def event(self, fields: dict[str, object]) -> None:
        """Keep a line that is no exchange's, such as a failed handshake."""
        if len(self._lines) >= _MAX_WAITING:
            self.metrics.lost_lines += 1
            return
        self._lines.append(
            orjson.dumps({"ts": self._now().decode(), **fields}, option=orjson.OPT_APPEND_NEWLINE)
        )

    def take(self) -> bytes:
        """Return the lines that wait, and forget them."""
        lines, self._lines = self._lines, []
        batch = b"".join(lines)
        self._recent.keep(batch)
        return batch

    def find(self, request_id: str) -> bytes | None:
        """Return the line of a request by its id, while it is remembered."""
        waiting = Recent(sum(map(len, self._lines)))
        waiting.keep(b"".join(self._lines))
        return waiting.find(request_id) or self._recent.find(request_id)

    @property
    def remembered(self) -> int:
        """How many lines `find` knows."""
        return self._recent.count + len(self._lines)

    def _now(self) -> bytes:
        """Return the wall-clock time as RFC 3339 in UTC with milliseconds."""
        # Lines of one millisecond share their stamp.
        now = int(self._wall() * 1000)
        if now != self._now_ms:
            self._now_ms = now
            second, ms = divmod(now, 1000)
            if second != self._second:
                self._second = second
                self._moment = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._stamp = f"{self._moment}.{ms:03d}Z".encode()
        return self._stamp
