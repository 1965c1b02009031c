"""What a load of the configuration gives, and which of it only a new start can change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from .config.snapshot import Snapshot
from .config.stdio import StdioSpec
from .rotation import IdentitySpec

_LIMITS_AT_START: Final = (
    "reply_head_bytes",
    "tools_in_metrics",
    "remembered_line_bytes",
    "remembered_peers",
    "remembered_request_bytes",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a load of the configuration gives: all that a running sidecar is made of."""

    snapshot: Snapshot
    identity: IdentitySpec | None
    admin: str  # where to listen; empty for the default socket
    access: str  # stdout, stderr, none or a file
    name: str
    warnings: str = ""  # as a person reads them
    programs: Mapping[str, StdioSpec] = field(default_factory=dict)  # by what stands for them


def needing_restart(old: Plan, new: Plan) -> Iterator[str]:
    """Yield what a reload cannot change."""
    if old.admin != new.admin:
        yield "admin.listen"
    if old.access != new.access:
        yield "log.access"
    for name in _LIMITS_AT_START:
        if getattr(old.snapshot.limits, name) != getattr(new.snapshot.limits, name):
            yield f"limits.{name}"
