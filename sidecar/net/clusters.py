"""All clusters, and the one door to them: a lease for a permit.

`Clusters.lease` takes a Permit and nothing else, so a call that no rule allowed
has no way to a server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..policy.verdict import Permit, Refusal
from ..upstream.cluster import ClusterSpec
from .cluster import Cluster, Lease, Means
from .wake import Wake


class Clusters:
    """All clusters by name."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._clusters: dict[str, Cluster] = {}

    def __iter__(self) -> Iterator[Cluster]:
        return iter(self._clusters.values())

    def replace(self, specs: Iterable[ClusterSpec]) -> None:
        """Take the clusters of a new snapshot; those that stay keep all their state."""
        now = self._means.now()
        old, self._clusters = self._clusters, {}
        for spec in specs:
            cluster = old.pop(spec.name, None)
            if cluster is None:
                cluster = Cluster(spec, self._means, now)
            else:
                cluster.replace(spec, now)
            self._clusters[spec.name] = cluster
        for gone in old.values():
            gone.close()

    def lease(
        self, permit: Permit, cluster: str, wake: Wake, avoid: Sequence[str] = ()
    ) -> Lease | Refusal:
        """Lend a connection to the call that *permit* allows; at addresses not in *avoid*.

        Raises TypeError without a permit: there is no other key to an upstream.
        """
        if type(permit) is not Permit:
            raise TypeError("a lease takes a Permit and nothing else")
        return self._clusters[cluster].lease(wake, avoid, self._means.now())

    def addresses(self, cluster: str) -> tuple[str, ...]:
        """Return where calls to *cluster* go."""
        return tuple(self._clusters[cluster].endpoints)

    def judge_again(self) -> None:
        """Close the connections to servers that nobody may believe any more."""
        for cluster in self:
            cluster.judge_again()

    def sweep(self, now: float) -> None:
        """Let ejected endpoints return whose time is over."""
        for cluster in self:
            self._means.tell(cluster.spec.name, cluster.outlier.tick(now))
