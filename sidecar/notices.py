"""What happens beside the calls, counted and written down: handshakes, ejections, breakages.

Each is one event in the access log; what an outsider can make happen is cut short there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .observe.journal import Journal
from .observe.metrics import Metrics
from .upstream.outlier import Events

_LONGEST: Final = 200  # characters of a detail


@dataclass(frozen=True, slots=True)
class Notices:
    """Tells *journal* and *metrics* what they are told."""

    journal: Journal
    metrics: Metrics

    def shook(self) -> None:
        """A caller's handshake succeeded."""
        self.metrics.handshakes += 1

    def handshake_failed(self, peer: str, reason: str, detail: str) -> None:
        """A caller was not let in."""
        failures = self.metrics.handshake_failures
        failures[reason] = failures.get(reason, 0) + 1
        told = {"reason": reason, "peer": peer, "detail": detail[:_LONGEST]}
        self.journal.event({"event": "handshake_failed", **told})

    def server_refused(self, endpoint: str, reason: str, detail: str) -> None:
        """A server was not who is meant, or refused us."""
        failures = self.metrics.upstream_handshake_failures
        failures[reason] = failures.get(reason, 0) + 1
        told = {"reason": reason, "upstream": endpoint, "detail": detail[:_LONGEST]}
        self.journal.event({"event": "upstream_handshake_failed", **told})

    def broke(self, peer: str, why: str) -> None:
        """A caller's connection was ended for what came over it."""
        self.journal.event({"event": "connection_broken", "peer": peer, "detail": why[:_LONGEST]})

    def ejections(self, cluster: str, events: Events) -> None:
        """The outlier detection of *cluster* did something."""
        for event in events:
            told = {
                "cluster": cluster,
                "endpoint": event.address,
                "kind": event.kind.value if event.kind is not None else "",
            }
            self.journal.event({"event": f"endpoint_{event.action}", **told})
