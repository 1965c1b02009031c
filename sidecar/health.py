"""How a running sidecar is: ready or why not, and the numbers that are nobody else's.

It only looks; what it looks at is made and changed elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from typing import Final

from .admin.pages import cluster_gauges
from .net.clusters import Clusters
from .observe.family import Family, gauge
from .observe.metrics import Stat
from .reload import Reload
from .rotation import Rotation

_AS_GAUGES: Final = {
    "server.total_connections": "sidecar_connections",
    "server.config_last_reload_successful": "sidecar_config_last_reload_successful",
    "server.certificate_expiry_seconds": "sidecar_cert_expiry_timestamp_seconds",
    "server.renewals_failed": "sidecar_renewals_failed",
}


class Health:
    """Looks at *listeners*, connections (*live*), identity and reloads; *wall* is the time."""

    def __init__(
        self,
        listeners: Collection[object],
        live: Collection[object],
        clusters: Clusters,
        rotation: Rotation | None,
        reload: Reload,
        wall: Callable[[], float],
    ) -> None:
        self._listeners = listeners
        self._live = live
        self._clusters = clusters
        self._rotation = rotation
        self._reload = reload
        self._wall = wall
        self.draining = False

    def unready(self) -> str:
        """Return why nothing should be sent here, empty if all is well."""
        if self.draining:
            return "draining"
        if self._rotation is not None:
            identity = self._rotation.current
            if identity is None:
                return f"no identity yet: {self._rotation.trouble}".rstrip(": ")
            if identity.svid.not_after <= self._wall():
                return f"the certificate has expired: {self._rotation.trouble or 'renew it'}"
            revoked = self._rotation.revoked()
            if revoked:
                return f"the CA has taken this identity back: {revoked}"
            stale = self._rotation.stale()
            if stale:
                return f"too old to be believed: {stale}"
        return "" if self._listeners else "not listening"

    def line(self) -> str:
        """Return how things are, in one line for whoever asks the service manager."""
        said = [self.unready() or "ready", f"{len(self._listeners)} inbound"]
        expiry = self._expiry()
        if expiry:
            said.append(f"certificate for {max(0, round((expiry - self._wall()) / 60))} min")
        if self._reload.last_failed:
            said.append(f"the last reload was refused: {self._reload.last_failed}")
        return ", ".join(said)

    def stats(self) -> list[Stat]:
        """Return the counters of the sidecar as a whole, under Envoy's names where it has them."""
        return [
            ("server.live", 1),
            ("server.state", 1 if self.draining else 0),
            ("server.total_connections", len(self._live)),
            ("server.tasks", len(asyncio.all_tasks())),
            ("server.config_last_reload_successful", 0 if self._reload.last_failed else 1),
            ("server.certificate_expiry_seconds", self._expiry()),
            ("server.renewals_failed", self._rotation.failed if self._rotation else 0),
        ]

    def gauges(self) -> Iterator[Family]:
        """Yield what Prometheus is told of clusters and of the sidecar as a whole."""
        yield from cluster_gauges(self._clusters)
        for name, value in self.stats():
            plain = _AS_GAUGES.get(name)
            if plain is not None:
                yield gauge(plain, name).add(value)

    def _expiry(self) -> float:
        identity = self._rotation.current if self._rotation is not None else None
        return identity.svid.not_after if identity is not None else 0.0
